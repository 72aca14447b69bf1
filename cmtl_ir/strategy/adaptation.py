"""The contract of test-time adaptation: how a trained network answers one degraded image without its truth.

It is used by `evaluate --adapt NAME` and `restore --adapt NAME`. An adapter sees no clean image and no metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol

from torch import Tensor, nn

from cmtl_ir.base.keyed import name_key
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.parts import Part

Reads = Literal["image", "stream", "folder"]
KINDS: dict[Reads, str] = {"image": "episodic", "stream": "online", "folder": "two passes"}
"""What an adapter reads -> the kind of its table. Scores of different kinds are not compared."""


class AdaptationContext(Protocol):
    """What an adapter may know of the image at hand and of the run whose network it adapts."""

    @property
    def image(self) -> str:
        """Name of the image: together with `seed` the key of all randomness."""

    @property
    def seed(self) -> int:
        """Seed of the run."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the run; empty for an authors' checkpoint."""

    @property
    def degradations(self) -> Mapping[str, Degradation | None]:
        """Task -> its formula in training; `None` for a task whose degraded images are given."""

    @property
    def task(self) -> str | None:
        """Task of the image. `None`: not given."""

    def restore(self, network: nn.Module, degraded: Tensor, task: str | None = None) -> Tensor:
        """Return the answer [1, 3, H, W] in [0, 1] to a degraded image [1, 3, H, W], in tiles, without a graph.

        `task`: restore it as an image of that task of the run, by the network that serves it. `None` restores it as
        the run does without adaptation.
        """

    def forward(self, network: nn.Module, degraded: Tensor) -> Tensor:
        """Return the network's image [B, 3, h, w] for [B, 3, h, w] in one pass, float32, unclamped, with its graph."""

    def loss(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the base objective of the run between two images [B, 3, h, w], the mean over the images."""

    def degraded(self, task: str, ids: Sequence[int]) -> Tensor:
        """Return degraded training images [B, 3, h, w] of a task, for thresholds.

        Raises UserError where the run's training images are not known or not there.
        """

    def classify(self, network: nn.Module, degraded: Tensor) -> Mapping[str, float] | None:
        """Return task -> probability for an image [1, 3, H, W]; `None` if the run has no classifier."""

    def finished(self, run: str) -> nn.Module:
        """Return the network of a finished run of one task, frozen. Raises UserError if there is none."""

    def stepped(self) -> None:
        """Count one step of an optimizer, for the report."""

    def note(self, text: str) -> None:
        """Tell the user a fact about how the network is adapted. Each text is shown once."""


class Adapter(Part):
    """A way to adapt a trained network to an image. `steps: 0` or a rate of 0 must return what `none` returns."""

    family: ClassVar[str] = "adaptation"
    reads: ClassVar[Reads] = "image"
    """image: episodic, weights and state are set back bit by bit after each image; stream: online, the images come in
    a keyed order and the weights go on; folder: two passes, the answers of the second one count."""
    task_given: ClassVar[bool] = False
    """True: the context names the image's task; a property where fields decide."""

    tuned_on: str | None = None
    """Task or degradation that the other fields were chosen on; null: they are defaults or guesses. Scoring an image
    of it is refused."""

    def begin(self, network: nn.Module, context: AdaptationContext) -> None:
        """Prepare for the first image: choose the parameters that move, measure thresholds."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        """Return the answer [1, 3, H, W] to `degraded` [1, 3, H, W]; the network's weights may be changed in place."""
        raise TypeError(f"{type(self).__name__} does not define how a network is adapted")

    @staticmethod
    def key(context: AdaptationContext, *names: str | int) -> int:
        """Return a 64-bit key of (seed, image, names): the only source of randomness inside an adapter."""
        return name_key(context.seed, context.image, *names)
