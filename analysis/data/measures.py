"""Scores and continual-learning measures of each run, and their intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cmtl_ir.measures import continual
from cmtl_ir.measures.continual import StageScores
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Interval, seed_interval

from .columns import RUN
from .fairness import competitors, single_runs
from .frames import Frames

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "average": "mean",
    "worst_task": "worst task",
    "gain": "gain over input",
    "harm_rate": "harm rate",
    "forgetting": "forgetting",
    "backward_transfer": "BWT",
    "forward_transfer": "FWT",
    "intransigence": "intransigence",
    "delta_db": "Δ single-task",
    "delta_m_gain": "Δm gain %",
}
"""Measure -> heading."""


def meaning(measure: str, scale: Scale) -> str:
    """Describe a measure of a metric. For any direction of the metric, gains > 0 are good and forgetting > 0 is bad."""
    name, unit = scale.label, f", in {scale.unit}" if scale.unit else ""
    final, own, single = f"final {name}", f"{name} after the stage that first trained the task", "the single-task run"
    against_input = scale.better(final, f"{name} of the degraded input")
    against_single = scale.better(final, f"{name} of {single}")
    return {
        "average": f"mean over tasks of the final {scale.title}",
        "worst_task": f"{scale.worst} final {name} of any task{unit}",
        "gain": f"mean over tasks of {against_input}{unit}; > 0 is good",
        "harm_rate": "share of test images that restoring made worse; lower is better",
        "forgetting": f"{scale.better(f'best {name} after an earlier stage', f'the {final}')}, mean over tasks learnt "
        f"before the last stage{unit}; > 0 is bad",
        "backward_transfer": f"{scale.better(final, own)}, mean over tasks learnt before the last stage{unit}; > 0 is "
        "good",
        "forward_transfer": f"{scale.better(f'{name} before a task was first trained', 'that of the degraded input')}, "
        f"mean over tasks with an earlier stage{unit}; > 0 is good",
        "intransigence": f"{scale.better(f'{name} of {single}', own)}, mean over tasks{unit}; > 0 is bad",
        "delta_db": f"{against_single}, mean over tasks{unit}; > 0 is good",
        "delta_m_gain": f"that difference in % of the {name} of {single}, mean over tasks; > 0 is good (many papers "
        "print its negative)",
    }[measure]


def scores(frames: Frames) -> pd.DataFrame:
    """Return a frame of run, label, seed, task, METRIC ..., METRIC_input ...: means over the test images of a task."""
    columns = [f"{scale.name}{suffix}" for suffix in ("", "_input") for scale in frames.scales]
    return frames.images.groupby([*RUN, "task"], sort=False)[columns].mean().reset_index()


def of_runs(frames: Frames, scale: Scale = PSNR) -> pd.DataFrame:
    """Return a frame with one row per finished run: run, label, seed and one column per measure.

    A measure that does not apply or whose reference is missing is NaN.
    """
    import pandas as pd

    runs = frames.matrices.groupby(["label", "seed"], sort=False)
    rows = [_of_run(frames, str(label), int(str(seed)), frame, scale) for (label, seed), frame in runs]
    return pd.DataFrame(rows, columns=[*RUN, *MEASURES])


def _of_run(frames: Frames, label: str, seed: int, matrix: pd.DataFrame, scale: Scale) -> dict[str, Any]:
    tasks, name = [task for task in frames.tasks if task in set(matrix["task"])], scale.name
    table = matrix.pivot_table(index="stage", columns="task", values=name, dropna=False)[tasks]
    own = matrix.drop_duplicates("task").set_index("task")["own_stage"]
    results = StageScores(table.to_numpy(), tuple(tasks), tuple(int(own[task]) for task in tasks), scale)
    images = frames.images[(frames.images["label"] == label) & (frames.images["seed"] == seed)]
    identity = images.groupby("task")[f"{name}_input"].mean()[tasks].to_numpy()
    single = np.array([_single(frames, task, seed, name) for task in tasks])
    return {
        "run": matrix["run"].iloc[0], "label": label, "seed": seed,
        "average": continual.average(results),
        "worst_task": continual.worst_task(results)[1],
        "gain": float(np.mean(continual.gain(results.final, identity, scale))),
        "harm_rate": continual.harm_rate(images[name], images[f"{name}_input"], scale),
        "forgetting": continual.mean_forgetting_db(results),
        "backward_transfer": continual.backward_transfer(results),
        "forward_transfer": continual.forward_transfer(results, identity),
        "intransigence": float(np.mean(continual.intransigence(results, single))),
        "delta_db": continual.delta_db(results.final, single, scale),
        "delta_m_gain": continual.delta_m_gain_percent(results.final, single, scale),
    }  # fmt: skip


def _single(frames: Frames, task: str, seed: int, column: str) -> float:
    """Return the final score of the task's single-task run under this seed. NaN if there is no such run."""
    member = single_runs(frames)[task].get(seed)
    if member is None:
        return float("nan")
    own = frames.images[(frames.images["run"] == member.run) & (frames.images["task"] == task)]
    return float(own[column].mean())


def over_seeds(frame: pd.DataFrame, column: str, by: str | list[str]) -> dict[Any, Interval]:
    """Return group -> mean and 95 % t-interval of a column over seeds. Groups without any number are left out."""
    known = frame.dropna(subset=[column])
    return {key: seed_interval(own[column]) for key, own in known.groupby(by, sort=False)}


def reference_scores(frames: Frames, column: str = "psnr") -> dict[str, Interval]:
    """Return task -> final score of its single-task runs over seeds. Tasks without such a run are left out."""
    table, found = scores(frames).set_index(["run", "task"])[column], {}
    for task, members in single_runs(frames).items():
        known = [score for member in members.values() if (score := table[member.run, task]) == score]
        if known:
            found[task] = seed_interval(known)
    return found


def ranked(frames: Frames) -> list[str]:
    """Return the competing strategies that finished all their seeds, highest mean PSNR first.

    If they have different seeds, the mean is over the seeds that all of them have.
    """
    table = of_runs(frames)
    planned = {label: {one.seed for one in frames.members if one.label == label} for label in frames.labels}
    whole = [label for label in competitors(frames) if set(table[table["label"] == label]["seed"]) == planned[label]]
    means = table[table["seed"].isin(shared_seeds(table, whole))].groupby("label")["average"].mean()
    return sorted(whole, key=partial(lambda values, label: -values[label], means))


def shared_seeds(table: pd.DataFrame, labels: Sequence[str]) -> list[int]:
    """Return the seeds that all these strategies have in a frame of runs, or all its seeds if they share none."""
    own = [set(table[table["label"] == label]["seed"]) for label in labels]
    shared = set.intersection(*own) if own else set()
    return sorted(int(seed) for seed in shared or set(table["seed"]))
