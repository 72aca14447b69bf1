"""Stages of strategies in figures over steps: which seeds share them, and their names along the axis."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from cmtl_ir.base.escaping import one_line

from ..data.study import Study

ROWS = 12
"""Maximum number of lines in a panel of stages. More of them could not be read."""
LETTER = 0.055
"""Width of a letter of a stage's name in inches."""


@dataclass(frozen=True)
class Schedule:
    """Stages of some seeds of a strategy. `ends`: (step, name) of every stage."""

    label: str
    seeds: tuple[int, ...]
    ends: tuple[tuple[int, str], ...]
    is_only: bool
    """Whether all seeds of the strategy have these stages."""

    @property
    def title(self) -> str:
        """Label, with its seeds if other seeds have other stages."""
        return self.label if self.is_only else f"{self.label}, seed {', '.join(map(str, self.seeds))}"


def schedules(study: Study) -> list[Schedule]:
    """Return the schedules of all strategies, in their order. The order of stages may differ between seeds."""
    frame, found = study.frames.matrices, []
    for label in study.labels:
        seeds_of: dict[tuple[tuple[int, str], ...], list[int]] = {}
        for seed, own in frame[frame["label"] == label].drop_duplicates(["seed", "stage"]).groupby("seed"):
            own = own.sort_values("stage")
            ends = tuple(zip(own["step"].tolist(), own["stage_name"].tolist(), strict=True))
            seeds_of.setdefault(ends, []).append(int(str(seed)))
        found += [Schedule(label, tuple(seeds), ends, len(seeds_of) == 1) for ends, seeds in seeds_of.items()]
    return found


def by_stages(staged: list[Schedule]) -> dict[tuple[tuple[int, str], ...], list[str]]:
    """Return stages -> titles of the schedules that have them, without schedules of a single stage."""
    found: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for one in staged:
        if len(one.ends) > 1:
            found.setdefault(one.ends, []).append(one.title)
    return found


def boundaries(staged: list[Schedule]) -> list[int]:
    """Return the steps at which at least one strategy changes stage, each once, without the ends of runs."""
    return sorted({step for one in staged for step, _ in one.ends[:-1]})


def draw(axis: Any, staged: list[Schedule], inches: float) -> None:
    """Draw one line per schedule along the steps, with the name of each stage in it. `inches`: width of the panel.

    If a name does not fit, all stages are numbered, and the numbers are explained below the panel.
    """
    found = list(by_stages(staged).items())
    lines = found[:ROWS]
    last = max(ends[-1][0] for ends, _ in lines)
    font = min(7.0, 90 / len(lines))
    begins = [[0, *(step for step, _ in ends[:-1])] for ends, _ in lines]
    names = list(dict.fromkeys(name for ends, _ in lines for _, name in ends))
    per_letter = LETTER * font / 7 * last / inches
    fit = all(
        len(name) * per_letter < step - begin
        for (ends, _), own in zip(lines, begins, strict=True)
        for begin, (step, name) in zip(own, ends, strict=True)
    )
    for row, ((ends, titles), own) in enumerate(zip(lines, begins, strict=True)):
        for place, (begin, (step, name)) in enumerate(zip(own, ends, strict=True)):
            axis.barh(row + 0.2, step - begin, 0.5, left=begin, color=("0.93", "0.8")[place % 2])
            shown = one_line(name) if fit else str(names.index(name) + 1)
            axis.text((begin + step) / 2, row + 0.2, shown, ha="center", va="center", fontsize=font)
        several = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        axis.text(0, row - 0.08, f"{one_line(titles[0])}{several}", va="bottom", fontsize=font, color="0.25")
    shown = f"stages ({ROWS} of {len(found)} orders)" if len(found) > ROWS else "stages"
    axis.set(title=shown, xlabel="step", xlim=(0, last), ylim=(max(len(lines), 4) - 0.4, -0.6), yticks=[])
    axis.spines["left"].set_visible(False)
    if not fit:
        key = ", ".join(f"{number}\u00a0{one_line(name)}" for number, name in enumerate(names, 1))
        axis.annotate(
            textwrap.fill(key, int(inches / LETTER)), (0, -0.2), xycoords="axes fraction", va="top", fontsize=6
        )
