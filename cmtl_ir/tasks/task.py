"""A task: images and what degrades them. A sample is a pure function of (seed, task name, n).

Never of the step, the stage, the other tasks or the strategy. Legend: B samples of one batch, P side of a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cmtl_ir import keyed
from cmtl_ir.strategy import Batch
from cmtl_ir.tasks.config import DataConfig
from cmtl_ir.tasks.degradation import Degradation
from cmtl_ir.tasks.images import DataError
from cmtl_ir.tasks.store import ImageStore, PairStore, content_digest

Store = ImageStore | PairStore


@dataclass(frozen=True)
class TestSample:
    """One whole image to be restored, the same in every run."""

    __test__ = False  # not a test case, whatever its name tells pytest

    image: str
    variant: str
    """Which of the degradation's settings, such as a noise level; empty where there is only one."""
    degraded: Tensor  # [1, 3, H, W] in [0, 1]
    clean: Tensor  # [1, 3, H, W] in [0, 1]


@dataclass(frozen=True)
class Cut:
    """Where crops are cut and how they are flipped."""

    numbers: list[int]  # [B] which image
    corners: list[list[int]]  # [B][2] upper left corner (y, x) in the stored image
    flips: Tensor  # [B] int64: bit 0 mirrors left-right, bit 1 upside down, bit 2 transposes first
    origin: Tensor  # [B, 2] int64: the corner in the flipped image
    size: Tensor  # [B, 2] int64: size of the flipped image


@dataclass(frozen=True)
class Splits:
    """The images of one task."""

    train: Store
    test: Store
    val: Store | None = None


class Task:
    """Training samples by id and test samples, of one degradation or of one set of pairs."""

    def __init__(
        self,
        name: str,
        splits: Splits,
        degradation: Degradation | None,
        data: DataConfig,
        *,
        seed: int,
        device: torch.device,
        repeats: int = 1,
    ) -> None:
        self.name, self.splits, self.degradation, self.data = name, splits, degradation, data
        self.seed, self.device, self.repeats = seed, device, repeats
        self._sizes = torch.from_numpy(splits.train.sizes)  # [N, 2]
        self._key = keyed.name_key(seed, "task", name)

    @property
    def size(self) -> int:
        """Training images times repeats."""
        return len(self.splits.train) * self.repeats

    @property
    def digest(self) -> str:
        """Hash of all that decides the training samples, but the seed: name, degradation, pixels, crops."""
        kind = "pairs" if self.degradation is None else f"{self.degradation.called} {self.degradation!r}"
        how = f"{self.data.patch} {self.data.flips} {self.repeats}"
        return content_digest(self.name, kind, self.splits.train.digest, how)

    @property
    def test_digest(self) -> str:
        """Hash of all that decides the test samples."""
        kind = "pairs" if self.degradation is None else f"{self.degradation.called} {self.degradation!r}"
        how = f"{self.data.test_limit} {self.data.test_crop}"
        return content_digest(self.name, kind, self.splits.test.digest, how)

    # ------------------------------------------------------------------------------------ training samples

    @torch.no_grad()
    def batch(self, ids: Tensor) -> Batch:
        """The samples (this task, ids [B]). Safe to call from several threads."""
        cut = self._cut(ids)
        if isinstance(self.splits.train, PairStore):
            degraded, clean = self._crops(cut)
            return Batch(self.name, ids, degraded, clean)
        (clean,) = self._crops(cut)
        return Batch(self.name, ids, self._degrade(clean, ids, cut), clean)

    @torch.no_grad()
    def batch_on(self, other: Task, image_ids: Tensor, ids: Tensor) -> Batch:
        """Degradation replay: this task's degradation with the parameters of its samples `ids` [B], on the clean
        crops of the other task's samples `image_ids` [B]."""
        cut = other._cut(image_ids)
        clean = other._crops(cut)[-1]
        return Batch(self.name, ids, self._degrade(clean, ids, cut), clean)

    def _cut(self, ids: Tensor) -> Cut:
        ids = ids.cpu()
        keys = keyed.keys_of(self._key, ids)  # [B]
        numbers = self._image_numbers(ids)
        size = self._sizes[numbers]  # [B, 2]
        span = size - self.data.patch + 1
        draws = [keyed.integers(keyed.substream(keys, f"crop {axis}"), 0, span[:, i]) for i, axis in enumerate("yx")]
        corner = torch.stack(draws, dim=1)
        kinds = {"dihedral": 8, "horizontal": 2, "none": 1}[self.data.flips]
        flips = keyed.integers(keyed.substream(keys, "flip"), 0, kinds)
        return Cut(numbers.tolist(), corner.tolist(), flips, *_flipped_frame(corner, size, flips, self.data.patch))

    def _image_numbers(self, ids: Tensor) -> Tensor:
        """[B]: a keyed permutation of the training images per epoch, every image once."""
        count = len(self.splits.train)
        epochs, places = ids // count, ids % count
        numbers = torch.empty_like(places)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            base = keyed.name_key(self.seed, "epoch", self.name, epoch)
            numbers[here] = keyed.permuted(base, places[here], count)
        return numbers

    def _crops(self, cut: Cut) -> list[Tensor]:
        """Clean crops [B, 3, P, P], or degraded and clean ones of a pair, flipped, on the device."""
        store, patch = self.splits.train, self.data.patch
        shape = (len(cut.numbers), patch, patch, 3)
        pinned = self.device.type == "cuda"
        planes = 2 if isinstance(store, PairStore) else 1
        raw = [torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for _ in range(planes)]
        store.crops(cut.numbers, cut.corners, *(one.numpy() for one in raw))
        flips = cut.flips.to(self.device, non_blocking=True)
        return [_unit(flipped(one.to(self.device, non_blocking=True).permute(0, 3, 1, 2), flips)) for one in raw]

    def _degrade(self, clean: Tensor, ids: Tensor, cut: Cut) -> Tensor:
        if self.degradation is None:
            raise ValueError(f"task {self.name}: its degraded images are given, so it cannot degrade other images")
        keys = keyed.substream(keyed.keys_of(self._key, ids.cpu()), "degradation")
        return self.degradation(clean, *(one.to(self.device) for one in (keys, cut.origin, cut.size)))

    # ---------------------------------------------------------------------------------------- whole images

    def test_samples(self) -> Iterator[TestSample]:
        """Every variant of every test image, in the order of variants and names; keyed by name, not by the seed."""
        return self._whole_images("test", self.splits.test, self.data.test_limit)

    def val_samples(self) -> Iterator[TestSample]:
        """Like the test samples, of images carved from the training data. Raises DataError where there are none."""
        if self.splits.val is None:
            raise DataError(
                f"task {self.name} has no validation images: set data.val to a share of the training images, "
                "such as `--set data.val=0.2`, or to a folder"
            )
        return self._whole_images("val", self.splits.val, None)

    def _whole_images(self, split: str, store: Store, limit: int | None) -> Iterator[TestSample]:
        numbers = range(len(store))[:limit]
        if isinstance(store, PairStore):
            for number in numbers:
                degraded, clean = (self._whole(one)[0] for one in store.pair(number))
                yield TestSample(store.names[number], "", degraded, clean)
            return
        assert self.degradation is not None
        for label, variant in self.degradation.variants().items():
            for number in numbers:
                name = store.names[number]
                key = torch.tensor([keyed.name_key(split, name, self.name, label)], device=self.device)
                with torch.no_grad():
                    clean, origin, size = self._whole(store.image(number))
                    degraded = variant(clean, key, origin, size)
                yield TestSample(name, label, degraded, clean)

    def _whole(self, image: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """[1, 3, H, W], origin [1, 2] and full size [1, 2] of an image or of its centre."""
        full = torch.tensor([image.shape[:2]])
        crop = full if self.data.test_crop is None else full.clamp(max=self.data.test_crop)
        origin = (full - crop) // 2
        (top, left), (height, width) = origin[0].tolist(), crop[0].tolist()
        pixels = torch.from_numpy(np.array(image[top : top + height, left : left + width]))
        return _unit(pixels.to(self.device).permute(2, 0, 1)[None]), origin.to(self.device), full.to(self.device)


# --------------------------------------------------------------------------------------------------- geometry


def flipped(images: Tensor, flips: Tensor) -> Tensor:
    """[B, C, P, P] -> each transposed (bit 2), then turned upside down (bit 1), then mirrored (bit 0)."""
    flips = flips[:, None, None, None]
    images = torch.where((flips & 4) > 0, images.transpose(2, 3), images)
    images = torch.where((flips & 2) > 0, images.flip(2), images)
    return torch.where((flips & 1) > 0, images.flip(3), images)


def _flipped_frame(corner: Tensor, size: Tensor, flips: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Corner [B, 2] and full size [B, 2] as the flipped photograph has them: a degradation sees that one, so rain
    falls downwards on it and the sky of a mirrored street is where the mirror puts it."""
    transposed = ((flips & 4) > 0)[:, None]
    corner, size = (torch.where(transposed, one.flip(1), one) for one in (corner, size))
    mirrored = torch.stack([(flips & 2) > 0, (flips & 1) > 0], dim=1)
    return torch.where(mirrored, size - patch - corner, corner), size


def _unit(pixels: Tensor) -> Tensor:
    return pixels.contiguous().to(torch.float32).div_(255.0)
