"""The contracts of the parts of a strategy. A part is a frozen record of hyper-parameters and a private named state.

Shapes: K stage rows of a step, M rows that enter the update, P trainable parameters, B samples.
Scale: all methods share one convention, so that a learning rate means the same under each. The loss of a step is
sum_k c_k l_k with c_k = (N_stage / N) w_k / K for stage rows and c_r = coefficient * n_r / N for protecting rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

from cmtl_ir.base.record import Record
from cmtl_ir.strategy.data import Batch, History, Learner, Proxy, Row, Stage, StepContext
from cmtl_ir.strategy.registry import snake_case

Tier = Literal["losses", "gramian", "rows"]


@dataclass(frozen=True)
class Cost:
    """The cost that a part adds to a step, for `describe` and the cost table."""

    backward_passes: str = "1"
    memory: str = "none"
    forward_passes: str = "0"
    """Forward passes of the network in addition to those of the backward passes."""


class Part(Record):
    """A named part of a strategy. `reset` creates its private state, which the engine saves and restores.

    The state is a tree of dicts whose leaves are tensors, numbers, strings, booleans, `None`, or lists of these. It is
    stored as safetensors and JSON. State of a row is kept under the NAME of the row.
    """

    family: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    """BibTeX of a part from outside this package. The parts of this package have entries in papers.bib."""
    cost: ClassVar[Cost] = Cost()

    _state: dict[str, Any] = PrivateAttr(default_factory=dict)
    _called: str = PrivateAttr(default="")

    @property
    def called(self) -> str:
        """The name by which an experiment refers to this part."""
        return self._called or snake_case(type(self).__name__)

    def call_it(self, name: str) -> None:
        """Store the name by which an experiment refers to this part (`torchjd:UPGrad`)."""
        self._called = name

    def named_tasks(self) -> Sequence[str]:
        """Return the task names in the fields of this part, so that a misspelt one is found before training."""
        return ()

    @property
    def state(self) -> dict[str, Any]:
        """The private state in the current run."""
        return self._state

    def reset(self) -> None:
        """Create the initial state. Called once, before the first step of a run."""
        self._state = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self._state = state

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Prepare for the steps of a stage: at its first step, and again after each resume within it.

        Order: `begin_stage` (first step only), `enter_stage`, `rows`, `dress`. A restored state is on the device of the
        weights; that of weightings and surgeries stays on the CPU, as what they are given.
        """


class Curriculum(Part):
    """Decides which tasks are trained, when, and in which shares."""

    family: ClassVar[str] = "curriculum"
    averages: ClassVar[bool] = False
    """True, or a property: its stages use `Stage.average`, so the cadence of evaluations decides the weights and
    becomes part of the run's identity."""

    @property
    def stands_on(self) -> Mapping[str, Sequence[str]]:
        """Stage name -> auxiliary objectives, of which one must act throughout the stage: it has no other loss."""
        return {}

    @property
    def needs_teachers(self) -> bool:
        """Whether a stage calls `Learner.teacher`, so that the single-task runs must be finished before this run."""
        return False

    def proxies(self, tasks: Sequence[str]) -> Sequence[Proxy]:
        """Return the short runs on fixed mixtures that must be finished before this run. See `Learner.proxy_losses`."""
        return ()

    def next_stage(self, history: History) -> Stage | None:
        """Return the stage after `history.stages`, or `None` if the run is complete.

        It must be a pure function of `history` and `state`.
        """
        raise TypeError(f"{type(self).__name__} does not define the next stage")

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        """Return a stage row with a loss or a view of its own; called where `Retention.rows` is called.

        A row that is given a coefficient is no longer weighed by the weighting. A loss that reads the step takes it
        from `learner.step`; what hides or changes inputs draws it from the key of (task, id).
        """
        return row

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Receive the per-sample losses [B] of a row after a step. Costs nothing if it is not overridden."""

    def after_step(self, learner: Learner) -> None:
        """Act after the optimizer's step (teachers that average, banks)."""


class Weighting(Part):
    """Computes task weights from losses, or from the Gramian of the raw row gradients."""

    family: ClassVar[str] = "weighting"
    needs: ClassVar[Tier] = "losses"
    looks_again: ClassVar[bool] = False
    """Whether `after_step` uses `context.losses_again`."""

    normalise: Literal["mean1", "raw"] = "mean1"
    """mean1: weights are scaled to mean 1 over the rows of the step. raw: weights are used as in the paper."""

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] >= 0 for losses [K] (detached, float64).

        `gramian` is [K, K] (float64, CPU) if `needs` is `gramian`, and otherwise `None`.
        """
        raise TypeError(f"{type(self).__name__} does not define how tasks are weighted")

    def scaled(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return the weights [K] under `normalise`. Weights that are all zero become 1."""
        if not len(losses):
            return losses
        weights = self.weights(losses, gramian, context)
        if self.normalise == "raw":
            return weights
        total = weights.sum()
        return torch.where(total > 0, weights * (len(weights) / total), torch.ones_like(weights))

    def after_step(self, context: StepContext) -> None:
        """Act after the step of the optimizer."""


class Surgery(Part):
    """Computes row weights v from the Gramian of the scaled rows r_k = M c_k g_k. The update is v @ rows.

    Mean convention: M equal rows give v_k = 1/M; neutral v = 1/M is the plain gradient.
    """

    family: ClassVar[str] = "surgery"
    needs: ClassVar[Tier] = "gramian"

    @property
    def keeps_direction(self) -> bool:
        """Whether, for independent rows, positive task weights change only the length of the update."""
        return False

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """Return v [M] for a Gramian [M, M] and losses [M], all float64 on the CPU."""
        raise TypeError(f"{type(self).__name__} does not define how rows are combined")

    def combine(self, rows: Tensor, weights: Tensor, context: StepContext) -> Tensor:
        """Return the update [P] of rows [M, P] and v [M]. Only methods of tier `rows` override it.

        It may change `rows`.
        """
        return weights.to(rows) @ rows


class Retention(Part):
    """Protects tasks learnt earlier by rows, by a penalty on the weights, or by a projection of the update."""

    family: ClassVar[str] = "retention"
    needs: ClassVar[Tier] = "losses"
    """Tier. `gramian` applies in stages with projected rows, for `project`."""
    needs_update: ClassVar[bool] = False
    """Whether `after_step` receives the flat update [P] before penalty and clipping."""
    fixed_patch: ClassVar[bool] = False
    """Whether it stores outputs for crops, so that `training.progressive` must not change the side of crops."""

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> Mapping[str, Any]:
        """Return name and fields of the network to train: the backbone of the run, or one built from it."""
        return fields

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Act before the first step of a stage."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the protecting rows of this stage, without side effects; called after `enter_stage`."""
        return []

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Receive the per-sample losses [B] of a row after a step (reservoirs)."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return a scalar to add to the loss, or `None`. Its gradient is added after surgery and projection."""
        return None

    def project(self, update: Tensor, memory: Tensor, context: StepContext) -> Tensor:
        """Return the update [P], projected given the raw mean gradients `memory` [m, P] of the projected rows."""
        return update

    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        """Act after the step of the optimizer. `update` is [P] if `needs_update`, and otherwise `None`."""

    def learned_before(self, stage: Stage, learner: Learner) -> None:
        """Act in place of the training of a stage whose tasks the weights of `start` already know.

        Called between `enter_stage` and `end_stage` of that stage, which has no steps. Raise ConfigError if the method
        must have seen the training of a task to protect it.
        """

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Act after the last step of a stage."""
