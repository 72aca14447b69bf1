"""What each run scored and what it forgot, and how sure that is over seeds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cmtl_ir.measures import continual
from cmtl_ir.measures.continual import StageScores
from cmtl_ir.measures.statistics import Interval, seed_interval

from .fairness import competitors, single_runs
from .frames import RUN, Frames

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "average": ("mean", "mean over tasks of the final PSNR in dB"),
    "worst_task": ("worst task", "lowest final PSNR of any task in dB"),
    "gain": ("gain over input", "mean over tasks of final PSNR minus that of the degraded input, in dB; > 0 is good"),
    "harm_rate": ("harm rate", "share of test images that restoring made worse; lower is better"),
    "forgetting": ("forgetting", "best PSNR after an earlier stage minus the final one, mean over tasks learnt before "
                   "the last stage, in dB; > 0 is bad"),
    "backward_transfer": ("BWT", "final PSNR minus PSNR after the stage that first trained the task, mean over tasks "
                          "learnt before the last stage, in dB; > 0 is good"),
    "forward_transfer": ("FWT", "PSNR before a task was first trained minus that of the degraded input, mean over "
                         "tasks with an earlier stage, in dB; > 0 is good"),
    "intransigence": ("intransigence", "PSNR of the single-task run minus PSNR after the stage that first trained the "
                      "task, mean over tasks, in dB; > 0 is bad"),
    "delta_db": ("Δ single-task", "final PSNR minus that of the single-task run, mean over tasks, in dB; > 0 is good"),
    "delta_m_gain": ("Δm gain %", "that difference in % of the single-task run's PSNR, mean over tasks; > 0 is good "
                     "(many papers print its negative)"),
}  # fmt: skip
"""Measure -> (heading, meaning)."""


def scores(frames: Frames) -> pd.DataFrame:
    """run, label, seed, task, psnr, ssim, psnr_input, ssim_input: means over the test images of each task."""
    columns = ["psnr", "ssim", "psnr_input", "ssim_input"]
    return frames.images.groupby([*RUN, "task"], sort=False)[columns].mean().reset_index()


def of_runs(frames: Frames) -> pd.DataFrame:
    """run, label, seed and one column a measure, one row a finished run; NaN where it does not apply or is missing."""
    import pandas as pd

    rows = [_of_run(frames, label, seed, frame) for (label, seed), frame in _by_run(frames.matrices)]
    return pd.DataFrame(rows, columns=[*RUN, *MEASURES])


def _by_run(frame: pd.DataFrame) -> Any:
    return frame.groupby(["label", "seed"], sort=False)


def _of_run(frames: Frames, label: str, seed: int, matrix: pd.DataFrame) -> dict[str, Any]:
    from cmtl_ir.measures.metrics import PSNR

    tasks = [task for task in frames.tasks if task in set(matrix["task"])]
    table = matrix.pivot_table(index="stage", columns="task", values="psnr")[tasks]
    own = matrix.drop_duplicates("task").set_index("task")["own_stage"]
    results = StageScores(table.to_numpy(), tuple(tasks), tuple(int(own[task]) for task in tasks), PSNR)
    images = frames.images[(frames.images["label"] == label) & (frames.images["seed"] == seed)]
    identity = images.groupby("task")["psnr_input"].mean()[tasks].to_numpy()
    single = np.array([_single(frames, task, seed) for task in tasks])
    return {
        "run": matrix["run"].iloc[0], "label": label, "seed": seed,
        "average": continual.average(results),
        "worst_task": continual.worst_task(results)[1],
        "gain": float(np.mean(continual.gain(results.final, identity, PSNR))),
        "harm_rate": continual.harm_rate(images["psnr"], images["psnr_input"], PSNR),
        "forgetting": continual.mean_forgetting_db(results),
        "backward_transfer": continual.backward_transfer(results),
        "forward_transfer": continual.forward_transfer(results, identity),
        "intransigence": float(np.mean(continual.intransigence(results, single))),
        "delta_db": continual.delta_db(results.final, single, PSNR),
        "delta_m_gain": continual.delta_m_gain_percent(results.final, single, PSNR),
    }  # fmt: skip


def _single(frames: Frames, task: str, seed: int) -> float:
    """Final PSNR in dB of the task's single-task run under this seed; NaN where there is none."""
    member = single_runs(frames)[task].get(seed)
    if member is None:
        return float("nan")
    own = frames.images[(frames.images["run"] == member.run) & (frames.images["task"] == task)]
    return float(own["psnr"].mean())


def over_seeds(frame: pd.DataFrame, column: str, by: str | list[str]) -> dict[Any, Interval]:
    """Group -> mean and 95 % t-interval over seeds of a column; groups without any number are left out."""
    known = frame.dropna(subset=[column])
    return {key: seed_interval(own[column]) for key, own in known.groupby(by, sort=False)}


def reference_scores(frames: Frames, column: str = "psnr") -> dict[str, Interval]:
    """Task -> final score of its single-task runs over their seeds."""
    table, found = scores(frames).set_index(["run", "task"])[column], {}
    for task, members in single_runs(frames).items():
        if members:
            found[task] = seed_interval([table[member.run, task] for member in members.values()])
    return found


def ranked(frames: Frames, measure: str = "average") -> list[str]:
    """The competitors that finished all their seeds, best mean first."""
    table = of_runs(frames)
    planned = {label: {one.seed for one in frames.members if one.label == label} for label in frames.labels}
    whole = [label for label in competitors(frames) if set(table[table["label"] == label]["seed"]) == planned[label]]
    means = table.groupby("label")[measure].mean()
    return sorted(whole, key=partial(lambda values, label: -values[label], means))
