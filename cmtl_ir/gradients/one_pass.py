"""Row gradients from ONE joint forward and backward pass: only the parameters' gradients are split by row.

A mode sees every torch operation. One that takes a tracked tensor (a parameter, or a tensor made from parameters
alone) and data runs as an autograd Function that gives the data's gradient as usual, writes the tracked tensor's
gradient row by row, straight into J, and gives None for it. The backbone needs nothing for this.

Shapes: M rows, P parameters, N samples of a step; data has N * B entries along its first dimension (B windows a
sample, often 1), sample after sample, so that a row is a slice. That a backbone keeps to this is checked, see `probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from cmtl_ir.gradients.functions import Expand
from cmtl_ir.gradients.rules import RULES, by_slices
from cmtl_ir.gradients.sink import Sink, Unsupported
from cmtl_ir.strategy.output import Output

if TYPE_CHECKING:
    from cmtl_ir.gradients.rows import Forward, Losses, RowGradients


def grouped(engine: RowGradients, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
    """Fill J; the losses. Raises Unsupported where an operation has no rule."""
    sink = Sink(sizes, dict(zip(map(id, engine.parameters), engine.blocks, strict=True)))
    mode = Grouping(sink, engine)
    with mode:
        output = forward(0, sum(sizes))
    values = [losses(part, row) for row, part in enumerate(output.split(sizes))]
    inputs = [*engine.parameters, *(made.leaf for made in mode.made)]
    leaks = torch.autograd.grad(values, inputs, allow_unused=True)
    names = (*engine.names, *("a tensor made from parameters" for _ in mode.made))
    for name, leak in zip(names, leaks, strict=True):
        if leak is not None:
            raise Unsupported(f"{name} is used where no torch function mode sees it")
    mode.settle()
    for i, (parameter, block) in enumerate(zip(engine.parameters, engine.blocks, strict=True)):
        engine.reached[i] = id(parameter) in sink.written
        if not engine.reached[i]:
            block[: len(sizes)].zero_()
    return [value.detach() for value in values]


class Made(NamedTuple):
    """A tensor made from tracked tensors alone, by operations that autograd records as usual."""

    leaf: Tensor
    made: Tensor
    sources: list[Tensor]


class Grouping(TorchFunctionMode):
    """Finds the operations that take a tracked tensor, and runs them by a rule."""

    def __init__(self, sink: Sink, engine: RowGradients) -> None:
        super().__init__()
        self.sink = sink
        self.tracked: dict[int, Tensor] = {id(parameter): parameter for parameter in engine.parameters}
        self.made: list[Made] = []
        self.constants = {t.untyped_storage().data_ptr() for t in engine.constants()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tracked = self.tracked
        for value in (*args, *kwargs.values()) if kwargs else args:
            if id(value) in tracked or (type(value) in LISTS and any(id(v) in tracked for v in value)):
                return self._call(func, args, kwargs) if torch.is_grad_enabled() else func(*args, **kwargs)
        return func(*args, **kwargs)

    def _call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """An operation that takes a tracked tensor: with data, by a rule; otherwise autograd's own affair for now."""
        name = getattr(func, "__name__", str(func))
        try:
            if name in RULES and (output := RULES[name](self, func, args, kwargs)) is not NotImplemented:
                return output
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if "data" in [self.role(tensor) for tensor in tensors]:
                if kwargs.get("out") is not None or _in_place(name):
                    raise Unsupported("writes in place")
                return by_slices(self, func, args, kwargs)
        except Unsupported as error:
            raise Unsupported(f"{name}: {error}") from None
        if name in EXPANDING and (size := _new_first(func, args, kwargs, self.sink.samples)) is not None:
            return Expand.apply(self.sink, args[0], id(args[0]), size)
        sources = list({id(tensor): tensor for tensor in tensors if id(tensor) in self.tracked}.values())
        return tree_map(lambda made: self._track(made, sources), func(*args, **kwargs))

    def _track(self, made: Any, sources: list[Tensor]) -> Any:
        """What stands in the network for something that an operation made from tracked tensors alone: a new leaf."""
        if not isinstance(made, Tensor) or not made.requires_grad or id(made) in self.tracked:
            return made
        leaf = made.detach().requires_grad_()
        self.tracked[id(leaf)] = leaf
        self.made.append(Made(leaf, made, sources))
        return leaf

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
        """From what was made back to what it was made from, row by row, until only parameters are left."""
        for leaf, made, sources in reversed(self.made):
            if id(leaf) not in self.sink.written:
                continue
            pulls = [
                torch.autograd.grad(made, sources, gradient.to(made.dtype), retain_graph=True, allow_unused=True)
                for gradient in self.sink.aside[id(leaf)]
            ]
            for source, pulled in zip(sources, zip(*pulls, strict=True), strict=True):
                if pulled[0] is not None:
                    self.sink.put_rows(id(source), source, pulled)


LISTS = (list, tuple)
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


def _sum_of_waves(output: Output, row: int) -> Tensor:
    parts = [y.double() if y.dtype == torch.float64 else y.float() for y in output.tensors()]
    return torch.stack([(part * _waves(part, row)).sum() for part in parts]).sum()


def _sketches(engine: RowGradients, rows: int) -> Tensor:
    """[parameters, 2, rows]: norm and projection on a fixed vector of every row's gradient."""
    blocks = [block[:rows].reshape(rows, -1) for block in engine.blocks]
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
