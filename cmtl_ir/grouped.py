"""Row gradients from ONE joint forward and backward pass: only the parameters' gradients are split by row.

A mode sees every torch operation. One that takes a tracked tensor (a parameter, or a tensor made from parameters
alone) and data runs as an autograd Function that gives the data's gradient as usual, writes the tracked tensor's
gradient row by row, straight into J, and gives None for it. The backbone needs nothing for this.

Shapes: M rows, P parameters, N samples of a step; data has N * B entries along its first dimension (B windows a
sample, often 1), sample after sample, so that a row is a slice. That a backbone keeps to this is checked, see `probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves

from cmtl_ir.grouped_rules import Broadcast, Call, Convolution, Expand, LayerNorm, Pointwise, Sink, Slices, Unsupported

if TYPE_CHECKING:
    from cmtl_ir.gradients import Forward, Losses, RowGradients


def grouped(engine: RowGradients, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
    """Fill J; the losses. Raises Unsupported where an operation has no rule."""
    sink = Sink(sizes, dict(zip(map(id, engine.parameters), engine.blocks, strict=True)))
    mode = Grouping(sink, engine.parameters, engine.model.buffers())
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

    def __init__(self, sink: Sink, parameters: Iterable[nn.Parameter], buffers: Iterable[Tensor]) -> None:
        super().__init__()
        self.sink = sink
        # id -> the tensor, which stays alive so that its id stays its own, and the parameters that it is made from
        self.tracked: dict[int, tuple[Tensor, frozenset[nn.Parameter]]] = {
            id(parameter): (parameter, frozenset([parameter])) for parameter in parameters
        }
        self.constants = {buffer.untyped_storage().data_ptr() for buffer in buffers}

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
        """An operation that takes a tracked tensor: a parameter's own affair, or one with data, by a rule."""
        name = getattr(func, "__name__", str(func))
        others = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor) and id(v) not in self.tracked]
        if any(self.is_data(tensor) for tensor in others):
            if kwargs.get("out") is not None or _in_place(name):
                raise Unsupported(f"{name} writes in place")
            output = RULES.get(name.strip("_"), by_slices)(self, func, args, kwargs)
            if output is NotImplemented:
                output = by_slices(self, func, args, kwargs)
            return output
        if any(tensor.requires_grad for tensor in others):
            raise Unsupported(f"{name} mixes a parameter with something that is not sample by sample")
        if name in EXPANDING and (size := _new_first(func, args, kwargs, self.sink.samples)) is not None:
            return Expand.apply(self.sink, args[0], id(args[0]), size)
        output = func(*args, **kwargs)
        self._track(output, [v for v in tree_leaves((args, kwargs)) if id(v) in self.tracked])
        return output

    def is_data(self, tensor: Tensor) -> bool:
        """True: may hold something of each sample along its first dimension, and is no buffer of the model."""
        if tensor.dim() == 0 or tensor.shape[0] % self.sink.samples:
            return False
        return tensor.untyped_storage().data_ptr() not in self.constants

    def _track(self, output: Any, sources: Sequence[Tensor]) -> None:
        """Autograd records how these tensors come from parameters; their own gradients are split by row."""
        roots = frozenset().union(*(self.tracked[id(source)][1] for source in sources))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.requires_grad and id(tensor) not in self.tracked:
                self.tracked[id(tensor)] = tensor, roots

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


# ------------------------------------------------------------------------------------------------- the check


def probe(engine: RowGradients, forward: Forward, sizes: Sequence[int]) -> str | None:
    """Why grouped and streamed row gradients of this backbone disagree; None: they agree.

    Under weights moved a little (zeros would hide errors), with sums of the outputs in place of losses, which belong
    to others and may count their calls. Two sketches a row and parameter are compared: norm, and one projection.
    """
    keep, views = engine.flat_update, engine.update_views
    torch._foreach_copy_(views, engine.parameters)
    try:
        with torch.no_grad():
            for i, parameter in enumerate(engine.parameters):
                size = float(parameter.square().mean().sqrt()) or 1.0
                parameter.add_(_waves(parameter, i) * (0.02 * size))
        engine.stream(forward, sizes, _sum_of_waves)
        streamed = _sketches(engine, len(sizes))
        grouped(engine, forward, sizes, _sum_of_waves)
        return _difference(engine, streamed, _sketches(engine, len(sizes)))
    except (Unsupported, RuntimeError) as error:
        return str(error).splitlines()[0]
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(engine.parameters), views)
        keep.zero_()


def _waves(like: Tensor, phase: float) -> Tensor:
    count = torch.arange(like.numel(), dtype=torch.float32, device=like.device)
    return torch.cos(count * 1.7 + phase).to(like.dtype).view(like.shape)


def _sum_of_waves(output: Any, row: int) -> Tensor:
    parts: Iterator[Tensor] = iter(output if isinstance(output, list | tuple) else [output])
    return torch.stack([(part.float() * _waves(part.float(), row)).sum() for part in parts]).sum()
