"""Test images that are also trained on. The sets of the field overlap: 67 of the 400 images of "BSD400" are Rain100's.

Images are compared as 16 x 16 grey thumbnails, so that re-encoding, a border of some pixels or another size does not
hide a copy. A crop of a small part, a turned copy or a mirrored copy is not found. Copies correlate above 0.999. The
most similar pair of distinct photographs in BSDS500, Kodak24 and Rain13K reaches 0.92.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from cmtl_ir.tasks.images.likeness import thumbnail
from cmtl_ir.tasks.images.store import ImageStore, PairStore
from cmtl_ir.tasks.task import Store, Task

ALIKE = 0.98
"""Correlation of two thumbnails above which they show the same photograph."""


@dataclass(frozen=True)
class Leak:
    """One photograph that is both trained on and tested on."""

    train_task: str
    train_image: str
    test_task: str
    test_image: str
    similarity: float
    """Correlation of the two thumbnails."""
    exact: bool
    """Whether all pixels are equal."""


def leaks(tasks: Mapping[str, Task]) -> list[Leak]:
    """Return every test image of any task that any task trains on or selects on."""
    thumbnails: dict[str, Tensor] = {}
    seen = [
        (name, split)
        for name, task in tasks.items()
        for split in (task.splits.train, task.splits.val, task.splits.unlabelled)
        if split
    ]
    found = []
    for (learner, split), (tested, task) in product(seen, tasks.items()):
        test = task.splits.test
        for i, j, similarity in shared_images(split, test, thumbnails):
            exact = np.array_equal(_clean(split).image(i), _clean(test).image(j))
            found.append(Leak(learner, split.clean_names[i], tested, test.clean_names[j], similarity, exact))
    return found


def shared_images(one: Store, other: Store, known: dict[str, Tensor] | None = None) -> list[tuple[int, int, float]]:
    """Return (number in one, number in other, similarity) of clean images that show the same photograph.

    `known` keeps thumbnails by the digest of their store, for stores that are compared more than once. `None` keeps
    none between calls.
    """
    sides = []
    for clean in (_clean(one), _clean(other)):
        cache = known if known is not None else {}
        if clean.digest not in cache:
            cache[clean.digest] = torch.stack([thumbnail(clean.image(i)) for i in range(len(clean))])
        sides.append(cache[clean.digest])
    alike = sides[0] @ sides[1].T  # [N, M]
    return [(i, j, alike[i, j].item()) for i, j in (alike > ALIKE).nonzero().tolist()]


def _clean(store: Store) -> ImageStore:
    return store.clean if isinstance(store, PairStore) else store
