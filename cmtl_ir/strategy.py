"""The contracts of a strategy's parts. A part is a frozen record of hyper-parameters plus private named state.

Shapes: K stage rows present in this step, M all rows that enter the update, P trainable parameters, B samples.
Scale (one convention for all, so a learning rate means the same under every method): a step's loss is
sum_k c_k l_k with c_k = (N_stage / N) w_k / K for stage rows and c_r = coefficient * n_r / N for protecting rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

from cmtl_ir.keyed import name_key
from cmtl_ir.records import Record
from cmtl_ir.registry import snake_case

Tier = Literal["losses", "gramian", "rows"]


# ------------------------------------------------------------------------------------------- data that flows


@dataclass(frozen=True)
class Batch:
    """Samples of one row: they belong to one task and are named by their ids."""

    task: str
    ids: Tensor  # [B] int64: n of (task, n)
    degraded: Tensor  # [B, 3, H, W] in [0, 1]
    clean: Tensor  # [B, 3, H, W] in [0, 1]


RowLoss = Callable[[Any, Batch], Tensor]
"""(what the backbone returned for these samples, their batch) -> [B] loss of each sample."""


@dataclass(frozen=True)
class Row:
    """Something named that pulls on the weights: a task's micro-batch, a memory's, a forget set's."""

    name: str
    """`rain` for a stage row; `memory:rain`, `forget:haze` ... for the others."""
    task: str
    """Whose data it draws."""
    share: float
    """Share of the batch; shares of all rows of a step sum to 1 after protecting rows took theirs."""
    coefficient: float | None = None
    """None: a stage row, scaled by the weighting. A number: a protecting row's lambda."""
    memory: Sequence[int] | None = None
    """Draw from these ids only; None: the task's own stream."""
    images: str | None = None
    """A task whose clean images this row degrades anew, by a counter of its own; None: the task's own images."""
    loss: RowLoss | None = None
    """None: the run's loss against the clean image."""
    projected: bool = False
    """True: never in the loss; its raw mean gradient goes to `Retention.project`."""
    pooled: bool = False
    """True: the coefficient IS the factor of the mean loss over all samples of its kind (the rows `retain:noise` and
    `retain:rain` are of the kind `retain`), however many they are."""
    view: Callable[[Batch], Batch] | None = None
    """What the network gets to see instead of the samples as they were drawn (adversarial inputs)."""

    @property
    def kind(self) -> str:
        """The name's part before the task."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Schedule:
    """Learning rate within a stage: linear warm-up, then `cycles` cosines from the base rate to `floor`.

    The last of them is cut short where they are laid out for `stretch` times the stage.
    """

    kind: Literal["cosine", "constant"] = "cosine"
    warmup: int = 0
    cycles: int = 1
    floor: float = 0.0
    stretch: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One stretch of training: which rows, in which shares, for how many steps."""

    name: str
    mixture: Mapping[str, float]
    """Row name -> share of the batch; the part of the name after a colon is its task."""
    steps: int
    memory: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Row name -> ids: such a row is drawn from these ids only."""
    fresh_optimizer: bool = False
    cycles: int = 1
    """How often the run's schedule is gone through: restarts of the learning rate."""
    span: tuple[int, int] | None = None
    """(step at which the stage begins, steps) of a schedule that several stages share; None: stage-local."""
    rate: float = 1.0
    """Factor of the learning rate."""


@dataclass(frozen=True)
class StepContext:
    """What a part may know of the step it acts in."""

    step: int
    """Global step of the run, from 0."""
    stage: str
    rows: tuple[str, ...]
    """Names of the rows present, in the order of every [K] or [M] tensor."""
    counts: tuple[int, ...]
    """Samples of each row."""
    seed: int
    losses_again: Callable[[], Tensor] | None = None
    """The losses [K] of the same batch under the present weights (a second look; FAMO). Costs K forward passes."""

    def key(self, *names: str | int) -> int:
        """A 64-bit key of (seed, step, names): the only source of randomness inside a part."""
        return name_key(self.seed, self.step, *names)

    def keyed_order(self, names: Sequence[str], purpose: str) -> list[int]:
        """Indices of `names` in a random order that depends on (step, purpose, name), not on position."""
        return sorted(range(len(names)), key=lambda i: self.key(purpose, names[i]))


class Learner(Protocol):
    """What a part may see of the run: weights and data, never the loop."""

    model: nn.Module
    tasks: tuple[str, ...]
    seed: int
    step: int

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        """The samples (task, ids), on the clean crops of (images, ids) if given: looking without training moves no
        counter. Raises ValueError for `images` where the task cannot degrade other images."""

    def sample_losses(self, restored: Any, batch: Batch) -> Tensor:
        """[B]: the run's loss of each sample."""

    def restore(self, batch: Batch, network: nn.Module | None = None) -> Any:
        """The backbone's output for a batch, under the run's precision; or that of another network of its kind."""

    def end_stage_now(self) -> None:
        """Make the step at hand the last one of its stage."""


@dataclass(frozen=True)
class History:
    """What a curriculum decides the next stage from."""

    tasks: tuple[str, ...]
    """In the order of the experiment file."""
    steps: int
    """Budget of the whole run."""
    stages: tuple[Stage, ...]
    """Stages that are finished."""
    dataset_sizes: Mapping[str, int]
    """Task -> number of training images times repeats."""
    learner: Learner


# ------------------------------------------------------------------------------------------------- the parts


@dataclass(frozen=True)
class Cost:
    """What a part adds to a step, as data: for `describe` and for the cost table."""

    backward_passes: str = "1"
    memory: str = "none"


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


class Curriculum(Part):
    """Which tasks are trained, when, in which shares."""

    family: ClassVar[str] = "curriculum"

    def next_stage(self, history: History) -> Stage | None:
        """The stage after `history.stages`; None when the run is complete. Must be a pure function of
        `history` and of `state`."""
        raise TypeError(f"{type(self).__name__} does not say which stage comes next")

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Per-sample losses [B] of a row just trained on; costs nothing when not overridden."""


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
        """The protecting rows of this stage; called once a stage and again on resume."""
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
