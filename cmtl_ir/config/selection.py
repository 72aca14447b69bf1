"""Settings that choose weights by validation images, and what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cmtl_ir.base.record import Record

if TYPE_CHECKING:
    from cmtl_ir.config.experiment import Experiment

KEYS = ("keep_best", "stop_early")


class KeepBestConfig(Record):
    """Selection of weights by validation images."""

    on: Literal["mean_psnr", "worst_psnr"] = "mean_psnr"
    """Mean or smallest PSNR, over the tasks that are learned so far."""


class StopEarlyConfig(Record):
    """The early end of a stage by validation images."""

    patience: int = Field(gt=0)
    """Number of evaluations without a better mean PSNR on validation images after which a stage ends."""


def check_selection(experiment: Experiment) -> None:
    """Raise ValueError if weights are chosen by validation images, and there are none or they are not scored."""
    own = {f"strategies.{label}.training": one.training or {} for label, one in experiment.strategies.items()}
    asked = {"training": {key: getattr(experiment.training, key) for key in KEYS}, **own}
    for path, settings in asked.items():
        for key in (one for one in KEYS if settings.get(one) is not None):
            if experiment.data.val is None and any(task.val is None for task in experiment.tasks.values()):
                raise ValueError(f"{path}.{key} selects on validation images, and there are none; set data.val")
            if experiment.evaluation.every == 0:
                raise ValueError(f"{path}.{key} selects at evaluations within a stage; set evaluation.every")
