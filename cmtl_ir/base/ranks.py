"""One run in several processes: `torchrun --nproc_per_node 2 -m cmtl_ir run FILE`.

All ranks draw the same ids and each keeps a contiguous slice of the step's samples; what depends on all samples
(sample losses, row gradients) is summed over the ranks, so that every rank computes the same Gramian, the same weights
and the same update, and holds the same state of every part. Only rank 0 writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from cmtl_ir.base.errors import UserError

MEETING = timedelta(minutes=10)
"""How long ranks wait for each other to be there at all."""
PATIENCE = timedelta(days=1)
"""How long a rank waits for another: rank 0 evaluates alone; when a rank dies, torchrun ends the others."""

SKIP = -1
"""Rank 0's word for a run that is not trained now; any other number is the step from which it goes on."""


@dataclass(frozen=True)
class Ranks:
    """The processes that make the steps of a run together, seen from one of them; alone, nothing is exchanged."""

    number: int = 0
    count: int = 1

    def window(self, total: int) -> tuple[int, int]:
        """(start, stop): this rank's slice of `total` things."""
        return total * self.number // self.count, total * (self.number + 1) // self.count

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, in place; the same bits on all of them."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Flag by flag: does it hold on some rank?"""
        if self.count == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(bool(one) for one in found.tolist())

    def told(self, number: int = 0) -> int:
        """The number that rank 0 says."""
        if self.count == 1:
            return number
        said = torch.tensor([number])
        dist.broadcast(said, 0)
        return int(said)

    @torch.no_grad()
    def copy_of_first(self, tensors: Iterable[Tensor]) -> None:
        """Give every tensor, in place, the value that it has on rank 0."""
        for tensor in tensors if self.count > 1 else ():
            value = tensor.contiguous()
            dist.broadcast(value, 0)
            tensor.copy_(value)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            self.told()
            self.any(False)


ALONE = Ranks()
_joined = ALONE


def current() -> Ranks:
    """The ranks that this process has joined."""
    return _joined


def launched() -> bool:
    """True: torchrun, or something that speaks its language, started several processes."""
    return {"RANK", "MASTER_ADDR"} <= set(os.environ) and int(os.environ.get("WORLD_SIZE", "1")) > 1


def refuse(what: str, instead: str) -> None:
    """Raise UserError where several ranks would do the same thing side by side."""
    if launched():
        raise UserError(f"{what} does not share work among the processes of torchrun: {instead}")


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this process: those that torchrun started, or it alone."""
    global _joined
    if not launched():
        yield ALONE
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    store, rank, count = next(dist.rendezvous("env://", timeout=MEETING))
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    _joined = Ranks(rank, count)
    try:
        yield _joined
    finally:
        _joined = ALONE
        dist.destroy_process_group()
