"""The gradient of every row, in one preallocated buffer, and the Gramian of these rows.

Shapes: M rows, P parameters (those that are trained, flattened in the order of `named_parameters`), N samples.
A sample belongs to one row, so the graphs of the rows are disjoint: M row gradients cost the FLOPs of one joint pass.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError, UserError, suggestion
from cmtl_ir.base.ranks import Ranks
from cmtl_ir.gradients.one_pass import grouped, probe
from cmtl_ir.gradients.sink import Unsupported
from cmtl_ir.strategy.output import Output

log = logging.getLogger("cmtl_ir")

Engine = Literal["stream", "grouped"]
Forward = Callable[[int, int], Output]
"""(start, stop) -> the network's output for samples start .. stop of the step."""
Losses = Callable[[Output, int], Tensor]
"""(output for the samples of row k, k) -> scalar mean loss of row k."""

CHUNK = 1 << 16  # columns of a Gramian's chunk: the fastest of 2^13 .. 2^16 for 5 and for 16 rows (measured: CPU)


class RowGradients:
    """Row gradients of one model; keeps its buffers from step to step."""

    def __init__(
        self,
        model: nn.Module,
        rows: int,
        engine: Engine,
        micro_batch: int | None = None,
    ) -> None:
        """`micro_batch`: at most so many samples a forward pass (stream only); a row with more costs a second forward
        pass, without graph."""
        kept = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not kept:
            raise ValueError("no parameter is trained: all are frozen")
        self.names, self.parameters = tuple(kept), tuple(kept.values())
        self.offsets: dict[str, int] = {}
        self.size = 0  # P
        for name, parameter in kept.items():
            self.offsets[name] = self.size
            self.size += parameter.numel()
        self.model, self.engine, self.micro_batch = model, engine, micro_batch
        self.fallback: str | None = None
        """Why `grouped` gave way to `stream`; None: it did not."""
        self.reached = [False] * len(kept)
        self._everywhere: Tensor | None = None
        self._probed = False
        self._coupling = list(_coupling_modules(model))
        self._held = list(model.parameters())
        self._buffers = [module._buffers for module in model.modules()]
        self._allocate(rows)
        self.update = self.buffer.new_zeros(self.size)  # [P]
        self.update_views = self._views(self.update)

    def __call__(self, forward: Forward, sizes: Sequence[int], losses: Losses) -> tuple[Tensor, list[Tensor]]:
        """Raw gradients of the rows' mean losses, a view [M, P] that the next call overwrites; the losses, detached."""
        refuse_coupling(self._coupling)
        if len(sizes) > len(self.buffer):
            self._allocate(len(sizes))
        rows = self.buffer[: len(sizes)]
        if self.engine == "grouped" and self.fallback is None and len(sizes) > 1:
            try:
                return rows, self._grouped(forward, sizes, losses)
            except Unsupported as error:
                self.fallback = str(error)
                log.warning("row gradients go row by row (engine stream): %s", error)
        return rows, self.stream(forward, sizes, losses)

    def write_update(self, update: Tensor) -> None:
        """[P] -> `.grad` of every parameter, as views of one buffer; None where no row reached it, as autograd does."""
        if update.data_ptr() != self.update.data_ptr():
            self.update.copy_(update)
        for parameter, view, reached in zip(self.parameters, self.update_views, self.reached, strict=True):
            parameter.grad = view if reached else None

    def of_all_ranks(
        self, rows: Tensor, numbers: Sequence[int], shares: Sequence[float], total: int, ranks: Ranks
    ) -> Tensor:
        """[total, P] mean gradients over all ranks, from those of this one: `rows` are `numbers` of them, each with its
        share of the samples."""
        if self._everywhere is None or len(self._everywhere) < total:
            self._everywhere = self.buffer.new_empty(total, self.size)
        everywhere = self._everywhere[:total].zero_()
        for row, number, share in zip(rows, numbers, shares, strict=True):
            torch.mul(row, share, out=everywhere[number])
        self.reached = list(ranks.any(*self.reached))
        return ranks.sum(everywhere)

    def constants(self) -> list[Tensor]:
        """What the network holds, which is no sample's: all parameters, and the buffers as they are now."""
        return [*self._held, *(buffer for own in self._buffers for buffer in own.values() if buffer is not None)]

    def flattened(self, tensors: Sequence[Tensor]) -> Tensor:
        """[P] in the layout of the rows, from one tensor a parameter."""
        flat = torch.empty_like(self.update)
        torch._foreach_copy_(self._views(flat), list(tensors))
        return flat

    def gramian(self, rows: Tensor, columns: Sequence[slice] | None = None) -> Tensor:
        """rows [M, P] -> rows @ rows.T [M, M], float64 on the CPU, in the rows' own units; of some columns only."""
        if columns is None:
            return gramian(rows)
        nothing = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        return sum((gramian(rows[:, part]) for part in columns), nothing)

    def columns(self, patterns: Sequence[str], field: str) -> list[slice]:
        """Where the trained parameters of these names (shell patterns) are in a row; neighbours are joined.

        Raises ConfigError, which names the field, for a pattern that no parameter of the model matches.
        """
        known = [name for name, _ in self.model.named_parameters()]
        for pattern in patterns:
            if not any(fnmatch(name, pattern) for name in known):
                raise ConfigError(f"{field}: no parameter matches {pattern!r}; {suggestion(pattern, known)}")
        found: list[slice] = []
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if any(fnmatch(name, pattern) for pattern in patterns):
                start, stop = self.offsets[name], self.offsets[name] + parameter.numel()
                joined = bool(found) and found[-1].stop == start
                found[-1:] = [slice(found[-1].start, stop)] if joined else [*found[-1:], slice(start, stop)]
        return found

    def combined(self, weights: Tensor, rows: Tensor) -> Tensor:
        """weights [M], rows [M, P] -> weights @ rows [P], in the buffer that `write_update` hands out."""
        return torch.mv(rows.T, weights.to(rows), out=self.update)

    def _grouped(self, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
        if not self._probed:
            if (reason := probe(self, forward, sizes)) is not None:
                raise Unsupported(reason)
            self._probed = True
        return grouped(self, forward, sizes, losses)

    # -------------------------------------------------------------------------------------------- stream

    def stream(self, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
        """Fill J row by row, each from its own graph; the losses, detached."""
        self.reached = [False] * len(self.parameters)
        values, start = [], 0
        for row, size in enumerate(sizes):
            if self.micro_batch is None or size <= self.micro_batch:
                loss = losses(forward(start, start + size), row)
                self._write_row(row, torch.autograd.grad(loss, self.parameters, allow_unused=True))
            else:
                loss = self._stream_pieces(forward, range(start, start + size, self.micro_batch), losses, row)
            values.append(loss.detach())
            start += size
        return values

    def _stream_pieces(self, forward: Forward, starts: range, losses: Losses, row: int) -> Tensor:
        """The chain rule cut at the output: its gradient from a pass without graph, then one graph a piece."""
        pieces = [(start, min(start + starts.step, starts.stop)) for start in starts]
        with torch.no_grad():
            outputs = [forward(*piece) for piece in pieces]
        tensors = zip(*(output.tensors() for output in outputs), strict=True)
        whole = [torch.cat(parts).requires_grad_() for parts in tensors]
        loss = losses(outputs[0].with_tensors(whole), row)
        pulls = torch.autograd.grad(loss, whole, allow_unused=True)
        for start, stop in pieces:
            window = slice(start - starts.start, stop - starts.start)
            heads = [
                (y, pull[window])
                for y, pull in zip(forward(start, stop).tensors(), pulls, strict=True)
                if pull is not None
            ]
            gradients = torch.autograd.grad(
                [y for y, _ in heads], self.parameters, [pull for _, pull in heads], allow_unused=True
            )
            self._write_row(row, gradients, add=start > starts.start)
        return loss

    def _write_row(self, row: int, gradients: Sequence[Tensor | None], add: bool = False) -> None:
        views = self._row_views[row]
        given = [(view, gradient) for view, gradient in zip(views, gradients, strict=True) if gradient is not None]
        write = torch._foreach_add_ if add else torch._foreach_copy_
        write([view for view, _ in given], [gradient for _, gradient in given])
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                self.reached[i] = True
            elif not add:
                views[i].zero_()

    # ------------------------------------------------------------------------------------------- buffers

    def _allocate(self, rows: int) -> None:
        dtype = torch.float64 if self.parameters[0].dtype == torch.float64 else torch.float32
        self.buffer = torch.zeros(rows, self.size, dtype=dtype, device=self.parameters[0].device)  # J [M, P]
        self._row_views = [self._views(row) for row in self.buffer]
        offsets = self.offsets.values()
        self.blocks = [  # a parameter's gradients in all rows, [rows, *shape]
            torch.as_strided(self.buffer, (rows, *p.shape), (self.size, *p.stride()), offset)
            for p, offset in zip(self.parameters, offsets, strict=True)
        ]

    def _views(self, flat: Tensor) -> list[Tensor]:
        """flat [P] as tensors with the parameters' shapes and strides: channels_last weights stay channels_last."""
        offsets = [flat.storage_offset() + offset for offset in self.offsets.values()]
        return [
            torch.as_strided(flat, parameter.shape, parameter.stride(), offset)
            for parameter, offset in zip(self.parameters, offsets, strict=True)
        ]


def gramian(rows: Tensor) -> Tensor:
    """rows [M, P] -> rows @ rows.T [M, M], float64 on the CPU.

    Chunks of columns are widened to float64 and accumulated there. Products of float32 numbers then neither overflow
    nor vanish (1e-90 .. 1e77), so only float64 rows are divided by a power of two first; the result is in the rows'
    own units either way.
    """
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    largest = float(rows.abs().max()) if rows.dtype == torch.float64 else 1.0
    scale = 2.0 ** round(math.log2(largest)) if 0 < largest < math.inf else 1.0
    space = torch.empty(len(rows), CHUNK, dtype=torch.float64, device=rows.device)
    for chunk in rows.split(CHUNK, dim=1):
        wide = space[:, : chunk.shape[1]].copy_(chunk)
        if scale != 1.0:
            wide /= scale
        total.addmm_(wide, wide.T)
    return (total * scale * scale).cpu()


LARGE_ROW = 1 << 16  # pixels; measured on a CPU, two threads (tests/benchmarks/RESULTS.md), not on a GPU


def choose_engine(samples_per_row: float, patch: int) -> Engine:
    """The faster engine, by a fixed rule: timing inside a run would change its last bits between repeats.

    `grouped` saves the passes of small rows; where one row fills the cores and exceeds the caches by itself, `stream`
    is as fast, for 1/K of the memory of activations.
    """
    return "grouped" if samples_per_row * patch * patch < LARGE_ROW else "stream"


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Sum `.grad` over the ranks in one exchange; None stays None where no rank has one, as autograd has it."""
    if ranks.count == 1:
        return
    reached = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = ranks.sum(torch.cat([reached, *(one.flatten() for one in own)]))
    summed = flat[len(parameters) :].split([p.numel() for p in parameters])
    for parameter, value, known in zip(parameters, summed, flat[: len(parameters)].tolist(), strict=True):
        parameter.grad = own_layout(parameter, value) if known else None


def own_layout(parameter: Tensor, flat: Tensor) -> Tensor:
    """Flat values, in the order of `flatten`, with the parameter's shape and strides."""
    return torch.empty_like(parameter).copy_(flat.view(parameter.shape))


# --------------------------------------------------------------------------------- samples that see each other


def refuse_coupling_over_ranks(model: nn.Module) -> None:
    """Raise UserError where a sample's output depends on which samples are in the same process."""
    for name, module in _coupling_modules(model):
        if module.training:
            raise UserError(
                f"{name or 'the backbone'} ({type(module).__name__}) couples the samples of a batch in train mode, and "
                "the processes of torchrun each see a part of it only: start the same command without torchrun"
            )


def refuse_coupling(coupling: Sequence[tuple[str, nn.Module]]) -> None:
    """Raise ValueError where samples of different rows would see each other: rows would not be separable."""
    for name, module in coupling:
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if batch_norm and not module.training and not module.track_running_stats:
            raise ValueError(
                f"{name} ({type(module).__name__}) has no running statistics and couples the samples of a batch: "
                "row gradients do not exist. Use LayerNorm or GroupNorm, or track_running_stats=True and .eval()"
            )
        if module.training:
            raise ValueError(
                f"{name} ({type(module).__name__}) couples the samples of a batch in train mode: row gradients "
                f"do not exist. Freeze its statistics with model.get_submodule({name!r}).eval()"
            )


def _coupling_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or (
            getattr(module, "couples_samples", False) is True and not _parts_say_more(module)
        ):
            yield name, module


def _parts_say_more(module: nn.Module) -> bool:
    """A model that declares coupling and holds BatchNorm couples through these modules, which may be in eval mode."""
    inner = (part for part in module.modules() if part is not module)
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(part, "couples_samples", False) is True
        for part in inner
    )
