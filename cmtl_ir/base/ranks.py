"""One run in several processes: `torchrun --nproc_per_node 2 -m cmtl_ir run FILE`.

All ranks draw the same ids, and each keeps a contiguous slice of the samples. Sample losses and row gradients are
summed over the ranks. So every rank computes the same Gramian, weights and update, and holds the same state of every
part. Only rank 0 writes files.
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
"""Time-out for the ranks to join."""
PATIENCE = timedelta(days=1)
"""Time-out of collective calls. It is long because rank 0 evaluates alone; torchrun ends the others if a rank dies."""

SKIP = -1
"""Broadcast by rank 0 for a run that is not trained now. Any other number is the step from which the run continues."""


@dataclass(frozen=True)
class Ranks:
    """The group of processes that train a run together, as seen by one of them. A single process exchanges nothing."""

    number: int = 0
    count: int = 1

    def window(self, total: int) -> tuple[int, int]:
        """Return (start, stop), this rank's slice of `total` items."""
        return total * self.number // self.count, total * (self.number + 1) // self.count

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the ranks in place and return it. The bits are the same on all ranks."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether it is set on at least one rank."""
        if self.count == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(bool(one) for one in found.tolist())

    def told(self, number: int = 0) -> int:
        """Return the number given on rank 0, on all ranks."""
        if self.count == 1:
            return number
        said = torch.tensor([number])
        dist.broadcast(said, 0)
        return int(said)

    @torch.no_grad()
    def copy_of_first(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of rank 0 into the tensors, in place."""
        for tensor in tensors if self.count > 1 else ():
            value = tensor.contiguous()
            dist.broadcast(value, 0)
            tensor.copy_(value)

    def wait(self) -> None:
        """Wait until all ranks reach this call."""
        if self.count > 1:
            self.told()
            self.any(False)


ALONE = Ranks()
_joined = ALONE


def current() -> Ranks:
    """Return the ranks that this process has joined."""
    return _joined


def launched() -> bool:
    """Return whether torchrun, or a launcher that sets the same variables, started several processes."""
    return {"RANK", "MASTER_ADDR"} <= set(os.environ) and int(os.environ.get("WORLD_SIZE", "1")) > 1


def refuse(what: str, instead: str) -> None:
    """Raise UserError if several ranks are launched for a command that cannot share its work among them."""
    if launched():
        raise UserError(f"{what} does not share work among the processes of torchrun: {instead}")


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks that torchrun started, and leave them at the end. Without torchrun, the process is alone."""
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
