"""What learning one task did to the others: accuracy, transfer, forgetting, distance to references.

Everything starts from the matrix R: R[i, j] is the score of task j after stage i, NaN where it was not measured.
One convention of sign: `forgetting_*` and `intransigence` > 0 are bad, everything called transfer or gain > 0 is good,
for PSNR and for LPIPS alike, because differences are taken on `metric.sign * R`. Published codes disagree (GEM divides
BWT by T, mammoth clamps forgetting at 0, Delta-m exists with both signs): copy no number without its formula.
A mean over tasks is NaN as soon as one term is: a mean over those that happened to be measured is another quantity.
Legend of shapes: S stages, T tasks, E evaluations, N images. No function writes into its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmtl_ir.measures.scale import PSNR, Scale

if TYPE_CHECKING:  # imports torch
    from cmtl_ir.strategy.data import Stage

Array = NDArray[np.float64]
NEVER = -1
"""The own stage of a task that no stage trained."""


@dataclass(frozen=True, eq=False)
class StageScores:
    """The matrix R with what is needed to read it."""

    scores: Array
    """[S, T]; NaN where not measured. The last row is the finished run."""
    tasks: tuple[str, ...]
    """[T] names."""
    own_stage: tuple[int, ...]
    """[T] the stage that FIRST trained each task (stages are not tasks in a cumulative curriculum), or NEVER."""
    metric: Scale

    def __post_init__(self) -> None:
        scores = np.array(self.scores, dtype=np.float64)  # a copy: the caller's matrix may still be growing
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)
        if scores.ndim != 2 or len(scores) == 0 or not scores.shape[1] == len(self.tasks) == len(self.own_stage):
            raise ValueError(f"R {scores.shape} needs one column a task: {self.tasks}, own stages {self.own_stage}")
        if not all(NEVER <= stage < len(scores) for stage in self.own_stage):
            raise ValueError(f"own stages {self.own_stage} do not lie in 0 .. {len(scores) - 1} (or {NEVER}: never)")

    @property
    def final(self) -> Array:
        """[T] scores of the finished run."""
        return self.scores[-1]

    @property
    def own(self) -> Array:
        """[T] the diagonal: each task's score after the stage that first trained it; NaN where none did."""
        picked = self.scores[list(self.own_stage), np.arange(len(self.tasks))]
        return np.where(np.array(self.own_stage) == NEVER, np.nan, picked)

    @property
    def earlier(self) -> NDArray[np.bool_]:
        """[T] True for tasks first trained before the last stage: those that can have been forgotten."""
        own = np.array(self.own_stage)
        return (own != NEVER) & (own < len(self.scores) - 1)


def average(results: StageScores) -> float:
    """ACC = mean_j R[last, j], in the metric's unit (Lopez-Paz and Ranzato, NeurIPS 2017, Sec. 2)."""
    return _mean(results.final)


def backward_transfer(results: StageScores) -> float:
    """BWT = mean over earlier tasks of R[last, j] - R[own_j, j] (Lopez-Paz and Ranzato 2017); > 0 is good.

    Divides by the number of tasks learnt before the last stage (T - 1 where each stage brings one task), not by T
    as GEM's code does. NaN where no task is that old: a joint run has no backward transfer.
    """
    return _mean(gain(results.final, results.own, results.metric)[results.earlier])


def forward_transfer(results: StageScores, identity: ArrayLike) -> float:
    """FWT = mean over tasks with an earlier stage of R[own_j - 1, j] - b_j (Lopez-Paz and Ranzato 2017).

    b_j is `identity` [T], what leaving the image alone scores; the paper takes a random network. > 0 is good.
    """
    later = [(j, stage) for j, stage in enumerate(results.own_stage) if stage >= 1]
    before = np.array([results.scores[stage - 1, j] for j, stage in later])
    return _mean(gain(before, _tasks(identity, results)[[j for j, _ in later]], results.metric))


def forgetting_db(results: StageScores) -> Array:
    """[T] max_{l < last} R[l, j] - R[last, j] (Chaudhry et al., ECCV 2018, Sec. 3); > 0 is bad, < 0 is possible.

    In the metric's unit, dB for PSNR. NaN for the tasks of the last stage and for tasks that no stage trained.
    """
    return forgetting_curve(results.scores, results.metric, results.own_stage)[-1]


def mean_forgetting_db(results: StageScores) -> float:
    """Mean of `forgetting_db` over the tasks learnt before the last stage; NaN where there is none."""
    return _mean(forgetting_db(results)[results.earlier])


def intransigence(results: StageScores, single: ArrayLike) -> Array:
    """[T] R*_j - R[own_j, j] > 0: the run could not learn what the single-task run did; R* = `single` [T].

    Chaudhry et al. 2018 take as R* a joint run on tasks <= j; this field takes the single-task run.
    """
    return gain(_tasks(single, results), results.own, results.metric)


def forgetting_curve(scores: ArrayLike, metric: Scale, first_trained: Sequence[int] | None = None) -> Array:
    """[E, T] best score before evaluation t minus the score at t, per task; > 0 is bad; the first row is NaN.

    `scores` [E, T] is R over evaluations instead of stages; "best before" skips what was not measured. With
    `first_trained` [T] (the first evaluation after each task's training began) earlier entries are NaN: what was
    never learnt cannot be forgotten.
    """
    quality = metric.sign * np.asarray(scores, dtype=np.float64)
    best = np.fmax.accumulate(quality, axis=0)
    curve = np.full_like(quality, np.nan)
    curve[1:] = best[:-1] - quality[1:]
    if first_trained is not None:
        first = np.array(first_trained)
        curve[(first == NEVER) | (np.arange(len(quality))[:, None] <= first)] = np.nan
    return curve


def forgotten_now(
    curve: Sequence[Mapping[str, Any]], stages: Sequence[Stage], metric: Scale = PSNR
) -> dict[str, float]:
    """Task -> `forgetting_curve` at the newest point of a run's evaluations, for the tasks that have one.

    `stages`: the finished stages and the one at hand.
    """
    tasks = tuple(curve[-1][metric.name])
    ends = [place for place, point in enumerate(curve) if point["stage_end"] is not None]
    first = [NEVER if own == NEVER else ends[own - 1] + 1 if own else 0 for own in own_stages(stages, tasks)]
    last = forgetting_curve(_matrix(curve, tasks, metric), metric, first)[-1]
    return {task: float(value) for task, value in zip(tasks, last, strict=True) if np.isfinite(value)}


def own_stages(stages: Sequence[Stage], tasks: Sequence[str]) -> tuple[int, ...]:
    """[T] number of the stage that first trained each task, or NEVER."""
    trained = [{row.rpartition(":")[2] for row, share in stage.mixture.items() if share > 0} for stage in stages]
    return tuple(next((i for i, names in enumerate(trained) if task in names), NEVER) for task in tasks)


def _matrix(curve: Sequence[Mapping[str, Any]], tasks: Sequence[str], metric: Scale) -> Array:
    """[E, T] scores at the points of a curve; NaN where not measured."""
    return np.array([[point.get(metric.name, {}).get(task, np.nan) for task in tasks] for point in curve])


def summary(curve: Sequence[Mapping[str, Any]], stages: Sequence[Stage], metric: Scale = PSNR) -> dict[str, Any]:
    """R and what follows from it alone, for JSON (null where not measured).

    `curve`: a run's evaluations, whose points with a `stage_end` are the rows of R; `stages`: its finished stages, in
    order, whose rows say which stage first trained which task.
    """
    points = [point for point in curve if point["stage_end"] is not None]
    tasks = tuple(points[-1][metric.name])
    scores, own = _matrix(points, tasks, metric), own_stages(stages, tasks)
    results = StageScores(scores, tasks, own, metric)
    return {
        "metric": metric.name,
        "own_stage": dict(zip(tasks, own, strict=True)),
        "scores": {task: [_json(score) for score in scores[:, i]] for i, task in enumerate(tasks)},
        "forgetting_db": {task: _json(score) for task, score in zip(tasks, forgetting_db(results), strict=True)},
        "mean_forgetting_db": _json(mean_forgetting_db(results)),
        "average": _json(average(results)),
        "backward_transfer": _json(backward_transfer(results)),
    }


def delta_db(scores: ArrayLike, single: ArrayLike, metric: Scale) -> float:
    """mean_k(score_k - single_k), > 0 is good: the primary figure, in dB for PSNR. Both [T]."""
    return _mean(gain(scores, single, metric))


def delta_m_gain_percent(scores: ArrayLike, single: ArrayLike, metric: Scale) -> float:
    """Delta-m = 100 mean_k (score_k - single_k) / |single_k|, > 0 is GOOD (Maninis et al., CVPR 2019).

    CAGrad and its successors print the negative, "lower is better". A percentage of a logarithm means little:
    `delta_db` is the primary figure.
    """
    return 100.0 * _mean(gain(scores, single, metric) / np.abs(np.asarray(single)))


def gain(scores: ArrayLike, reference: ArrayLike, metric: Scale) -> Array:
    """How much better than the reference, elementwise; > 0 is good. Against the identity: "gain over identity"."""
    return metric.sign * (np.asarray(scores, dtype=np.float64) - np.asarray(reference, dtype=np.float64))


def harm_rate(scores: ArrayLike, identity: ArrayLike, metric: Scale) -> float:
    """Share of images [N] that restoring made worse than leaving them alone; NaN as soon as one is not measured."""
    gains = gain(scores, identity, metric)
    return _mean(np.where(np.isnan(gains), np.nan, gains < 0))


def worst_task(results: StageScores) -> tuple[str, float]:
    """Name and score of the task that ends worst (the first of equals), which a mean hides; NaN counts as worst."""
    quality = results.metric.sign * results.final
    index = int(np.argmin(np.where(np.isnan(quality), -np.inf, quality)))
    return results.tasks[index], float(results.final[index])


def _tasks(values: ArrayLike, results: StageScores) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(results.tasks),):
        raise ValueError(f"expected one value for each of {results.tasks}, got shape {array.shape}")
    return array


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _json(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
