"""What a network returns for a batch. Shapes: B samples; an image is [B, 3, H, W]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """The images that a network returned for B samples, and the features that objectives asked for."""

    images: tuple[Tensor, ...]
    """Every image that the network returned, in its order, [B, 3, H, W] each."""
    restored: Tensor
    """The one of `images` that the network names as its answer, [B, 3, H, W]."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """Name -> [B, ...]: the latent and what heads made of it; empty where no objective needs features."""
    weights: tuple[float, ...] | None = None
    """Weight of each image in the base loss; `None`: each counts 1."""

    @classmethod
    def of(cls, image: Tensor) -> Output:
        """Return an output that consists of one image."""
        return cls((image,), image)

    def tensors(self) -> list[Tensor]:
        """Return every tensor that a loss may read: the images, then the features."""
        return [*self.images, *self.features.values()]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Output:
        """Return the same output made of other tensors, given in the order of `tensors`."""
        count = len(self.images)
        place = next(number for number, image in enumerate(self.images) if image is self.restored)
        features = dict(zip(self.features, tensors[count:], strict=True))
        return replace(self, images=tuple(tensors[:count]), restored=tensors[place], features=features)

    def part(self, start: int, stop: int) -> Output:
        """Return samples start .. stop."""
        return self.with_tensors([tensor[start:stop] for tensor in self.tensors()])

    def split(self, sizes: Sequence[int]) -> list[Output]:
        """Return consecutive parts of the given numbers of samples, which sum to B."""
        parts = zip(*(tensor.split(list(sizes)) for tensor in self.tensors()), strict=True)
        return [self.with_tensors(part) for part in parts]

    def filled(self, image: Tensor) -> Output:
        """Return an output of as many images as this one, each of them `image` [B, 3, H, W], without features."""
        return Output((image,) * len(self.images), image, weights=self.weights)

    def final(self) -> Output:
        """Return an output that consists of the restored image alone."""
        return Output.of(self.restored)


def output_of(network: Any, returned: Any) -> Output:
    """Make the `Output` of what a network returned: a tensor, a list of tensors, or a tuple (these, features).

    A network's class names the image that counts as its answer in `restored_output` ("first" or "last"; "first" where
    it says nothing) and the weights of its images in the base loss in `output_weights` (1 each where it says nothing).
    Raise ValueError if `output_weights` has another length than the list.
    """
    features: Mapping[str, Tensor] = {}
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        returned, features = returned
    if isinstance(returned, Tensor):
        return Output((returned,), returned, features)
    images = tuple(returned)
    restored = images[-1 if getattr(network, "restored_output", "first") == "last" else 0]
    weights = getattr(network, "output_weights", None)
    if weights is not None and len(weights) != len(images):
        raise ValueError(f"output_weights has {len(weights)} weights, but the network returned {len(images)} images")
    return Output(images, restored, features, None if weights is None else tuple(weights))


def final_output(network: Any, returned: Any) -> Tensor:
    """Return the image [B, 3, H, W] that a network means as its answer."""
    return output_of(network, returned).restored
