"""The suites by name, and the lines of one for a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmtl_ir.base.errors import UserError, suggestion
from cmtl_ir.suites import composites, mixed, own, severity, unseen
from cmtl_ir.suites.line import Line
from cmtl_ir.tasks.config import TaskConfig


@dataclass(frozen=True)
class Suite:
    """A shipped suite."""

    lines: Callable[[Mapping[str, TaskConfig], Mapping[str, TaskConfig]], list[Line]]
    """(trained tasks, other tasks of the experiment) -> lines."""
    about: str
    """What its table must say."""


SUITES: dict[str, Suite] = {
    severity.NAME: Suite(
        lambda trained, _: severity.lines(trained), "the five severities of each trained degradation; its other fields "
        "are at their defaults. inside, below and beyond are computed from the tasks of the run"
    ),
    unseen.NAME: Suite(unseen.lines, unseen.CLIPPING),
    composites.COMPOSITES: Suite(
        lambda trained, _: composites.composite_lines(trained), "several trained degradations in one image, in the "
        "order that each line names"
    ),
    composites.ORDERS: Suite(
        lambda trained, _: composites.order_lines(trained), "pairs of trained degradations in both orders, and in a "
        "random order of each image"
    ),
    mixed.NAME: Suite(lambda trained, _: mixed.lines(trained), mixed.ORDER),
    composites.CDD11: Suite(
        lambda trained, _: composites.cdd11_lines(trained), "a synthetic twin of CDD-11 (OneRestore): its kinds "
        "and its order low, rain, snow, haze. Its numbers are not those of the published images"
    ),
}  # fmt: skip
"""Name -> suite."""


def suite_name(given: str) -> str:
    """Return the name of a suite in tables: that of a shipped one, or of a file without its ending.

    Raise UserError for an unknown name, and for a file with the name of a shipped suite.
    """
    path = Path(given).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        if given not in SUITES:
            raise UserError(f"no suite {given!r}: {suggestion(given, list(SUITES))} (or give a path ending in .yaml)")
        return given
    if not path.is_file():
        raise UserError(f"suite {given}: no such file; give the path of one, or a name: {', '.join(SUITES)}")
    if path.stem in SUITES:
        raise UserError(f"suite {given}: {path.stem} is the name of a shipped suite; rename the file")
    return path.stem


def check(names: Sequence[str]) -> None:
    """Raise UserError if one of the suites that an experiment names does not exist."""
    for name in names:
        suite_name(name)


def lines_of(given: str, trained: Mapping[str, TaskConfig], others: Mapping[str, TaskConfig]) -> list[Line]:
    """Return the lines of a suite, by name or file, for a run. Raise UserError if the run's tasks give none."""
    name = suite_name(given)
    if name not in SUITES:
        return own.lines(Path(given).expanduser(), trained)
    lines = SUITES[name].lines(trained, others)
    if not lines:
        raise UserError(
            f"suite {name}: nothing to test with the tasks {', '.join(trained)}; it needs tasks with a degradation "
            "(tasks of pairs have no levels), and composites need two of them"
        )
    return lines
