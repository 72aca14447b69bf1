"""Training in two stages, the first of which learns something else than restoration from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, PrivateAttr, field_validator
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch, History, Learner, Row, Stage
from cmtl_ir.strategy.making import described, part_from
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register

from ..shared.teacher import distillation
from ._hidden import hiding, loss_on_hidden
from ._stages import uniform

FIRST = "first"
OBJECTIVES = {
    "degradation_class": ("degradation_class", "own_classes"),
    "contrast": ("degradation_contrast",),
}
"""First stage -> the auxiliary objectives that it trains on."""
CLEAN = "clean"


@register
class TwoStage(Curriculum):
    """A stage that learns something else, called `first`, and then another curriculum.

    All tasks have the same share of the first stage. Its kinds are:

    - `mask` (RAM, Qin et al., ECCV 2024): hidden pixels are filled in and restored; the loss is on them alone.
    - `degradation_class` (DCPT, Hu et al., ICLR 2025): the objective `degradation_class` (or `own_classes`) of the
      auxiliary list alone, while rows `clean:TASK` with half of the batch restore clean images from themselves.
    - `contrast` (AirNet, Li et al., CVPR 2022): the auxiliary objective `degradation_contrast` alone.
    - `teachers` (TKMANet, Chen et al., CVPR 2022): the network of each task's single-task run is the target.
    - `network`: the first phase of the network's own training (wgws and idr with `stage: both`).
    - `joint`: restoration, the control for the restart alone.

    Stages that train on an objective alone have task weights of 1. With `share: 0` it equals `then`.

    Departures. mask: one mask per sample instead of one per batch; the authors' second stage trains a tenth of the
    layers. degradation_class: clean images and classification are rows of one step with one optimizer. teachers: no
    projectors, because teachers have the student's architecture; `teacher_latent` is the loss of features, and the
    contrasts of both stages are auxiliary objectives.
    """

    first: Literal["mask", "degradation_class", "contrast", "teachers", "network", "joint"]
    """What the first stage learns."""
    share: float = Field(0.5, ge=0, lt=1)
    """Share of the steps in the first stage. Published: teachers .5, contrast .1, mask .71, idr .458, wgws .455."""
    then: str | dict[str, Any] = "joint"
    """Curriculum of the remaining steps, by name or with fields. Its first stage keeps the name it has there."""
    restart: bool = True
    """Whether optimizer and learning rate start again after the first stage. false: one schedule for both."""
    rate: float = Field(1.0, gt=0)
    """Factor of the learning rate after the first stage."""
    hand_over: Literal["raw", "ema"] = "raw"
    """Weights that the first stage hands over: its last ones, or their moving average (`training.ema`)."""
    ratio: float = Field(0.5, ge=0, le=1)
    """For mask: share of the pixels that are hidden. 0 hides none and is the ordinary loss."""

    _then: Curriculum | None = PrivateAttr(default=None)
    _in_first: bool = PrivateAttr(default=False)

    @field_validator("then")
    @classmethod
    def _is_a_curriculum(cls, given: str | dict[str, Any]) -> dict[str, Any]:
        problems: list[Any] = []
        part = part_from("curriculum", given, "then", problems)
        if problems or not isinstance(part, Curriculum):
            raise ValueError("; ".join(map(str, problems)) or f"{given!r} is no curriculum")
        return described(part) or {}

    # ------------------------------------------------------------------------------------ what the engine asks first

    @property
    def rest(self) -> Curriculum:
        """Return the curriculum after the first stage."""
        if self._then is None:
            part = part_from("curriculum", self.then, "then", [])
            assert isinstance(part, Curriculum)
            self._then = part
        return self._then

    @property
    def averages(self) -> Any:  # type: ignore[override]
        return self.rest.averages

    @property
    def stands_on(self) -> Mapping[str, Sequence[str]]:
        own = {FIRST: OBJECTIVES[self.first]} if self.share > 0 and self.first in OBJECTIVES else {}
        return {**self.rest.stands_on, **own}

    @property
    def needs_teachers(self) -> bool:
        return (self.share > 0 and self.first == "teachers") or self.rest.needs_teachers

    def named_tasks(self) -> Sequence[str]:
        return self.rest.named_tasks()

    # -------------------------------------------------------------------------------------------------------- stages

    def next_stage(self, history: History) -> Stage | None:
        """Return the first stage, then the stages of the other curriculum."""
        if self.share == 0:
            return self.rest.next_stage(history)
        steps = round(self.share * history.steps)
        if not 0 < steps < history.steps:
            raise ConfigError(f"training.steps: {history.steps} steps are too few for a share of {self.share:g}")
        if not history.stages:
            return self._first(history, steps)
        done = history.stages[1:]
        stage = self.rest.next_stage(replace(history, steps=history.steps - steps, stages=done))
        if stage is None:
            return None
        if self.first == "network":
            stage = replace(stage, frozen=(*stage.frozen, *_phases(history.learner)[2]))
        return self._following(stage, done, steps, history.steps)

    def _first(self, history: History, steps: int) -> Stage:
        mixture = uniform(history.tasks)
        if self.first == "degradation_class":
            halves = {task: share / 2 for task, share in mixture.items()}
            mixture = halves | {f"{CLEAN}:{task}": share for task, share in halves.items()}
        return Stage(
            FIRST,
            mixture,
            steps,
            span=None if self.restart else (0, history.steps),
            weights=self.hand_over,
            weighed=self.first not in OBJECTIVES,
            frozen=_phases(history.learner)[1] if self.first == "network" else (),
        )

    def _following(self, stage: Stage, done: Sequence[Stage], first: int, total: int) -> Stage:
        if self.restart:
            fresh = stage.fresh_optimizer or not done
        else:
            fresh = stage.fresh_optimizer
            begun = stage.span[0] if stage.span is not None else sum(one.steps for one in done)
            stage = replace(stage, span=None if fresh else (first + begun, total))
        return replace(stage, fresh_optimizer=fresh, rate=stage.rate * self.rate)

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Bring a network with phases to the phase of this stage."""
        self._in_first = self.share > 0 and stage.name == FIRST
        if self.share > 0 and self.first == "network":
            network: Any = learner.model
            network.enter_phase(1 if self._in_first else 2)
        if not self._in_first:
            self.rest.enter_stage(stage, learner)

    # ---------------------------------------------------------------------------------------------------------- rows

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        """Return a row of the first stage with the loss and the view of its kind."""
        if not self._in_first:
            return self.rest.dress(row, stage, learner)
        if self.first == "teachers":
            return replace(row, loss=distillation(learner, learner.teacher(row.task)))
        if self.first == "mask" and self.ratio > 0:
            view = hiding(self.ratio, learner.seed)
            return replace(row, view=view, loss=loss_on_hidden(learner, self.ratio))
        if row.kind == CLEAN:
            return replace(row, view=_clean, auxiliary=False)
        return replace(row, loss=_nothing) if self.first in OBJECTIVES else row

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        if not self._in_first:
            self.rest.observe(batch, row, sample_losses)

    def after_step(self, learner: Learner) -> None:
        if not self._in_first:
            self.rest.after_step(learner)

    # --------------------------------------------------------------------------------------------------------- state

    def reset(self) -> None:
        self._state = {}
        self.rest.reset()

    def state_dict(self) -> dict[str, Any]:
        return {"then": self.rest.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rest.load_state_dict(state["then"])


def _phases(learner: Learner) -> Mapping[int, tuple[str, ...]]:
    """Return phase -> parameters that are frozen in it. Raise ConfigError for a network without phases."""
    network: Any = learner.model
    if not getattr(network, "has_phases", False):
        raise ConfigError(
            "curriculum two_stage, first: network: the backbone has no phases of its own; "
            "use wgws or idr with `stage: both`"
        )
    found: Mapping[int, tuple[str, ...]] = network.frozen_in
    return found


def _clean(batch: Batch) -> Batch:
    return replace(batch, degraded=batch.clean)


def _nothing(output: Output, batch: Batch) -> Tensor:
    """Return a loss of 0 for each sample, which gives no parameter a gradient."""
    return torch.zeros(len(batch.ids), device=batch.clean.device)
