"""Row gradients of one model: the buffer J, its views by row and by parameter, and the update computed from it.

Shapes: M rows, P trained parameters (flattened in the order of `named_parameters`), N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.base.ranks import Ranks
from cmtl_ir.gradients.gramian import gramian
from cmtl_ir.strategy.output import Output

Forward = Callable[[int, int], Output]
"""(start, stop) -> output of the network for samples start .. stop of the step."""
Losses = Callable[[Output, int], Tensor]
"""(output for the samples of row k, k) -> scalar mean loss of row k."""


class Jacobian:
    """The gradients of all rows, in buffers that are kept between steps.

    Attributes:
        parameters: the trained parameters, with their `names`.
        offsets: first column of each parameter, by name; `size` is P.
        buffer: J [M or more, P], float32, or float64 for a float64 model.
        row_views: for each row, its gradients with the parameters' shapes and strides.
        blocks: for each parameter, its gradients in all rows, [M or more, *shape].
        reached: for each parameter, whether any row of the last step reached it.
    """

    def __init__(self, model: nn.Module, rows: int) -> None:
        kept = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not kept:
            raise ValueError("no parameter is trained: all are frozen")
        self.names, self.parameters = tuple(kept), tuple(kept.values())
        self.offsets: dict[str, int] = {}
        self.size = 0
        for name, parameter in kept.items():
            self.offsets[name] = self.size
            self.size += parameter.numel()
        self.reached = [False] * len(kept)
        self._everywhere: Tensor | None = None
        self._known = [name for name, _ in model.named_parameters()]
        self._held = list(model.parameters())
        self._buffers = [module._buffers for module in model.modules()]
        self.allocate(rows)
        self.update = self.buffer.new_zeros(self.size)  # [P]
        self.update_views = self._views(self.update)

    def allocate(self, rows: int) -> None:
        """Allocate J for this number of rows, filled with zeros."""
        dtype = torch.float64 if self.parameters[0].dtype == torch.float64 else torch.float32
        self.buffer = torch.zeros(rows, self.size, dtype=dtype, device=self.parameters[0].device)
        self.row_views = [self._views(row) for row in self.buffer]
        offsets = self.offsets.values()
        self.blocks = [
            torch.as_strided(self.buffer, (rows, *p.shape), (self.size, *p.stride()), offset)
            for p, offset in zip(self.parameters, offsets, strict=True)
        ]

    def _views(self, flat: Tensor) -> list[Tensor]:
        """Return views of flat [P] with the parameters' shapes and strides, so that channels_last weights stay so."""
        offsets = [flat.storage_offset() + offset for offset in self.offsets.values()]
        return [
            torch.as_strided(flat, parameter.shape, parameter.stride(), offset)
            for parameter, offset in zip(self.parameters, offsets, strict=True)
        ]

    def constants(self) -> list[Tensor]:
        """Return the tensors that belong to the network and to no sample: all parameters and the current buffers."""
        return [*self._held, *(buffer for own in self._buffers for buffer in own.values() if buffer is not None)]

    def flattened(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return one tensor per parameter flattened to [P] in the layout of the rows."""
        flat = torch.empty_like(self.update)
        torch._foreach_copy_(self._views(flat), list(tensors))
        return flat

    # ----------------------------------------------------------------------------------------- products of J

    def gramian(self, rows: Tensor, columns: Sequence[slice] | None = None) -> Tensor:
        """Return rows @ rows.T [M, M] of rows [M, P], float64 on the CPU. `columns` restricts it, `None` means all."""
        if columns is None:
            return gramian(rows)
        nothing = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        return sum((gramian(rows[:, part]) for part in columns), nothing)

    def columns(self, patterns: Sequence[str], field: str) -> list[slice]:
        """Return the columns of the trained parameters whose names match shell patterns. Neighbours are joined.

        Raises:
            ConfigError: if no parameter of the model matches a pattern. The message names `field`.
        """
        known = self._known
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
        """Return weights [M] @ rows [M, P] as [P], in the buffer that `write_update` uses."""
        return torch.mv(rows.T, weights.to(rows), out=self.update)

    def write_update(self, update: Tensor) -> None:
        """Set `.grad` of every parameter to a view of update [P], or to `None` if no row reached it."""
        if update.data_ptr() != self.update.data_ptr():
            self.update.copy_(update)
        for parameter, view, reached in zip(self.parameters, self.update_views, self.reached, strict=True):
            parameter.grad = view if reached else None

    def of_all_ranks(
        self, rows: Tensor, numbers: Sequence[int], shares: Sequence[float], total: int, ranks: Ranks
    ) -> Tensor:
        """Return the mean gradients [total, P] over all ranks.

        Args:
            rows: mean gradients [M, P] of the samples of this rank.
            numbers: which of the `total` rows these are, [M].
            shares: the share of each row's samples that this rank has, [M].
            total: number of rows over all ranks.
            ranks: the processes of this run.
        """
        if self._everywhere is None or len(self._everywhere) < total:
            self._everywhere = self.buffer.new_empty(total, self.size)
        everywhere = self._everywhere[:total].zero_()
        for row, number, share in zip(rows, numbers, shares, strict=True):
            torch.mul(row, share, out=everywhere[number])
        self.reached = list(ranks.any(*self.reached))
        return ranks.sum(everywhere)
