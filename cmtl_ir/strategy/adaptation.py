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


class AdaptationContext(Protocol):
    """What an adapter may know of the image at hand and of the run whose network it adapts."""

    image: str
    """Name of the image: together with `seed` the key of all randomness."""
    seed: int
    tasks: tuple[str, ...]
    """Tasks of the run."""
    degradations: Mapping[str, Degradation | None]
    """Task -> its formula; `None` for a task whose degraded images are given."""
    task: str | None
    """Task of the image, for networks that need it; `None`: not given."""

    def restore(self, network: nn.Module, degraded: Tensor) -> Tensor:
        """Return the answer [1, 3, H, W] to a degraded image [1, 3, H, W], under the run's precision and padding."""

    def degraded(self, task: str, ids: Sequence[int]) -> Tensor:
        """Return degraded training images [B, 3, h, w] of a task, for thresholds."""


class Adapter(Part):
    """A way to adapt a trained network to an image. `steps: 0` or a rate of 0 must return what `none` returns."""

    family: ClassVar[str] = "adaptation"
    reads: ClassVar[Reads] = "image"
    """image: episodic, the weights are restored bit by bit after each image; stream: online, the images come in a
    keyed order and the weights go on; folder: two passes, the answers of the second one count."""
    task_given: ClassVar[bool] = False
    """True: the context names the image's task."""

    def begin(self, network: nn.Module, context: AdaptationContext) -> None:
        """Prepare for the first image: choose the parameters that move, measure thresholds."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        """Return the answer [1, 3, H, W] to `degraded` [1, 3, H, W]; the network's weights may be changed in place."""
        raise TypeError(f"{type(self).__name__} does not define how a network is adapted")

    @staticmethod
    def key(context: AdaptationContext, *names: str | int) -> int:
        """Return a 64-bit key of (seed, image, names): the only source of randomness inside an adapter."""
        return name_key(context.seed, context.image, *names)
