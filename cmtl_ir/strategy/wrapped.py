"""A retention around another one: every hook goes to the inner part until a subclass takes it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, Row, Stage, StepContext
from cmtl_ir.strategy.parts import Retention


class Wrapped(Retention):
    """A retention that does what its `base` does. A subclass declares the field `base` and overrides some hooks.

    The state has two sides: the wrapper's own under `own`, the inner part's under `base`.
    """

    base: Retention

    @property
    def needs(self) -> Any:  # type: ignore[override]
        """Return what the inner part needs."""
        return self.base.needs

    @property
    def needs_update(self) -> Any:  # type: ignore[override]
        """Return whether the inner part is given the update."""
        return self.base.needs_update

    def named_tasks(self) -> Sequence[str]:
        return self.base.named_tasks()

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> Mapping[str, Any]:
        return self.base.backbone(fields, tasks)

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        self.base.begin_stage(stage, learner)

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        self.base.enter_stage(stage, learner)

    def learned_before(self, stage: Stage, learner: Learner) -> None:
        self.base.learned_before(stage, learner)

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        return self.base.rows(stage, learner)

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        self.base.observe(batch, row, sample_losses)

    def penalty(self, model: nn.Module) -> Tensor | None:
        return self.base.penalty(model)

    def project(self, update: Tensor, memory: Tensor, context: StepContext) -> Tensor:
        return self.base.project(update, memory, context)

    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        self.base.after_step(learner, update)

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        self.base.end_stage(stage, learner)

    def reset(self) -> None:
        super().reset()
        self.base.reset()

    def state_dict(self) -> dict[str, Any]:
        return {"own": self._state, "base": self.base.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state["own"]
        self.base.load_state_dict(state["base"])
