"""The columns of every frame, each with its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cmtl_ir.measures.scale import DEFAULT, Scale

if TYPE_CHECKING:
    import pandas as pd

RUN = {"run": "hash of the run", "label": "strategy's name in the experiment", "seed": "seed of the run"}
COLUMNS: dict[str, dict[str, str]] = {
    "runs": {
        **RUN,
        "status": "finished | diverged at step N | unfinished | not started",
        "curriculum": "name of the curriculum part",
        "parts": "the parts that are not neutral, as in `surgery=pcgrad`, and training settings of its own",
        "steps": "optimizer steps done; NaN until finished",
    },
    "cost": {
        **RUN,
        "steps": "optimizer steps done",
        "seconds": "wall time of training in s; evaluations and checkpoints included unless `timed` says steps",
        "timed": "run: seconds are the whole run's | steps: seconds are those of the optimizer steps alone",
        "seconds_per_step": "seconds / steps",
        "cpu_seconds_per_step": "CPU time of the process, over all its threads, per optimizer step; NaN: not recorded",
        "cuda_seconds_per_step": "time between CUDA events around an optimizer step; NaN: not on CUDA, or not recorded",
        "forward_passes": "samples given to the network per step, by the batch; NaN: not recorded",
        "backward_passes": "samples that gradients passed back through per step, by the batch; NaN: not recorded",
        "parameters": "number of trained parameters",
        "peak_memory_mb": "peak memory of the steps in MB (1e6 bytes), of tensors on CUDA, or resident; NaN: unknown",
        "device": "device of the training",
    },
    "curves": {
        **RUN,
        "step": "optimizer steps done at this evaluation",
        "stage_end": "name of the stage that ended here, or empty",
        "task": "task whose test images were scored",
        **{scale.name: f"{scale.title}, mean over the test images" for scale in DEFAULT},
    },
    "matrices": {
        **RUN,
        "stage": "number of the stage, from 0: the row of R",
        "stage_name": "its name",
        "step": "optimizer steps done at its end",
        "task": "the column of R",
        **{scale.name: f"R[stage, task] of {scale.title}" for scale in DEFAULT},
        "own_stage": "number of the stage that first trained the task; -1: none did",
    },
    "images": {
        **RUN,
        "task": "task",
        "variant": "setting of the degradation, as a noise level, or empty",
        "image": "name of the test image",
        **{scale.name: f"{scale.title} of the restored image" for scale in DEFAULT},
        **{f"{scale.name}_input": f"{scale.title} of the degraded image" for scale in DEFAULT},
    },
    "conflict": {
        **RUN,
        "step": "optimizer steps done before the logged one",
        "row_a": "first row of the pair (row_a <= row_b)",
        "row_b": "second row; the same as row_a: the row's own norm and signal",
        "product": "<g_a, g_b>",
        "crossed": "the same between halves on different samples; of a row with itself its signal; NaN: one sample",
        "cosine": "product / (|g_a| |g_b|)",
        "magnitude_similarity": "2 |g_a| |g_b| / (|g_a|^2 + |g_b|^2)",
        "curvature_bound": "(1 - cosine^2) |g_a - g_b|^2 / |g_a + g_b|^2",
        "displacement": "of a row with itself: <last weight change, g_a>; > 0 is harm",
        "block": "of parameters (conflict.blocks of the experiment), or empty: the whole network",
    },
    "logged": {
        **RUN,
        "metric": "loss/ROW, weight/ROW, surgery/ROW, lr, psnr/TASK, conflict/..., ...",
        "step": "optimizer steps done",
        "value": "value",
    },
}
TEXT = {
    "run", "label", "status", "curriculum", "parts", "timed", "device", "stage_end", "task", "stage_name", "variant",
    "image", "row_a", "row_b", "block", "metric",
}  # fmt: skip
WHOLE = {"seed", "step", "stage", "own_stage"}
SCORED = ("curves", "matrices", "images")
"""Frames that have a column per metric."""


def columns_of(name: str, scales: Sequence[Scale] = DEFAULT) -> list[str]:
    """Return the columns of a frame. Columns of further metrics follow the columns of the default metrics."""
    columns = list(COLUMNS[name])
    if name not in SCORED:
        return columns
    further = [scale.name for scale in scales if scale not in DEFAULT]
    place = columns.index(DEFAULT[-1].name) + 1
    columns[place:place] = further
    return columns + [f"{metric}_input" for metric in further] if name == "images" else columns


def frame_of(name: str, rows: Iterable[dict[str, Any]], scales: Sequence[Scale] = DEFAULT) -> pd.DataFrame:
    """Return a frame of rows with text and number columns. A missing value is an empty text or NaN."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=columns_of(name, scales))
    for column in frame:
        if column in TEXT:
            frame[column] = frame[column].fillna("").astype(str)
        else:
            frame[column] = pd.to_numeric(frame[column]).astype("int64" if column in WHOLE else "float64")
    return frame
