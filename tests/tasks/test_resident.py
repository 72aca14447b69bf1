"""Training images on the GPU: the same crops, one copy per pack, and never more than the budget (here on the CPU)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmtl_ir.tasks.images.pairs import open_pairs
from cmtl_ir.tasks.images.resident import Residents
from cmtl_ir.tasks.images.store import ImageStore, PairStore
from cmtl_ir.tasks.sources import PairsConfig
from cmtl_ir.tasks.task import Task
from tests.tasks.files import folder_of
from tests.tasks.tasks import CPU, IDS, equal, task_of

BYTES = 3 * 40 * 56 * 3  # three images a folder


@pytest.fixture
def pairs(tmp_path: Path) -> PairStore:
    names = ["a.png", "b.png", "c.png"]
    folders = [str(folder_of(tmp_path / side, names)) for side in ("in", "gt")]
    (tmp_path / "in" / "a.png").write_bytes((tmp_path / "in" / "b.png").read_bytes())  # else both packs are equal
    return open_pairs(PairsConfig(input=folders[0], target=folders[1]), tmp_path / "cache")


def residents(budget: float) -> Residents:
    return Residents(CPU, budget)


def test_batches_are_the_same_bits_from_the_copy() -> None:
    plain = task_of({"degradation": "gaussian_noise"}, patch=16)
    kept = Task("one", plain.splits, plain.degradation, plain.data, seed=0, device=CPU, residents=residents(1e9))
    assert equal(kept.batch(IDS), plain.batch(IDS))
    assert isinstance(kept._cut_from, ImageStore) and kept._cut_from.copy is not None
    assert kept._cut_from.copy.data_ptr() != plain.splits.train.pack.flat.data_ptr()  # type: ignore[union-attr]


def test_pairs_are_cut_alike_from_the_copy(pairs: PairStore) -> None:
    numbers, corners, flips = torch.tensor([2, 0, 1]), torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([0, 5, 7])
    crops = []
    for store in (pairs, residents(2 * BYTES).kept(pairs).choose([0, 1, 2])):
        out = [torch.empty(3, 3, 16, 16, dtype=torch.uint8) for _ in range(2)]
        store.crops(numbers, corners, flips, *out)
        crops.append(torch.stack(out))
    assert torch.equal(*crops) and not torch.equal(crops[0][0], crops[0][1])


@pytest.mark.parametrize(("budget", "kept"), [(0, False), (2 * BYTES - 1, False), (2 * BYTES, True)])
def test_both_sides_of_pairs_are_kept_or_neither(pairs: PairStore, budget: float, kept: bool) -> None:
    found = residents(budget).kept(pairs)
    assert isinstance(found, PairStore)
    assert [side.copy is not None for side in (found.degraded, found.clean)] == [kept, kept]


def test_a_pack_is_copied_and_paid_once(pairs: PairStore) -> None:
    mine, others = residents(BYTES), residents(BYTES)
    first = mine.kept(pairs.clean)
    some = mine.kept(pairs.clean.choose([1]))
    other = others.kept(pairs.clean)
    assert isinstance(first, ImageStore) and isinstance(some, ImageStore) and isinstance(other, ImageStore)
    assert first.copy is not None and first.copy is some.copy is other.copy
    assert mine.left == others.left == 0 and mine.kept(pairs.degraded) is pairs.degraded
