"""A task: images and their degradation. A sample is a pure function of (seed, task name, n).

It does not depend on the step, the stage, other tasks or the strategy.
Legend: B samples of one batch, P side of a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.tasks.config import DataConfig
from cmtl_ir.tasks.images.crops import Cut, draw_cut, image_numbers, unit
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.images.resident import Residents
from cmtl_ir.tasks.images.store import ImageStore, PairStore, content_digest

Store = ImageStore | PairStore


@dataclass(frozen=True)
class TestSample:
    """One whole image to restore, the same in every run."""

    __test__ = False  # not a test case, in spite of its name

    image: str
    variant: str
    """Label of one of the settings of the degradation, such as a noise level; empty if there is only one."""
    degraded: Tensor  # [1, 3, H, W] in [0, 1]
    clean: Tensor  # [1, 3, H, W] in [0, 1]


@dataclass(frozen=True)
class Splits:
    """The images of one task."""

    train: Store
    test: Store
    val: Store | None = None
    unlabelled: Store | None = None
    """Training images whose clean side is not read. `None` if all training images are labelled."""
    unlabelled_degraded: bool = False
    """Whether the unlabelled images are degraded already, as those of `data.unlabelled` are."""


class Task:
    """Training samples by id, and test samples, of one degradation or one set of pairs."""

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
        residents: Residents | None = None,
    ) -> None:
        self.name, self.splits, self.degradation, self.data = name, splits, degradation, data
        self.seed, self.device, self.repeats, self._residents = seed, device, repeats, residents
        self._at: dict[int, Task] = {}
        self._sizes = torch.from_numpy(splits.train.sizes)  # [N, 2]
        self._key = keyed.name_key(seed, "task", name)
        self._epoch_key = keyed.name_key(seed, "epochs", name)

    @property
    def size(self) -> int:
        """Number of training images times `repeats`."""
        return len(self.splits.train) * self.repeats

    @property
    def digest(self) -> str:
        """Hash of everything that determines the training samples except the seed: name, degradation, pixels, crops."""
        how = f"{self.data.patch} {self.data.flips} {self.repeats}"
        more: tuple[str, ...] = () if self.splits.unlabelled is None else (self.splits.unlabelled.digest,)
        more += ("degraded",) if self.splits.unlabelled_degraded else ()
        return content_digest(self.name, *self._kind, self.splits.train.digest, how, *more)

    @property
    def test_digest(self) -> str:
        """Hash of everything that determines the test samples."""
        how = f"{self.data.test_limit} {self.data.test_crop}"
        return content_digest(self.name, *self._kind, self.splits.test.digest, how)

    @property
    def val_digest(self) -> str | None:
        """Hash of everything that determines the validation samples; `None` if there are none."""
        if self.splits.val is None:
            return None
        return content_digest(self.name, *self._kind, self.splits.val.digest, str(self.data.test_crop))

    @property
    def _kind(self) -> tuple[str, ...]:
        if self.degradation is None:
            return ("pairs",)
        name = self.degradation.called.rpartition("/")[2]  # of `path/to/file.py:Class`, the path does not matter
        return (name, self.degradation.model_dump_json())

    # ------------------------------------------------------------------------------------ training samples

    def at(self, patch: int) -> Task:
        """Return this task with crops of another side: the same ids give other crops of the same images."""
        if patch == self.data.patch:
            return self
        if patch not in self._at:
            data = self.data.model_copy(update={"patch": patch})
            self._at[patch] = Task(
                self.name,
                self.splits,
                self.degradation,
                data,
                seed=self.seed,
                device=self.device,
                repeats=self.repeats,
                residents=self._residents,
            )
        return self._at[patch]

    @torch.no_grad()
    def batch(self, ids: Tensor) -> Batch:
        """Return the samples with ids [B]. Safe to call from several threads."""
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

    @torch.no_grad()
    def second_view(self, ids: Tensor) -> Batch:
        """Return other crops of the images of the samples `ids` [B], with the parameters of their degradation.

        What the degradation draws beyond its parameters, such as noise, is drawn again.
        """
        cut = self._cut(ids, second=True)
        if isinstance(self.splits.train, PairStore):
            degraded, clean = self._crops(cut)
            return Batch(self.name, ids, degraded, clean)
        assert self.degradation is not None
        (clean,) = self._crops(cut)
        keys = keyed.substream(keyed.keys_of(self._key, ids.cpu()), "degradation")
        again, keys = (one.to(self.device) for one in (keyed.substream(keys, "second view"), keys))
        origin, size = cut.origin.to(self.device), cut.size.to(self.device)
        degraded = self.degradation.degrade(clean, self.degradation.parameters(keys), again, origin, size)
        return Batch(self.name, ids, degraded, clean)

    @torch.no_grad()
    def degrade_again(self, ids: Tensor, clean: Tensor | None = None, *, unlabelled: bool = False) -> Tensor:
        """Return images [B, 3, P, P] degraded with the parameters of the samples `ids` [B], and noise of their own.

        `clean` is what is degraded; `None` stands for the clean crops of the samples. Raise ValueError if there is no
        degradation, or no clean image.
        """
        task = self._unlabelled if unlabelled else self
        cut = task._cut(ids)
        if task.degradation is None or (clean is None and unlabelled and self.splits.unlabelled_degraded):
            raise ValueError(f"task {self.name}: its degraded images are given, so they cannot be degraded once more")
        keys = keyed.substream(keyed.keys_of(task._key, ids.cpu()), "degradation")
        again, keys = (one.to(self.device) for one in (keyed.substream(keys, "once more"), keys))
        origin, size = cut.origin.to(self.device), cut.size.to(self.device)
        whole = task._crops(cut)[-1] if clean is None else clean.detach().clamp(0, 1)
        return task.degradation.degrade(whole, task.degradation.parameters(keys), again, origin, size)

    @cached_property
    def _unlabelled(self) -> Task:
        if self.splits.unlabelled is None:
            raise ValueError(
                f"task {self.name} has no unlabelled images: set data.labelled to a share below 1 that leaves some, or "
                f"name a folder of degraded images in data.unlabelled.{self.name}"
            )
        return Task(
            self.name,
            Splits(self.splits.unlabelled, self.splits.test),
            self.degradation,
            self.data,
            seed=self.seed,
            device=self.device,
            residents=self._residents,
        )

    def unlabelled_batch(self, ids: Tensor) -> Batch:
        """Return samples [B] of the unlabelled images, whose clean images are NaN, so that their use is noticed.

        Raise ValueError if all images are labelled.
        """
        if self.splits.unlabelled_degraded:
            (degraded,) = self._unlabelled._crops(self._unlabelled._cut(ids))
            return Batch(self.name, ids, degraded, torch.full_like(degraded, torch.nan))
        batch = self._unlabelled.batch(ids)
        return replace(batch, clean=torch.full_like(batch.clean, torch.nan))

    def _cut(self, ids: Tensor, second: bool = False) -> Cut:
        ids = ids.cpu()
        numbers = image_numbers(self._epoch_key, ids, len(self.splits.train))
        keys = keyed.keys_of(self._key, ids)  # [B]
        keys = keyed.substream(keys, "second view") if second else keys
        return draw_cut(keys, numbers, self._sizes[numbers], self.data.patch, self.data.flips)

    def _crops(self, cut: Cut) -> list[Tensor]:
        """Cut and flip crops [B, 3, P, P] on the device: clean ones, or degraded and clean ones of pairs."""
        store, patch = self._cut_from, self.data.patch
        sides = (store.degraded, store.clean) if isinstance(store, PairStore) else (store,)
        raw = [self._room((len(cut.flips), 3, patch, patch), side.flat.device) for side in sides]
        store.crops(cut.numbers, cut.corner, cut.flips, *raw)
        return [unit(one.to(self.device, non_blocking=True)) for one in raw]

    @cached_property
    def _cut_from(self) -> Store:
        """The training images, moved to the GPU at the first batch if they may be kept there."""
        return self.splits.train if self._residents is None else self._residents.kept(self.splits.train)

    def _room(self, shape: tuple[int, ...], place: torch.device) -> Tensor:
        """Allocate bytes for crops where they are cut: pinned if they are cut on the host for a GPU."""
        pinned = place.type == "cpu" and self.device.type == "cuda"
        return torch.empty(shape, dtype=torch.uint8, device=place, pin_memory=pinned)

    def _degrade(self, clean: Tensor, ids: Tensor, cut: Cut) -> Tensor:
        if self.degradation is None:
            raise ValueError(
                f"task {self.name}: its degraded images are given, so it cannot degrade further images; "
                "name a task with a degradation"
            )
        keys = keyed.substream(keyed.keys_of(self._key, ids.cpu()), "degradation")
        return self.degradation(clean, *(one.to(self.device) for one in (keys, cut.origin, cut.size)))

    # ---------------------------------------------------------------------------------------- whole images

    def test_samples(self) -> Iterator[TestSample]:
        """Yield every variant of every test image, ordered by variant and name.

        Random numbers depend on the name of the image and not on the seed.
        """
        return self._whole_images("test", self.splits.test, self.data.test_limit)

    def train_samples(self, limit: int) -> Iterator[TestSample]:
        """Yield the first `limit` training images in the form of test samples, to set thresholds and not to score."""
        return self._whole_images("train", self.splits.train, limit)

    def val_samples(self) -> Iterator[TestSample]:
        """Yield the validation images in the form of test samples. Raise DataError if the task has none."""
        if self.splits.val is None:
            raise DataError(
                f"task {self.name} has no validation images: set data.val to a share of the training images "
                f"(`--set data.val=0.2`) or to a folder, or give the task its own under tasks.{self.name}.val"
            )
        return self._whole_images("val", self.splits.val, None)

    def example(self) -> TestSample:
        """Return the first test image under the last variant: levels are listed from mild to strong."""
        variants = [""] if self.degradation is None else list(self.degradation.variants())
        return self._whole_image("test", self.splits.test, 0, variants[-1])

    def _whole_images(self, split: str, store: Store, limit: int | None) -> Iterator[TestSample]:
        synthetic = self.degradation if isinstance(store, ImageStore) else None
        for label in synthetic.variants() if synthetic is not None else [""]:
            for number in range(len(store))[:limit]:
                yield self._whole_image(split, store, number, label)

    @torch.no_grad()
    def _whole_image(self, split: str, store: Store, number: int, label: str) -> TestSample:
        name = store.names[number]
        if isinstance(store, PairStore):
            degraded, clean = (self._whole(one)[0] for one in store.pair(number))
            return TestSample(name, "", degraded, clean)
        assert self.degradation is not None
        key = torch.tensor([keyed.name_key(split, name, self.name, label)], device=self.device)
        clean, origin, size = self._whole(store.image(number))
        return TestSample(name, label, self.degradation.variants()[label](clean, key, origin, size), clean)

    def _whole(self, image: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return an image or its centre as [1, 3, H, W], with its origin [1, 2] and the full size [1, 2]."""
        full = torch.tensor([image.shape[:2]])
        crop = full if self.data.test_crop is None else full.clamp(max=self.data.test_crop)
        origin = (full - crop) // 2
        (top, left), (height, width) = origin[0].tolist(), crop[0].tolist()
        pixels = torch.from_numpy(np.array(image[top : top + height, left : left + width]))
        return unit(pixels.to(self.device).permute(2, 0, 1)[None]), origin.to(self.device), full.to(self.device)
