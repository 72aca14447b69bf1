"""Continual-learning measures: accuracy, transfer, forgetting, and differences to references.

All measures start from the matrix R: R[i, j] is the score of task j after stage i, NaN if it was not measured.
There is one sign convention. `forgetting_*` and `intransigence` > 0 are bad, and everything called transfer or
gain > 0 is good, for PSNR and for LPIPS alike, because differences are taken on `metric.sign * R`. Published codes
disagree (GEM divides BWT by T, mammoth clamps forgetting at 0, Delta-m exists with both signs), so never copy a
number without its formula. A mean over tasks is NaN if one term is NaN, because a mean over the measured tasks alone
is another quantity.
Shapes: S stages, T tasks, E evaluations, N images. No function writes into its arguments.
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
"""Own stage of a task that no stage trained."""


@dataclass(frozen=True, eq=False)
class StageScores:
    """The matrix R with its tasks, their own stages and its metric."""

    scores: Array
    """R [S, T], NaN for scores that were not measured. The last row is that of the finished run."""
    tasks: tuple[str, ...]
    """Names of the tasks, [T]."""
    own_stage: tuple[int, ...]
    """Stage that first trained each task, [T], or NEVER. In a cumulative curriculum, stages are not tasks."""
    metric: Scale

    def __post_init__(self) -> None:
        scores = np.array(self.scores, dtype=np.float64)  # a copy: the caller's matrix may still be growing
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)
        if scores.ndim != 2 or len(scores) == 0 or not scores.shape[1] == len(self.tasks) == len(self.own_stage):
            raise ValueError(f"R {scores.shape} needs one column per task: {self.tasks}, own stages {self.own_stage}")
        if not all(NEVER <= stage < len(scores) for stage in self.own_stage):
            raise ValueError(f"own stages {self.own_stage} are not in 0 .. {len(scores) - 1} (or {NEVER}: never)")

    @property
    def final(self) -> Array:
        """Scores of the finished run, [T]."""
        return self.scores[-1]

    @property
    def own(self) -> Array:
        """The diagonal of R, [T]: each task's score after the stage that first trained it. NaN if no stage did."""
        picked = self.scores[list(self.own_stage), np.arange(len(self.tasks))]
        return np.where(np.array(self.own_stage) == NEVER, np.nan, picked)

    @property
    def earlier(self) -> NDArray[np.bool_]:
        """Whether a task was first trained before the last stage and can have been forgotten, [T]."""
        own = np.array(self.own_stage)
        return (own != NEVER) & (own < len(self.scores) - 1)


def average(results: StageScores) -> float:
    """Return ACC = mean_j R[last, j] in the metric's unit (Lopez-Paz and Ranzato, NeurIPS 2017, Sec. 2)."""
    return _mean(results.final)


def backward_transfer(results: StageScores) -> float:
    """Return BWT = mean over earlier tasks of R[last, j] - R[own_j, j] (Lopez-Paz and Ranzato 2017). > 0 is good.

    It divides by the number of tasks learnt before the last stage (T - 1 if each stage adds one task), not by T as
    GEM's code does. NaN if there is no such task: a joint run has no backward transfer.
    """
    return _mean(gain(results.final, results.own, results.metric)[results.earlier])


def forward_transfer(results: StageScores, identity: ArrayLike) -> float:
    """Return FWT = mean over tasks with an earlier stage of R[own_j - 1, j] - b_j (Lopez-Paz and Ranzato 2017).

    b_j is `identity` [T], the score of the unchanged input. The paper takes a random network. > 0 is good.
    """
    later = [(j, stage) for j, stage in enumerate(results.own_stage) if stage >= 1]
    before = np.array([results.scores[stage - 1, j] for j, stage in later])
    return _mean(gain(before, _tasks(identity, results)[[j for j, _ in later]], results.metric))


def forgetting_db(results: StageScores) -> Array:
    """Return max_{l < last} R[l, j] - R[last, j], [T] (Chaudhry et al., ECCV 2018, Sec. 3). > 0 is bad, < 0 possible.

    It is in the metric's unit, dB for PSNR. NaN for the tasks of the last stage and for tasks that no stage trained.
    """
    return forgetting_curve(results.scores, results.metric, results.own_stage)[-1]


def mean_forgetting_db(results: StageScores) -> float:
    """Return the mean of `forgetting_db` over the tasks learnt before the last stage. NaN if there is no such task."""
    return _mean(forgetting_db(results)[results.earlier])


def intransigence(results: StageScores, single: ArrayLike) -> Array:
    """Return R*_j - R[own_j, j], [T], with R* = `single` [T]. > 0: the run learnt less than the single-task run.

    Chaudhry et al. 2018 take as R* a joint run on tasks <= j. Image restoration takes the single-task run.
    """
    return gain(_tasks(single, results), results.own, results.metric)


def forgetting_curve(scores: ArrayLike, metric: Scale, first_trained: Sequence[int] | None = None) -> Array:
    """Return the best score before evaluation t minus the score at t, [E, T]. > 0 is bad, and the first row is NaN.

    `scores` [E, T] is R over evaluations instead of stages. The best score skips evaluations that were not measured.
    `first_trained` [T] is the first evaluation after each task's training began. Earlier entries are NaN, because a
    task that was never learnt cannot be forgotten. `None` keeps all entries.
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
    """Return task -> `forgetting_curve` at the latest evaluation of a run, for the tasks that have a value.

    `stages`: the finished stages and the current one.
    """
    tasks = tuple(curve[-1][metric.name])
    ends = [place for place, point in enumerate(curve) if point["stage_end"] is not None]
    first = [NEVER if own == NEVER else ends[own - 1] + 1 if own else 0 for own in own_stages(stages, tasks)]
    last = forgetting_curve(_matrix(curve, tasks, metric), metric, first)[-1]
    return {task: float(value) for task, value in zip(tasks, last, strict=True) if np.isfinite(value)}


def own_stages(stages: Sequence[Stage], tasks: Sequence[str]) -> tuple[int, ...]:
    """Return the number of the stage that first trained each task, [T], or NEVER."""
    trained = [{row.rpartition(":")[2] for row, share in stage.mixture.items() if share > 0} for stage in stages]
    return tuple(next((i for i, names in enumerate(trained) if task in names), NEVER) for task in tasks)


def _matrix(curve: Sequence[Mapping[str, Any]], tasks: Sequence[str], metric: Scale) -> Array:
    """Return the scores at the points of a curve, [E, T]. NaN if not measured."""
    return np.array([[point.get(metric.name, {}).get(task, np.nan) for task in tasks] for point in curve])


def summary(curve: Sequence[Mapping[str, Any]], stages: Sequence[Stage], metric: Scale = PSNR) -> dict[str, Any]:
    """Return R and the measures that follow from it alone, for JSON (null if not measured).

    `curve`: evaluations of a run, whose points with a `stage_end` are the rows of R. `stages`: its finished stages in
    order, whose rows determine which stage first trained which task.
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
    """Return mean_k(score_k - single_k), the primary figure, in dB for PSNR. > 0 is good. Both arguments are [T]."""
    return _mean(gain(scores, single, metric))


def delta_m_gain_percent(scores: ArrayLike, single: ArrayLike, metric: Scale) -> float:
    """Return Delta-m = 100 mean_k (score_k - single_k) / |single_k| (Maninis et al., CVPR 2019). > 0 is good.

    CAGrad and its successors print the negative, "lower is better". A percentage of a logarithm means little, so
    `delta_db` is the primary figure.
    """
    return 100.0 * _mean(gain(scores, single, metric) / np.abs(np.asarray(single)))


def gain(scores: ArrayLike, reference: ArrayLike, metric: Scale) -> Array:
    """Return how much better the scores are than a reference, elementwise. > 0 is good."""
    return metric.sign * (np.asarray(scores, dtype=np.float64) - np.asarray(reference, dtype=np.float64))


def harm_rate(scores: ArrayLike, identity: ArrayLike, metric: Scale) -> float:
    """Return the share of images [N] that restoring made worse than the input. NaN if an image was not measured."""
    gains = gain(scores, identity, metric)
    return _mean(np.where(np.isnan(gains), np.nan, gains < 0))


def worst_task(results: StageScores) -> tuple[str, float]:
    """Return name and score of the worst task at the end, the first of equals. NaN counts as worst."""
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
