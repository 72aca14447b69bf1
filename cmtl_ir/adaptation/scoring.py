"""Scores of adapters on test sets, one row per image and adapter, and their summary.

A row has the columns of `Evaluator.scores`, with the adapter and its kind, the order, and what the answer took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from cmtl_ir.adaptation.rounds import Given, Session, answers
from cmtl_ir.adaptation.subject import Subject
from cmtl_ir.base.errors import UserError
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.scale import Scale
from cmtl_ir.strategy.adaptation import KINDS, Adapter
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.tasks.task import Task

ORDERS = 3
"""Keyed orders of a folder that an online adapter is scored in."""
NONE = "none"


def adapted_scores(
    evaluator: Evaluator, subject: Subject, adapters: Mapping[str, Adapter], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return one row per image, adapter and order. A task is a folder: weights never go on from one to the next.

    Raises UserError before anything is scored if an adapter was tuned on a task that is scored.
    """
    for label, adapter in adapters.items():
        _check_tuning(label, adapter, evaluator.tasks)
    trained = subject.origin.degradations
    rows = []
    for task, group in groupby(evaluator.samples(), key=lambda entry: entry[0]):
        samples = [(sample, identity) for _, sample, identity in group]
        like_training = {
            sample.variant: _as_in_training(evaluator.tasks[task], sample.variant, trained.get(task), task in trained)
            for sample, _ in samples
        }
        given = [Given(sample.image, sample.degraded, task) for sample, _ in samples]
        for label, adapter in adapters.items():
            session = Session(adapter, subject, say)
            for answer in answers(session, given, ORDERS):
                sample, identity = samples[answer.place]
                measured = {
                    key: float(value) for key, value in evaluator.measure(answer.restored, sample.clean).items()
                }
                took = {name: getattr(answer, name) for name in ("order", "seconds", "steps", "drift", "moved")}
                rows.append({
                    "adapter": label, "kind": KINDS[adapter.reads], "task": task, "variant": sample.variant,
                    "image": sample.image, "as_in_training": like_training[sample.variant],
                    **measured, **identity, **took,
                })  # fmt: skip
    return rows


def _check_tuning(label: str, adapter: Adapter, tasks: Mapping[str, Task]) -> None:
    for name, task in tasks.items():
        if adapter.tuned_on in (name, getattr(task.degradation, "called", name)):
            raise UserError(
                f"--adapt {label}: was tuned on {adapter.tuned_on}, which is scored; leave it out with "
                f"--set tasks.{name}=null"
            )


def _as_in_training(task: Task, variant: str, trained: Degradation | None, known: bool) -> bool:
    """Return whether a test setting is one of those that the network was trained on."""
    if task.degradation is None or trained is None:
        return known and task.degradation is trained
    settings = trained.variants().values()
    tested = task.degradation.variants()[variant]
    return any(type(one) is type(tested) and one.model_dump() == tested.model_dump() for one in settings)


@dataclass(frozen=True)
class Line:
    """The summary of an adapter on the images of one task under settings of one kind."""

    kind: str
    as_in_training: bool
    task: str
    adapter: str
    images: int
    score: float
    spread: tuple[float, float]
    """Smallest and largest mean over the orders; both the score where there is one order."""
    over_input: float
    """Mean gain over the degraded image; positive is better."""
    over_none: float
    """Mean gain over the network without adaptation; positive is better."""
    harmed: float
    """Share of the answers that are worse than without adaptation."""
    seconds: float
    steps: float
    drift: float
    """Largest |w - w0| / |w0|."""
    moved: float
    """Largest share of the parameters that differ from their trained values."""


def summary(rows: Sequence[dict[str, Any]], scale: Scale) -> list[Line]:
    """Return the lines of all tables by kind, then settings as in training before others, then task.

    `none` and `self_ensemble` are episodic, and stand in the table of every kind.
    """
    kinds = [kind for kind in KINDS.values() if any(row["kind"] == kind for row in rows)]
    blocks = sorted({row["as_in_training"] for row in rows}, reverse=True)
    labels, tasks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("adapter", "task"))
    controls = labels[:2]
    found = []
    for kind in kinds:
        shown = [label for label in labels if label in controls or _kind_of(label, rows) == kind]
        if kind != "episodic" or len(shown) > len(controls) or len(kinds) == 1:
            found += list(_lines(rows, scale, kind, blocks, tasks, shown))
    return found


def _kind_of(label: str, rows: Sequence[dict[str, Any]]) -> str:
    return str(next(row["kind"] for row in rows if row["adapter"] == label))


def _lines(
    rows: Sequence[dict[str, Any]], scale: Scale, kind: str, blocks: Sequence[bool], tasks: Sequence[str],
    labels: Sequence[str],
) -> Iterator[Line]:  # fmt: skip
    for block in blocks:
        for task in tasks:
            here = [row for row in rows if row["task"] == task and row["as_in_training"] is block]
            plain = {_image(row): row[scale.name] for row in here if row["adapter"] == NONE}
            for label in labels if here else ():
                own = [row for row in here if row["adapter"] == label]
                yield _line(kind, block, task, label, own, plain, scale)


def _image(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["variant"], row["image"]


def _line(
    kind: str, block: bool, task: str, label: str, own: Sequence[dict[str, Any]],
    plain: Mapping[tuple[str, str], float], scale: Scale,
) -> Line:  # fmt: skip
    gains = [scale.sign * (row[scale.name] - plain[_image(row)]) for row in own]
    inputs = [scale.sign * (row[scale.name] - row[f"{scale.name}_input"]) for row in own]
    orders = [fmean(row[scale.name] for row in own if row["order"] == one) for one in {row["order"] for row in own}]
    mean = {name: fmean(row[name] for row in own) for name in (scale.name, "seconds", "steps")}
    return Line(
        kind, block, task, label, len({_image(row) for row in own}), mean[scale.name], (min(orders), max(orders)),
        fmean(inputs), fmean(gains), sum(not gain >= 0 for gain in gains) / len(gains), mean["seconds"], mean["steps"],
        max(row["drift"] for row in own), max(row["moved"] for row in own),
    )  # fmt: skip
