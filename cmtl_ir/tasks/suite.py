"""Make the tasks of an experiment, with the images that each one trains on and is tested on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cmtl_ir.base import names
from cmtl_ir.base.errors import suggestion
from cmtl_ir.tasks.config import DataConfig, SplitConfig, TaskConfig
from cmtl_ir.tasks.datasets.named import Role, clean_files, has_test, pairs_of, warn_if_incomplete
from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.extras import extra_files
from cmtl_ir.tasks.heldout import HELD_OUT, HELD_OUT_EMBEDDED, hold_out, label
from cmtl_ir.tasks.images.decode import DataError, image_files
from cmtl_ir.tasks.images.pack import OnError
from cmtl_ir.tasks.images.pairs import open_pairs
from cmtl_ir.tasks.images.resident import Residents
from cmtl_ir.tasks.images.store import ImageStore
from cmtl_ir.tasks.sources import DatasetSource, PairsConfig, Source
from cmtl_ir.tasks.task import Splits, Store, Task

log = logging.getLogger("cmtl_ir")


def build_tasks(
    tasks: Mapping[str, TaskConfig],
    data: DataConfig,
    seed: int,
    device: torch.device,
    cache: Path | None = None,
    *,
    smallest: int = 1,
) -> dict[str, Task]:
    """Return name -> task with all images opened; they are decoded at their first use.

    `smallest` is the shortest side in pixels of an image that the metric protocol can score. `cache` is where decoded
    images are stored; `None` means the default folder. Raise DataError for folders without images, training images
    smaller than a crop, test and validation images that cannot be scored, pairs that do not match, and files of a
    degradation that cannot be read.
    """
    for name in tasks:
        names.task(name)
    check_test_crop(data, smallest)
    for name in data.unlabelled:
        if name not in tasks:
            raise DataError(f"data.unlabelled names the unknown task {name!r}; {suggestion(name, list(tasks))}")
    for task in tasks.values():
        if task.degradation is not None:
            task.degradation.prepare()
    opener = _Opener(data, cache, smallest, turn=seed if data.holdout == "rotate" else 0)
    common: dict[str, Any] = {"seed": seed, "device": device}
    if device.type != "cpu":
        common["residents"] = Residents(device, data.gpu_gigabytes * 1e9)
    return {
        name: Task(name, opener.splits(name, task), task.degradation, data, repeats=task.repeats, **common)
        for name, task in tasks.items()
    }


@dataclass(frozen=True)
class _Opener:
    data: DataConfig
    cache: Path | None
    smallest: int
    turn: int = 0
    """Seed under `data.holdout: rotate`, else 0."""
    opened: dict[str, ImageStore] = field(default_factory=dict)

    def splits(self, name: str, task: TaskConfig) -> Splits:
        """Open the training, test and validation images of a task: its own if it names them, else those of `data`."""
        train, test = self._pairs(task) if task.paired else self._clean(task)
        val: Store | None = None
        if task.val is not None:
            val = self._split(task.val, "val")
        elif isinstance(self.data.val, float):
            train, val = hold_out(train, self.data.val, self.turn)
        elif self.data.val is not None and not task.paired:
            val = self._open(self.data.val, "val")
        train, unlabelled = self._large_enough(train), None
        if self.data.labelled < 1:
            train, unlabelled = label(train, self.data.labelled)
        if name in self.data.unlabelled:
            unlabelled = self._large_enough(self._degraded(name))
        return Splits(
            train,
            self._scorable(test, self.data.test_limit),
            None if val is None else self._scorable(val),
            unlabelled,
            unlabelled_degraded=name in self.data.unlabelled,
        )

    def _degraded(self, name: str) -> ImageStore:
        """Open the degraded images without truth of a task."""
        folders = self.data.unlabelled[name]
        source: list[str | DatasetSource] = [folders] if isinstance(folders, str) else [*folders]
        return open_source(source, "train", self.cache, self.data.on_error, self.data.root, self.data.bits)

    def _pairs(self, task: TaskConfig) -> tuple[Store, Store]:
        whole = self._open_pairs(task, "train")
        if task.test is not None:
            return whole, self._split(task.test, "test")
        if task.dataset is not None and has_test(task.dataset, task.split):
            return whole, self._open_pairs(task, "test")
        return hold_out(whole, HELD_OUT, self.turn)

    def _clean(self, task: TaskConfig) -> tuple[Store, Store]:
        base = task.clean or self.data.clean
        named = None if task.clean else self.data.train
        if task.test is not None:
            return self._open(named or base, "train"), self._split(task.test, "test")
        if self.data.test is not None:
            return self._open(named or base, "train"), self._open(self.data.test, "test")
        fixed = base == "embedded" and self.data.holdout == "fixed"
        if fixed or (isinstance(base, DatasetSource) and has_test(base.dataset, base.split)):
            return self._open(named or base, "train"), self._open(base, "test")
        share = HELD_OUT_EMBEDDED if base == "embedded" else HELD_OUT
        rest, held = hold_out(self._open(base, "train", whole=True), share, self.turn)
        return (rest if named is None else self._open(named, "train")), held

    def _split(self, config: SplitConfig, role: Role) -> Store:
        return self._open_pairs(config, role) if config.clean is None else self._open(config.clean, role)

    def _open_pairs(self, config: PairsConfig, role: Role) -> Store:
        store = open_pairs(pairs_of(config, role, self.data.root), self.cache, self.data.on_error, self.data.bits)
        if config.dataset is not None:
            warn_if_incomplete(config.dataset, role, config.split, len(store))
        return store

    def _open(self, source: Source, role: Role, *, whole: bool = False) -> ImageStore:
        """Open a source, for training with the extra images. `whole`: with the embedded test photographs."""
        key = f"{source} {role} {whole}"
        if key not in self.opened:
            data = self.data
            extra = extra_files(data.textures, data.dead_leaves, self.cache) if role == "train" else {}
            self.opened[key] = open_source(
                source, role, self.cache, data.on_error, data.root, data.bits, whole=whole, extra=extra
            )
        return self.opened[key]

    def _large_enough(self, store: Store) -> Store:
        patch = self.data.patch
        what = f"training images smaller than a crop of {patch}x{patch}"
        return self._without_small(store, patch, what, "lower data.patch, remove them")

    def _scorable(self, store: Store, limit: int | None = None) -> Store:
        """Return the images that the metric protocol can score, or all if each of the first `limit` can be."""
        side = self.smallest
        if store.sizes[:limit].min() >= side:
            return store
        what = f"images to be tested on that are smaller than the {side}x{side} which the metric protocol needs"
        return self._without_small(store, side, what, "remove them, choose another evaluation.protocol")

    def _without_small(self, store: Store, side: int, what: str, way_out: str) -> Store:
        """Return the images whose sides have `side` pixels or more. Raise DataError with the names of smaller images,
        unless they may be skipped."""
        large = store.sizes.min(axis=1) >= side
        small = [f"{store.names[i]} ({w}x{h})" for i, (h, w) in enumerate(store.sizes.tolist()) if not large[i]]
        if not small:
            return store
        message = f"{what}: {', '.join(small[:5])}{' ...' if small[5:] else ''}"
        if self.data.on_error == "stop" or not large.any():
            raise DataError(f"{message}; {way_out}, or set `data.on_error: skip`")
        log.warning("skipped: %s", message)
        return store.choose([i for i in range(len(store)) if large[i]])


def check_test_crop(data: DataConfig, smallest: int) -> None:
    """Raise DataError if `data.test_crop` is smaller than the metric protocol can score."""
    if data.test_crop is not None and data.test_crop < smallest:
        raise DataError(
            f"data.test_crop: {data.test_crop} is less than the {smallest} pixels that the metric protocol needs; set "
            f"`data.test_crop: {smallest}` or more, or choose another evaluation.protocol"
        )


def open_source(
    source: Source,
    role: Role,
    cache: Path | None = None,
    on_error: OnError = "stop",
    data_root: str | None = None,
    bits: int | None = None,
    *,
    whole: bool = False,
    extra: Mapping[str, Path] | None = None,
) -> ImageStore:
    """Open the images of a configured source. The role selects the split of `embedded` and of named data sets.

    `whole`: the test photographs of `embedded` are included. `extra`: name -> file of further images. `None`: none.
    """
    key, files = source_files(source, role, data_root, whole=whole)
    if extra:
        key, files = "\0".join([key, *map(str, extra.values())]), dict(sorted({**files, **extra}.items()))
    return ImageStore.of_files(key, files, cache, on_error, bits)


def source_files(
    source: Source, role: Role, data_root: str | None = None, *, whole: bool = False
) -> tuple[str, dict[str, Path]]:
    """Return (key for the cache, name -> file) of a source of clean images, without decoding anything.

    `whole`: the test photographs of `embedded` are included, because some will be held out.
    """
    if source == "embedded":
        files = embedded_files("train", "test") if whole else embedded_files("test" if role == "test" else "train")
        return "\0".join(map(str, files.values())), files
    entries = source if isinstance(source, list) else [source]
    folders = [entry for entry in entries if isinstance(entry, str)]
    if len(folders) == len(entries):
        return "\0".join(os.path.abspath(os.path.expanduser(one)) for one in folders), image_files(folders)
    keys, together = [], dict[str, Path]()
    for entry in entries:
        key, files = _entry_files(entry, role, data_root)
        name = entry.dataset if isinstance(entry, DatasetSource) else Path(key).name
        named = {f"{name}/{one}" if len(entries) > 1 else one: path for one, path in files.items()}
        if both := sorted(together.keys() & named.keys()):
            raise DataError(
                f"{together[both[0]]} and {named[both[0]]} would share the name {both[0]!r}; rename "
                "one of their folders"
            )
        keys.append(key)
        together |= named
    return "\0".join(keys), dict(sorted(together.items()))


def _entry_files(entry: str | DatasetSource, role: Role, data_root: str | None) -> tuple[str, dict[str, Path]]:
    if isinstance(entry, str):
        return os.path.abspath(os.path.expanduser(entry)), image_files(entry)
    key, files = clean_files(entry, role, data_root)
    warn_if_incomplete(entry.dataset, role, entry.split, len(files))
    return key, files
