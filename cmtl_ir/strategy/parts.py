"""The contracts of a strategy's parts. A part is a frozen record of hyper-parameters plus private named state.

Shapes: K stage rows present in this step, M all rows that enter the update, P trainable parameters, B samples.
Scale (one convention for all, so a learning rate means the same under every method): a step's loss is
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
from cmtl_ir.strategy.data import Batch, History, Learner, Row, Stage, StepContext
from cmtl_ir.strategy.registry import snake_case

Tier = Literal["losses", "gramian", "rows"]


@dataclass(frozen=True)
class Cost:
    """What a part adds to a step, as data: for `describe` and for the cost table."""

    backward_passes: str = "1"
    memory: str = "none"
    forward_passes: str = "0"
    """Forward passes of the network in addition to those that the backward passes stand on."""


class Part(Record):
    """A named piece of a strategy. `reset` makes its private state; the engine saves and restores it.

    State is a tree of dicts whose leaves are tensors, numbers, strings, booleans, None, or lists of these:
    `checkpoint.py` writes it as safetensors and JSON. Anything per row is kept under the row's NAME.
    """

    family: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    """What to cite for a part from outside this package; those within have their entries in papers.bib."""
    cost: ClassVar[Cost] = Cost()

    _state: dict[str, Any] = PrivateAttr(default_factory=dict)
    _called: str = PrivateAttr(default="")

    @property
    def called(self) -> str:
        """The name under which an experiment asked for this part."""
        return self._called or snake_case(type(self).__name__)

    def call_it(self, name: str) -> None:
        """Remember the name under which an experiment asked for this part (`torchjd:UPGrad`)."""
        self._called = name

    def named_tasks(self) -> Sequence[str]:
        """Task names that this part's fields mention, so that a misspelt one is found before training."""
        return ()

    @property
    def state(self) -> dict[str, Any]:
        """The private state of the run at hand."""
        return self._state

    def reset(self) -> None:
        """Start anew: called once before a run's first step."""
        self._state = {}

    def state_dict(self) -> dict[str, Any]:
        """The state to save."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        self._state = state

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Prepare for the steps of a stage: at its first step, and again after each resume within it.

        Order: `begin_stage` (first step only), `enter_stage`, `rows`, `dress`. A restored state is on the device of the
        weights; that of weightings and surgeries stays on the CPU, as what they are given.
        """


class Curriculum(Part):
    """Which tasks are trained, when, in which shares."""

    family: ClassVar[str] = "curriculum"
    averages: ClassVar[bool] = False
    """True, or a property: its stages use `Stage.average`, so the cadence of evaluations decides the weights and
    becomes part of the run's identity."""

    def next_stage(self, history: History) -> Stage | None:
        """The stage after `history.stages`; None when the run is complete. Must be a pure function of
        `history` and of `state`."""
        raise TypeError(f"{type(self).__name__} does not say which stage comes next")

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        """Return a stage row with a loss or a view of its own; called where `Retention.rows` is called.

        A row that is given a coefficient is no longer weighed by the weighting. A loss that reads the step takes it
        from `learner.step`; what hides or changes inputs draws it from the key of (task, id).
        """
        return row

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Per-sample losses [B] of a row just trained on; costs nothing when not overridden."""

    def after_step(self, learner: Learner) -> None:
        """Act after the optimizer's step (teachers that average, banks)."""


class Weighting(Part):
    """Task weights from losses (or from the Gramian of the raw row gradients)."""

    family: ClassVar[str] = "weighting"
    needs: ClassVar[Tier] = "losses"
    looks_again: ClassVar[bool] = False
    """True: `after_step` uses `context.losses_again`."""

    normalise: Literal["mean1", "raw"] = "mean1"
    """mean1: weights are scaled to mean 1 over the rows present; raw: used as the paper has them."""

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """losses [K] (detached, float64) -> weights [K] >= 0; `gramian` [K, K] (float64, CPU) where `needs` says so."""
        raise TypeError(f"{type(self).__name__} does not say how tasks are weighted")

    def scaled(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """The weights [K] under `normalise`; all-zero weights become 1."""
        if not len(losses):
            return losses
        weights = self.weights(losses, gramian, context)
        if self.normalise == "raw":
            return weights
        total = weights.sum()
        return torch.where(total > 0, weights * (len(weights) / total), torch.ones_like(weights))

    def after_step(self, context: StepContext) -> None:
        """Called after the optimizer's step."""


class Surgery(Part):
    """Row weights from the Gramian of the scaled rows r_k = M c_k g_k; the update is v @ rows.

    Mean convention: M equal rows give v_k = 1/M; neutral v = 1/M is the plain gradient.
    """

    family: ClassVar[str] = "surgery"
    needs: ClassVar[Tier] = "gramian"

    @property
    def keeps_direction(self) -> bool:
        """True: where the rows are independent, positive task weights change the length of the update alone."""
        return False

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """gramian [M, M], losses [M] (float64, CPU) -> v [M] (float64, CPU)."""
        raise TypeError(f"{type(self).__name__} does not say how rows are combined")

    def combine(self, rows: Tensor, weights: Tensor, context: StepContext) -> Tensor:
        """rows [M, P], v [M] -> update [P]. Only methods of tier `rows` override it; it may write into `rows`."""
        return weights.to(rows) @ rows


class Retention(Part):
    """What protects tasks learnt earlier: rows, a penalty on the weights, or a projection of the update."""

    family: ClassVar[str] = "retention"
    needs: ClassVar[Tier] = "losses"
    """`gramian` when `project` is used: in those stages that have projected rows."""
    needs_update: ClassVar[bool] = False
    """True: `after_step` is given the flat update [P] before penalty and clipping."""

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> Mapping[str, Any]:
        """Name and fields of the network to be trained: the run's backbone, or one that is made of it."""
        return fields

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Before a stage's first step."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the protecting rows of this stage, without side effects; called after `enter_stage`."""
        return []

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Per-sample losses of a row just trained on (reservoirs)."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """A scalar added to the loss; None: nothing. Its gradient is added after surgery and projection."""
        return None

    def project(self, update: Tensor, memory: Tensor, context: StepContext) -> Tensor:
        """update [P], raw mean gradients of the projected rows [m, P], their names and counts -> update [P]."""
        return update

    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        """After the optimizer's step; `update` [P] where `needs_update`."""

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """After a stage's last step."""
