"""What the objectives share that compare images in a feature space. Shapes: B samples, J negatives, L maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import PrivateAttr, model_validator
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner, Stage, StepContext
from cmtl_ir.strategy.objective import Constants, Objective

from ..shared.features import Space, distances, fixed_space
from ..shared.features.learned import Learned

EPSILON = 1e-7
"""Added to denominators, as the authors' codes do."""
OTHER_IDS = 2**20
"""Other samples of a task are drawn from so many ids after that of a sample."""


class ImageContrast(Objective):
    """An objective on distances d of feature maps, where d is the mean absolute difference of one map of one sample."""

    vgg16: ClassVar[Mapping[int, float] | None] = None
    """Modules of VGG16 that the authors read, and their weights. `None`: relu1_2, 2_2 and 3_3 in equal parts."""

    features: Literal["haar", "random", "backbone", "encoder", "vgg16", "vgg19"] = "haar"
    """Space of the distances. haar: absolute wavelet coefficients, no weights; random: untrained convolutions, a
    control; backbone: a moving average of the network's own latent; encoder: of its encoder of the degradation, where
    it has one (airnet); vgg16, vgg19: from `file`."""
    file: str | None = None
    """File with torchvision's state dict of the VGG; null with the other spaces."""
    normalise: Literal["none", "imagenet"] = "none"
    """Normalisation before a VGG. none: images in [0, 1], as in the authors' codes; imagenet: mean and deviation."""

    _fixed: Space | None = PrivateAttr(default=None)
    _learned: Learned | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _file_of_a_vgg(self) -> Self:
        if self.features.startswith("vgg") and self.file is None:
            raise ValueError(f"features: {self.features} needs `file`, the file of torchvision's weights")
        if not self.features.startswith("vgg") and (self.file is not None or self.normalise != "none"):
            raise ValueError(f"file and normalise belong to vgg16 and vgg19, but features is {self.features}")
        return self

    @property
    def needs(self) -> Any:  # type: ignore[override]
        """What the features need in addition to the output."""
        more = {"backbone": {"latent", "snapshots"}, "encoder": {"snapshots"}}
        return frozenset({"output"}) | frozenset(more.get(self.features, ()))

    @property
    def space(self) -> Space:
        """The space of the distances."""
        if self._learned is not None:
            return self._learned.space()
        if self._fixed is None:
            assert self.features != "backbone" and self.features != "encoder"
            self._fixed = fixed_space(self.features, self.file, self.normalise == "imagenet", self.vgg16)
        return self._fixed

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._learned = None

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Make the space. Raise UserError if the file, or the backbone, does not provide it."""
        if self.features in ("backbone", "encoder") and self._learned is None:
            self._learned = Learned(self.features, learner, self.state.setdefault("features", {}))
        assert self.space.weights

    def after_step(self, learner: Learner) -> None:
        if self._learned is not None:
            self._learned.follow(learner)

    # --------------------------------------------------------------------------------------------------- distances

    def maps(self, images: Tensor, task: str) -> Sequence[Tensor]:
        """Return the maps of images [B, 3, H, W] of a task, with the graph of the images."""
        return self.space.maps(images.to(torch.promote_types(images.dtype, torch.float32)), task)

    @torch.no_grad()
    def constant_maps(self, images: Tensor, task: str) -> Sequence[Tensor]:
        """Return the maps of images [B, 3, H, W] without a graph."""
        return self.maps(images, task)

    def to_all(self, maps: Sequence[Tensor], negatives: Tensor, task: str) -> Tensor:
        """Return the distances of L maps [B, C, h, w] from those of images [B, J, 3, H, W], [B, J, L]."""
        others = self.constant_maps(negatives.flatten(0, 1), task)
        count = negatives.shape[1]
        apart = [
            (one[:, None] - other.unflatten(0, (-1, count))).abs().flatten(2).mean(2)
            for one, other in zip(maps, others, strict=True)
        ]
        return torch.stack(apart, 2)

    def numerator(self, maps: Sequence[Tensor], batch: Batch) -> Tensor:
        """Return the distances of L maps from those of the clean images, [B, L]."""
        return distances(maps, self.constant_maps(batch.clean, batch.task))


def other_ids(ids: Tensor, key: int) -> Tensor:
    """Return other ids [B] of the same task, drawn by a key of each sample."""
    own = ids.cpu()
    drawn = keyed.integers(keyed.keys_of(key, own), 1, OTHER_IDS)
    return (own + drawn).to(ids.device)


class Negatives(ImageContrast):
    """An image contrast whose negatives are images [J, 3, H, W] per sample that `prepare` makes."""

    def negatives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Mapping[str, Tensor]:
        """Return the constants of the samples of a row by name; among them `negatives`, [B, J, 3, H, W]."""
        raise TypeError(f"{type(self).__name__} does not define its negatives")

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        found = {}
        for row, batch in batches.items():
            if len(batch.ids):
                found[row] = Constants(row, self.negatives(batch, learner, context, row))
        return found
