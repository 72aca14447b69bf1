"""The data that flows between the loop and a strategy's parts: batches, rows, stages, and what a part may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor, nn

from cmtl_ir.base.keyed import name_key
from cmtl_ir.strategy.output import Output


@dataclass(frozen=True)
class Batch:
    """Samples of one row: they belong to one task and are named by their ids."""

    task: str
    ids: Tensor  # [B] int64: n of (task, n)
    degraded: Tensor  # [B, 3, H, W] in [0, 1]
    clean: Tensor  # [B, 3, H, W] in [0, 1]


RowLoss = Callable[[Output, Batch], Tensor]
"""(output of the network for these samples, their batch) -> [B] loss of each sample."""


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
    auxiliary: bool = True
    """False: the row never carries an auxiliary objective."""

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
    rates: Mapping[str, float] = field(default_factory=dict)
    """Shell pattern of parameter names -> factor of the learning rate for these; the first that matches counts."""
    weights: Literal["raw", "ema"] = "raw"
    """What the stage hands over: its last weights, or their moving average (`training.ema`)."""
    average: int = 0
    """Hand over the mean of the weights at the last n evaluations instead; 0: off. See `Curriculum.averages`."""


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
    identity_losses: Callable[[], Tensor] | None = None
    """Computes `identity`; `None` in contexts that are made by hand."""
    gathered: Callable[[str, Tensor], Tensor] | None = None
    """(row name, a value [n, ...] of each sample held here) -> those of all samples of the row, over all ranks, in the
    order in which they were drawn. Every rank must call it for the same rows in the same order."""

    @property
    def identity(self) -> Tensor:
        """[K] float64: mean base objective of the degraded images themselves, per stage row of the step.

        For one image per sample, however many the network returns. Computed when it is read; under several ranks all of
        them must read it.
        """
        if self.identity_losses is None:
            raise ValueError("this context has no samples to compute identity losses from")
        return self.identity_losses()

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

    def sample_losses(self, output: Output, batch: Batch) -> Tensor:
        """Return the base objective of each sample, [B]."""

    def restore(self, batch: Batch, network: nn.Module | None = None) -> Output:
        """Return the output for a batch, under the run's precision, of `network`; `None`: of the one in training."""

    def second_view(self, batch: Batch) -> Batch:
        """Return other crops of the same images, degraded with the same parameters and noise of their own."""

    def teacher(self, task: str) -> nn.Module:
        """Return the network of the single-task run of a task, frozen and in eval mode, to be run by `restore`.

        Raise UserError with the command that makes the run where there is none.
        """

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
