"""Contrast with the same image under the other degradations of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch, Learner, Stage, StepContext
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.tasks import own_tasks
from ._contrast import EPSILON, Negatives

log = logging.getLogger("cmtl_ir")


@register
class CompositeCR(Negatives):
    """Composite degradation restoration loss (OneRestore, Guo et al., ECCV 2024): sum_l w_l d(f, y) / mean_n d(f, n).

    The negatives n are the degraded image and the same clean crop under each other degradation of the run. Per sample,
    with 1e-7 added to the denominator. The authors add it with weight 0.1 to 0.6 smooth L1 + 0.3 (1 - MS-SSIM).

    Raise ConfigError for a run of one task, and for tasks whose degraded images are given as files.
    """

    cost: ClassVar[Cost] = Cost(backward_passes="0", memory="tasks - 1 degraded images per sample")

    weight: float = Field(0.1, ge=0)
    """w: factor of this objective next to the base objective."""
    others: Literal["run", "seen", "skip_paired"] = "run"
    """run: all other tasks of the run; seen: those trained up to now, and without one the term is 0; skip_paired: as
    run, without tasks whose degraded images are given as files."""

    _usable: tuple[str, ...] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _stage_rows_only(self) -> Self:
        if self.rows == "all":
            raise ValueError("composite_cr degrades the clean crops of stage rows; set rows: stage")
        return self

    @property
    def needs(self) -> Any:  # type: ignore[override]
        """The images of other tasks, which `skip_paired` checks itself."""
        return super().needs | (frozenset() if self.others == "skip_paired" else {"others"})

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        super().enter_stage(stage, learner)
        seen = [*self.state.get("seen", []), *own_tasks(stage)]
        self.state["seen"] = list(dict.fromkeys(seen))
        self._usable = learner.tasks
        if self.others == "skip_paired":
            self._usable = tuple(task for task in learner.tasks if _degrades(task, learner))
            for task in own_tasks(stage):
                if not set(self._usable) - {task}:
                    raise ConfigError(f"auxiliary {self.label} needs another task with a degradation than {task}")
            skipped = [task for task in learner.tasks if task not in self._usable]
            if skipped:
                log.info("auxiliary %s: no negatives of the paired tasks %s", self.label, ", ".join(skipped))

    def _others(self, task: str, learner: Learner) -> Sequence[str]:
        known = self.state.get("seen", []) if self.others == "seen" else self._usable or learner.tasks
        return [other for other in learner.tasks if other in known and other != task]

    def negatives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Mapping[str, Tensor]:
        others = self._others(batch.task, learner)
        images = [learner.batch(other, batch.ids, images=batch.task).degraded for other in others]
        return {"negatives": torch.stack(images, 1)} if images else {}

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = self.maps(output.restored, batch.task)
        if "negatives" not in constants.per_sample:
            return 0.0 * self.space.total(self.numerator(restored, batch))
        negatives = torch.cat([batch.degraded[:, None], constants.per_sample["negatives"]], 1)
        away = self.to_all(restored, negatives, batch.task).mean(1)
        return self.space.total(self.numerator(restored, batch) / (away + EPSILON))


def _degrades(task: str, learner: Learner) -> bool:
    try:
        learner.batch(task, torch.zeros(1, dtype=torch.int64), images=task)
    except ValueError:
        return False
    return True
