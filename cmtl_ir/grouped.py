"""Row gradients from ONE joint forward and backward pass: only the parameters' gradients are split by row.

A mode sees every torch operation. One that takes a tracked tensor (a parameter, or a tensor made from parameters
alone) and data runs as an autograd Function that gives the data's gradient as usual, writes the tracked tensor's
gradient row by row, straight into J, and gives None for it. The backbone needs nothing for this.

Shapes: M rows, P parameters, N samples of a step; data has N * B entries along its first dimension (B windows a
sample, often 1), sample after sample, so that a row is a slice. That a backbone keeps to this is checked, see `probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cmtl_ir.grouped_functions import Expand
from cmtl_ir.grouped_rules import RULES, by_slices
from cmtl_ir.grouped_sink import Sink, Unsupported

if TYPE_CHECKING:
    from cmtl_ir.gradients import Forward, Losses, RowGradients


def grouped(engine: RowGradients, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
    """Fill J; the losses. Raises Unsupported where an operation has no rule."""
    sink = Sink(sizes, dict(zip(map(id, engine.parameters), engine.blocks, strict=True)))
    mode = Grouping(sink, engine)
    with mode:
        output = forward(0, sum(sizes))
    several = isinstance(output, list | tuple)
    parts = zip(*(y.split(list(sizes)) for y in (output if several else [output])), strict=True)
    values = [losses(list(part) if several else part[0], row) for row, part in enumerate(parts)]
    leaks = torch.autograd.grad(values, engine.parameters, allow_unused=True)
    for name, leak in zip(engine.names, leaks, strict=True):
        if leak is not None:
            raise Unsupported(f"{name} is used where no torch function mode sees it")
    mode.settle()
    for i, (parameter, block) in enumerate(zip(engine.parameters, engine.blocks, strict=True)):
        engine.reached[i] = id(parameter) in sink.written
        if not engine.reached[i]:
            block[: len(sizes)].zero_()
    return [value.detach() for value in values]


class Grouping(TorchFunctionMode):
    """Finds the operations that take a tracked tensor, and runs them by a rule."""

    def __init__(self, sink: Sink, engine: RowGradients) -> None:
        super().__init__()
        self.sink = sink
        # id -> the tensor, which stays alive so that its id stays its own, and the parameters that it is made from
        self.tracked: dict[int, tuple[Tensor, frozenset[Tensor]]] = {
            id(parameter): (parameter, frozenset([parameter])) for parameter in engine.parameters
        }
        self.constants = {t.untyped_storage().data_ptr() for t in (*engine.model.buffers(), *engine.model.parameters())}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tracked = self.tracked
        for value in (*args, *kwargs.values()) if kwargs else args:
            if id(value) in tracked or (isinstance(value, list | tuple) and any(id(v) in tracked for v in value)):
                return self._call(func, args, kwargs) if torch.is_grad_enabled() else func(*args, **kwargs)
        return func(*args, **kwargs)

    def _call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """An operation that takes a tracked tensor: with data, by a rule; otherwise autograd's own affair for now."""
        name = getattr(func, "__name__", str(func))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        try:
            if "data" in [self.role(tensor) for tensor in tensors]:
                return self._call_with_data(name, func, args, kwargs)
        except Unsupported as error:
            raise Unsupported(f"{name}: {error}") from None
        if name in EXPANDING and (size := _new_first(func, args, kwargs, self.sink.samples)) is not None:
            return Expand.apply(self.sink, args[0], id(args[0]), size)
        output = func(*args, **kwargs)
        roots = frozenset().union(*(self.tracked[id(t)][1] for t in tensors if id(t) in self.tracked))
        for made in tree_leaves(output):
            if isinstance(made, Tensor) and made.requires_grad and id(made) not in self.tracked:
                self.tracked[id(made)] = made, roots
        return output

    def _call_with_data(self, name: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if kwargs.get("out") is not None or _in_place(name):
            raise Unsupported("writes in place")
        output = RULES.get(name.strip("_"), by_slices)(self, func, args, kwargs)
        return by_slices(self, func, args, kwargs) if output is NotImplemented else output

    def role(self, tensor: Tensor) -> int | str:
        """The key of a tracked tensor; "data": something of each sample along the first dimension; "constant"."""
        if id(tensor) in self.tracked:
            return id(tensor)
        if tensor.untyped_storage().data_ptr() in self.constants:
            return "constant"
        if tensor.dim() and tensor.shape[0] % self.sink.samples == 0:
            return "data"
        if tensor.requires_grad:
            raise Unsupported("a parameter meets something that is not sample by sample")
        return "constant"

    def settle(self) -> None:
        """From tensors made from parameters to the parameters, row by row."""
        for key, gradients in self.sink.aside.items():
            tensor, roots = self.tracked[key]
            wanted = list(roots)
            pulls = [
                torch.autograd.grad(tensor, wanted, gradient.to(tensor.dtype), retain_graph=True, allow_unused=True)
                for gradient in gradients
            ]
            for root, pulled in zip(wanted, zip(*pulls, strict=True), strict=True):
                if pulled[0] is not None:
                    block, seen = self.sink.open(id(root), root)
                    for target, pull in zip(block, pulled, strict=True):
                        target.add_(pull) if seen else target.copy_(pull)


EXPANDING = {"expand", "expand_as", "broadcast_to", "repeat"}


def _in_place(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name != "__invert__")


def _new_first(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], samples: int) -> torch.Size | None:
    """The size that a parameter is expanded to, where its first dimension is a new one that counts samples."""
    with torch.no_grad():
        size = func(args[0].detach(), *args[1:], **kwargs).shape
    old = (*(1 for _ in size[args[0].dim() :]), *args[0].shape)
    grown = size[0] % samples == 0 and old[0] == 1
    return size if grown and all(a in (1, b) for a, b in zip(old, size, strict=True)) else None


# ------------------------------------------------------------------------------------------------- the check


def probe(engine: RowGradients, forward: Forward, sizes: Sequence[int]) -> str | None:
    """Why `grouped` cannot serve this backbone; None: it gives what `stream` gives.

    Under weights moved a little (zeros would hide errors), with sums of the outputs in place of losses, which belong
    to others and may count their calls. Two sketches a row and parameter are compared: its norm and one projection.
    """
    with torch.no_grad():
        torch._foreach_copy_(engine.update_views, engine.parameters)
    try:
        with torch.no_grad():
            for i, parameter in enumerate(engine.parameters):
                size = float(parameter.square().mean().sqrt()) or 1.0
                parameter.add_(_waves(parameter, i) * (MOVED * size))
        engine.stream(forward, sizes, _sum_of_waves)
        streamed = _sketches(engine, len(sizes))
        grouped(engine, forward, sizes, _sum_of_waves)
        return _difference(engine, streamed, _sketches(engine, len(sizes)))
    except (Unsupported, RuntimeError) as error:
        return str(error).splitlines()[0]
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(engine.parameters), engine.update_views)


MOVED = 0.02  # of a parameter's root mean square
ALIKE = 0.1  # of a gradient's norm: bfloat16 differs by a few percent, samples in the wrong row by about 1
NOISE = 0.01  # of the row's root mean square: gradients below it may be rounding and nothing else


def _waves(like: Tensor, phase: float) -> Tensor:
    count = torch.arange(like.numel(), dtype=torch.float32, device=like.device)
    return torch.cos(count * 1.7 + phase).to(like.dtype).view(like.shape)


def _sum_of_waves(output: Any, row: int) -> Tensor:
    parts = [y.double() if y.dtype == torch.float64 else y.float() for y in _as_list(output)]
    return torch.stack([(part * _waves(part, row)).sum() for part in parts]).sum()


def _as_list(output: Any) -> list[Tensor]:
    return list(output) if isinstance(output, list | tuple) else [output]


def _sketches(engine: RowGradients, rows: int) -> Tensor:
    """[parameters, 2, rows]: norm and projection on a fixed vector of every row's gradient."""
    blocks = [block[:rows].flatten(1) for block in engine.blocks]
    pairs = [torch.stack([block.norm(dim=1), block @ _waves(block[0], i)]) for i, block in enumerate(blocks)]
    return torch.stack(pairs).double()


def _difference(engine: RowGradients, streamed: Tensor, joint: Tensor) -> str | None:
    norms = streamed[:, 0]  # [parameters, rows]
    numbers = torch.tensor([p.numel() for p in engine.parameters], dtype=norms.dtype, device=norms.device)
    noise = NOISE * norms.square().sum(0).sqrt() * (numbers[:, None] / engine.size).sqrt()
    bad = ~((streamed - joint).abs().amax(1) <= ALIKE * norms + noise).all(1)
    if not bool(bad.any()):
        return None
    name = engine.names[int(bad.nonzero()[0])]
    return f"{name}: the gradients of one joint pass, split by row, are not those of the rows"
