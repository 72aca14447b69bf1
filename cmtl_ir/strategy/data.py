"""The data that flows between the loop and a strategy's parts: batches, rows, stages, and what a part may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor, nn

from cmtl_ir.base.keyed import name_key
from cmtl_ir.strategy.output import Output

if TYPE_CHECKING:
    from cmtl_ir.strategy.degradation import Degradation


@dataclass(frozen=True)
class Batch:
    """Samples of one row: they belong to one task and are named by their ids."""

    task: str
    ids: Tensor  # [B] int64: n of (task, n)
    degraded: Tensor  # [B, 3, H, W] in [0, 1]
    clean: Tensor  # [B, 3, H, W] in [0, 1]


UNLABELLED = ":unlabelled"
"""In place of a task whose images are to be degraded: the unlabelled images of the task (`data.labelled`, or the
folders of `data.unlabelled`)."""

RowLoss = Callable[[Output, Batch], Tensor]
"""(output of the network for these samples, their batch) -> [B] loss of each sample."""


@dataclass(frozen=True)
class Row:
    """A named contribution to the update: the micro-batch of a task, of a memory, or of a forget set."""

    name: str
    """Name: `rain` for a stage row, and `memory:rain`, `forget:haze` and so on for other rows."""
    task: str
    """Task whose data the row draws."""
    share: float
    """Share of the batch. Protecting rows take their shares first, and the stage rows divide the rest."""
    coefficient: float | None = None
    """Factor (lambda) of a protecting row. `None` for a stage row, which the weighting scales."""
    memory: Sequence[int] | None = None
    """Ids to draw from. `None` for the stream of the task."""
    images: str | None = None
    """Task whose clean images this row degrades, with a counter of its own. `None` for the images of `task`,
    `UNLABELLED` for its unlabelled ones."""
    loss: RowLoss | None = None
    """Loss of the row. `None` for the base objective against the clean image."""
    projected: bool = False
    """Whether the row is left out of the loss, and its raw mean gradient is given to `Retention.project` instead."""
    pooled: bool = False
    """Whether the coefficient is the factor of the mean loss over all samples of the row's kind, whatever their number.
    The rows `retain:noise` and `retain:rain`, for example, are of the kind `retain`."""
    view: Callable[[Batch], Batch] | None = None
    """Transformation of the samples before they enter the network (adversarial inputs). `None` for no change."""
    auxiliary: bool = True
    """Whether the row may carry auxiliary objectives."""

    @property
    def kind(self) -> str:
        """The part of the name before the task."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Schedule:
    """Learning rate within a stage: linear warm-up, then `cycles` cosines from the base rate to `floor`.

    The cosines span `stretch` times the stage, so the last one is cut off if `stretch` is above 1.
    """

    kind: Literal["cosine", "constant"] = "cosine"
    warmup: int = 0
    cycles: int = 1
    floor: float = 0.0
    stretch: float = 1.0


@dataclass(frozen=True)
class Stage:
    """A stage of training: its rows, their shares, and its number of steps."""

    name: str
    mixture: Mapping[str, float]
    """Row name -> share of the batch. The part of the name after a colon is the task."""
    steps: int
    memory: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Row name -> the only ids from which that row is drawn."""
    fresh_optimizer: bool = False
    cycles: int = 1
    """Number of cycles of the learning-rate schedule within the stage."""
    span: tuple[int, int] | None = None
    """(step at which the stage begins, total steps) of a schedule shared by several stages. `None`: one per stage."""
    rate: float = 1.0
    """Factor of the learning rate."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Shell pattern of parameter names -> factor of the learning rate for these; the first that matches counts."""
    weights: Literal["raw", "ema"] = "raw"
    """Weights that the stage hands over: its last ones, or their moving average (`training.ema`)."""
    frozen: Sequence[str] = ()
    """Shell patterns of parameter names: these get no gradient in this stage, and stay bit-equal."""
    weighed: bool = True
    """False if every task weight is 1 and the weighting is not asked: for a stage without a restoration loss."""
    average: int = 0
    """Hand over the mean of the weights at the last n evaluations instead. 0 for none. See `Curriculum.averages`."""


@dataclass(frozen=True)
class Proxy:
    """A short run from initial weights that must be finished before the run of a curriculum."""

    mixture: Mapping[str, float]
    """Task -> share of the batch. Tasks that are missing are not trained."""
    share: float
    """Share of the steps of the run."""


@dataclass(frozen=True)
class StepContext:
    """Information about a step that a part may use."""

    step: int
    """Global step of the run, from 0."""
    stage: str
    rows: tuple[str, ...]
    """Names of the rows of this step, in the order of every [K] or [M] tensor."""
    counts: tuple[int, ...]
    """Number of samples of each row."""
    seed: int
    losses_again: Callable[[], Tensor] | None = None
    """Returns the losses [K] of the same batch under the current weights (FAMO). Costs K forward passes."""
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
        """Return a 64-bit key of (seed, step, names), the only source of randomness inside a part."""
        return name_key(self.seed, self.step, *names)

    def keyed_order(self, names: Sequence[str], purpose: str) -> list[int]:
        """Return the indices of `names` in a random order that depends on (step, purpose, name), not on position."""
        return sorted(range(len(names)), key=lambda i: self.key(purpose, names[i]))


class Learner(Protocol):
    """The part of a run that parts may use: its weights and data, but not the loop."""

    model: nn.Module
    tasks: tuple[str, ...]
    seed: int
    step: int

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        """Return the samples (task, ids), on the clean crops of (images, ids) if `images` is given.

        With `UNLABELLED`, they are samples of the task's unlabelled images, and their clean images are NaN. Counters of
        the data are not changed. Raise ValueError for `images` if the task cannot degrade other images, or if all its
        images are labelled.
        """

    def degradation(self, task: str) -> Degradation | None:
        """Return the degradation of a task; `None` for pairs of files."""

    def degrade_again(self, batch: Batch, clean: Tensor | None = None, images: str | None = None) -> Tensor:
        """Return images [B, 3, P, P] degraded with the parameters of the samples of a batch, and noise of their own.

        `clean` is what is degraded; `None` stands for the clean crops of the samples, which are not returned.
        `images` is that with which the batch was made. No gradient flows to `clean`. Raise ValueError if the task has
        no degradation, and for images that were given degraded if `clean` is `None`.
        """

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

    def finished_run(self, name: str) -> nn.Module:
        """Return the network of a finished run, frozen and in eval mode, to be run by `restore`.

        `name` is its hash, or COMPARISON/LABEL/SEED. Raise UserError, with a list of the runs, where there is none.
        """

    def fine_tuned(self, task: str, steps: int, rate: float) -> nn.Module:
        """Return a copy of the network in training after some steps on one task alone, in eval mode.

        It has the run's optimizer, new, with `rate` times its learning rate, and the samples that the task draws next.
        """

    def proxy_losses(self) -> Tensor:
        """Return mean base objectives [n, K] of the n proxies of the curriculum on each task, float64 on the CPU.

        They are measured on training samples that no run draws. Raise UserError for a run without proxies.
        """

    def fresh_network(self, number: int) -> nn.Module:
        """Return a network like the one in training with other initial weights, which depend on seed and number."""

    def end_stage_now(self) -> None:
        """Make the current step the last one of its stage."""


@dataclass(frozen=True)
class History:
    """The information from which a curriculum decides the next stage."""

    tasks: tuple[str, ...]
    """Tasks to be learnt, in the order of the experiment file."""
    steps: int
    """Number of steps of the whole run."""
    stages: tuple[Stage, ...]
    """The finished stages, without that of the tasks that the run knew before."""
    dataset_sizes: Mapping[str, int]
    """Task -> number of training images, times the repeats."""
    learner: Learner
    learned: tuple[str, ...] = ()
    """Tasks that the weights of `start` already know. A curriculum that mixes tasks includes them; one that trains
    tasks one after another goes on with `tasks`."""

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """All tasks of the run: those that were known before, then those to be learnt."""
        return (*self.learned, *self.tasks)
