"""The cost of a backbone for one image: parameters, multiply-adds, milliseconds and memory.

Multiply-adds are those of convolutions and matrix products, including attention, as torch.utils.flop_counter counts
them. Its count is halved, because it counts a multiply-add as two operations. Papers often print convolutions alone,
which is less.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cmtl_ir import backbones
from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.base.errors import UserError, brief

REPEATS = 5
PATIENCE = 3.0
"""Seconds after which a slow network is not timed again."""


@dataclass(frozen=True)
class Profile:
    """One row of the efficiency table."""

    backbone: str
    parameters: int
    unused: int
    """How many of the parameters no pass reads. They exist so that the authors' weights load strictly."""
    multiply_adds: int
    """For one image."""
    milliseconds: float
    """For one image, the median of several passes after a first one that is not timed."""
    peak_bytes: int
    """Largest number of bytes that are alive at one moment, weights included, in a pass without gradients. On a GPU it
    is what its allocator counts, on a CPU the sizes of live tensors."""


@torch.no_grad()
def profile(fields: Mapping[str, Any], side: int, device: torch.device) -> Profile:
    """Measure the cost of restoring one image of side x side pixels, in float32, with fresh weights.

    Raises ConfigError if the network refuses its fields, and UserError if it fails on an image of this size.
    """
    model = network_to_device(initial_model(fields, 0), device).eval()
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    image, task = image.contiguous(memory_format=torch.channels_last), torch.zeros(1, dtype=torch.int64, device=device)
    weights = sum(one.numel() for one in model.parameters())
    try:
        with _peak(device) as peak:
            model(image, task)
    except RuntimeError as error:
        name = fields["name"]
        raise UserError(
            f"backbone {name}: fails on {side}x{side} pixels: {brief(error)}; give another --size, or other fields "
            f"(`cmtl-ir describe {name}`)"
        ) from error
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < PATIENCE:
        times.append(_seconds(model, image, task))
    count = _count_of(fields, model, image)
    return Profile(
        str(fields["name"]), weights, unused_of(model), count, 1e3 * statistics.median(times), peak() + _bytes(model)
    )


def unused_of(model: nn.Module) -> int:
    """Return how many numbers the parameters have that the network declares unused."""
    patterns = getattr(model, "unused", ())
    named = model.named_parameters()
    return sum(one.numel() for name, one in named if any(fnmatchcase(name, pattern) for pattern in patterns))


@torch.enable_grad()  # without gradients, the counter's hooks fail in a network that starts from a parameter
def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Count the multiply-adds of one pass over images [B, 3, H, W]. On the device "meta" nothing is computed."""
    counter = FlopCounterMode(display=False)
    task = torch.zeros(len(image), dtype=torch.int64, device=image.device)
    # The counter does not know fused attention on CPUs and would count it as nothing.
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(image, task)
    return counter.get_total_flops() // 2


def _count_of(fields: Mapping[str, Any], model: nn.Module, image: Tensor) -> int:
    try:
        with torch.device("meta"):
            return multiply_adds(backbones.build(**fields).eval(), torch.empty_like(image, device="meta"))
    except (NotImplementedError, RuntimeError):  # a network of a user's own whose path depends on values
        return multiply_adds(model, image)


def _bytes(model: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))


def _seconds(model: nn.Module, image: Tensor, task: Tensor) -> float:
    _wait(image.device)
    start = time.perf_counter()
    model(image, task)
    _wait(image.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


# ------------------------------------------------------------------------------------------------------------ memory


@contextmanager
def _peak(device: torch.device) -> Iterator[Any]:
    """Yield a function that returns how many bytes more than before were alive at one moment inside this context."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    with LiveTensors() as live:
        yield lambda: live.peak


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of storages that operations made and that are still alive, `now`, and their maximum, `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and one.untyped_storage()._cdata not in given | self._known:
                self._born(one.untyped_storage())
        return result

    def _born(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._died, key, size)

    def _died(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
