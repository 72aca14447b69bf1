"""Row gradients from one joint forward and backward pass, in which only the parameters' gradients are split by row.

A torch function mode sees every operation. An operation on data and a tracked tensor (a parameter, or a tensor made
from parameters alone) runs as an autograd Function. It returns the data's gradient as usual, writes the tracked
tensor's gradient row by row into J, and returns None for it. The network needs no changes for this.

Shapes: M rows, P parameters, N samples of a step. Data has N * B entries along its first dimension (B windows per
sample, often 1), sample after sample, so that a row is a slice. Whether a network satisfies this is checked in `probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from cmtl_ir.gradients.functions import Expand
from cmtl_ir.gradients.jacobian import Forward, Jacobian, Losses
from cmtl_ir.gradients.rules import RULES, Roles, by_slices
from cmtl_ir.gradients.sink import Sink, Unsupported


def fill_in_one_pass(jacobian: Jacobian, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
    """Fill J from one joint graph, and return the rows' losses, detached.

    Raises:
        Unsupported: if an operation has no rule.
    """
    sink = Sink(sizes, dict(zip(map(id, jacobian.parameters), jacobian.blocks, strict=True)))
    mode = Grouping(sink, jacobian)
    with mode:
        output = forward(0, sum(sizes))
    values = [losses(part, row) for row, part in enumerate(output.split(sizes))]
    _refuse_leaks(jacobian, mode, values)
    mode.settle()
    for i, (parameter, block) in enumerate(zip(jacobian.parameters, jacobian.blocks, strict=True)):
        jacobian.reached[i] = id(parameter) in sink.written
        if not jacobian.reached[i]:
            block[: len(sizes)].zero_()
    return [value.detach() for value in values]


def _refuse_leaks(jacobian: Jacobian, mode: Grouping, values: Sequence[Tensor]) -> None:
    """Run the joint backward pass. Raise Unsupported if a gradient reaches a tracked tensor without a rule."""
    inputs = [*jacobian.parameters, *(made.leaf for made in mode.made)]
    names = (*jacobian.names, *("a tensor made from parameters" for _ in mode.made))
    leaks = torch.autograd.grad(list(values), inputs, allow_unused=True)
    for name, leak in zip(names, leaks, strict=True):
        if leak is not None:
            raise Unsupported(f"{name} is used where no torch function mode sees it")


class Made(NamedTuple):
    """A tensor made only from tracked tensors, by operations that autograd records as usual."""

    leaf: Tensor
    made: Tensor
    sources: list[Tensor]


class Grouping(TorchFunctionMode):
    """Torch function mode that runs each operation on a tracked tensor by a rule."""

    def __init__(self, sink: Sink, jacobian: Jacobian) -> None:
        super().__init__()
        self.sink = sink
        self.tracked: dict[int, Tensor] = {id(parameter): parameter for parameter in jacobian.parameters}
        self.made: list[Made] = []
        self.roles = Roles(sink, self.tracked, {t.untyped_storage().data_ptr() for t in jacobian.constants()})

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tracked = self.tracked
        for value in (*args, *kwargs.values()) if kwargs else args:
            if id(value) in tracked or (type(value) in LISTS and any(id(v) in tracked for v in value)):
                return self._call(func, args, kwargs) if torch.is_grad_enabled() else func(*args, **kwargs)
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) and self._made_of_places(func, args):
            self.roles.places[id(output)] = output
        return output

    def _made_of_places(self, func: Callable[..., Any], args: Sequence[Any]) -> bool:
        """Return whether an operation counts places, as arange does, or computes only with such counts."""
        if args and isinstance(args[0], Tensor) and id(args[0]) not in self.roles.places:
            return False
        if not self.roles.places or not any(isinstance(value, Tensor) for value in args):
            return getattr(func, "__name__", "") in COUNTING
        return all(id(value) in self.roles.places for value in args if isinstance(value, Tensor))

    def _call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation on a tracked tensor: by a rule if it also takes data, or else under autograd as usual."""
        name = getattr(func, "__name__", str(func))
        try:
            if name in RULES and (output := RULES[name](self.roles, func, args, kwargs)) is not NotImplemented:
                return output
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if "data" in [self.roles.of(tensor) for tensor in tensors]:
                if kwargs.get("out") is not None or _in_place(name):
                    raise Unsupported("writes in place")
                return by_slices(self.roles, func, args, kwargs)
        except Unsupported as error:
            raise Unsupported(f"{name}: {error}") from None
        if name in EXPANDING and (size := _new_first(func, args, kwargs, self.sink.samples)) is not None:
            return Expand.apply(self.sink, args[0], id(args[0]), size)
        sources = list({id(tensor): tensor for tensor in tensors if id(tensor) in self.tracked}.values())
        return tree_map(lambda made: self._track(made, sources), func(*args, **kwargs))

    def _track(self, made: Any, sources: list[Tensor]) -> Any:
        """Return a new tracked leaf in place of a tensor made only from tracked tensors. Other values are unchanged."""
        if not isinstance(made, Tensor) or not made.requires_grad or id(made) in self.tracked:
            return made
        leaf = made.detach().requires_grad_()
        self.tracked[id(leaf)] = leaf
        self.made.append(Made(leaf, made, sources))
        return leaf

    def settle(self) -> None:
        """Propagate the gradients of made tensors to their sources, row by row, until only parameters are left."""
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
COUNTING = {"arange", "linspace"}
EXPANDING = {"expand", "expand_as", "broadcast_to", "repeat"}


def _in_place(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name != "__invert__")


def _new_first(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], samples: int) -> torch.Size | None:
    """Return the size a parameter is expanded to if its new first dimension counts samples, or else `None`."""
    with torch.no_grad():
        size = func(args[0].detach(), *args[1:], **kwargs).shape
    old = (*(1 for _ in size[args[0].dim() :]), *args[0].shape)
    grown = size[0] % samples == 0 and old[0] == 1
    return size if grown and all(a in (1, b) for a, b in zip(old, size, strict=True)) else None
