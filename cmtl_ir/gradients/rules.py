"""Rules that replace operations by Functions: they name the arguments and check that the Function fits them.

A rule is called with the roles, the operation and its arguments. NotImplemented passes it on to `by_slices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from cmtl_ir.gradients.functions import Broadcast, Call, Convolution, LayerNorm, Pointwise, Slices
from cmtl_ir.gradients.sink import Sink, Unsupported


@dataclass(frozen=True)
class Roles:
    """Roles of tensors in an operation: data, constant or tracked."""

    sink: Sink
    tracked: dict[int, Tensor]  # by id: parameters and tensors made only from parameters
    constants: set[int]  # addresses of the network's parameters and buffers
    places: dict[int, Tensor] = field(default_factory=dict)  # by id: counts of places, made in this pass

    def of(self, tensor: Tensor) -> int | str:
        """Return "data" for entries of each sample along the first dimension, "constant", or a tracked tensor's key.

        Raises:
            Unsupported: if a tensor that needs a gradient is none of these.
        """
        if id(tensor) in self.tracked:
            return id(tensor)
        if id(tensor) in self.places or tensor.untyped_storage().data_ptr() in self.constants:
            return "constant"
        if tensor.dim() and tensor.shape[0] % self.sink.samples == 0:
            return "data"
        if tensor.requires_grad:
            raise Unsupported("a parameter meets something that is not sample by sample")
        return "constant"

    def fit(self, x: Tensor, *parameters: Tensor | None) -> bool:
        """Return whether x is data and each of the parameters is tracked, constant or `None`."""
        return self.of(x) == "data" and all(p is None or self.of(p) != "data" for p in parameters)

    def keys(self, *tensors: Tensor | None) -> tuple[int | None, ...]:
        """Return the key of each tracked tensor, and `None` for other tensors."""
        return tuple(id(tensor) if id(tensor) in self.tracked else None for tensor in tensors)


def by_slices(roles: Roles, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run any operation as if it worked sample by sample. Raise Unsupported if its output contradicts this."""
    leaves, spec = tree_flatten((tuple(args), dict(kwargs)))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    tensors = [leaves[i] for i in places]
    own = [roles.of(tensor) for tensor in tensors]
    device = tensors[0].device.type
    autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
    output = Slices.apply(Call(roles.sink, func, leaves, spec, places, own, autocast), *tensors)
    if not isinstance(output, Tensor) or output.dim() == 0 or output.shape[0] % roles.sink.samples:
        raise Unsupported("gives no output sample by sample")
    return output


def _autocast(x: Tensor) -> Tensor:
    """Return x in the type in which autocast would multiply it."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x


def _convolution(spatial: int, transposed: bool) -> Callable[..., Any]:
    def wide(value: Any) -> list[int]:
        return [value] * spatial if isinstance(value, int) else list(value) * (spatial if len(value) == 1 else 1)

    def plain(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):  # type: ignore[no-untyped-def]
        return input, weight, bias, stride, padding, dilation, 0, groups

    def turned(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):  # type: ignore[no-untyped-def]
        return input, weight, bias, stride, padding, dilation, output_padding, groups

    def rule(roles: Roles, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        x, weight, bias, stride, padding, dilation, more, groups = (turned if transposed else plain)(*args, **kwargs)
        if isinstance(padding, str) or x.dim() != spatial + 2 or not roles.fit(x, weight, bias):
            return NotImplemented
        keys, x = roles.keys(weight, bias), _autocast(x)
        geometry = [wide(stride), wide(padding), wide(dilation), transposed, wide(more), groups]
        pointwise = spatial == 2 and weight.shape[2:] == (1, 1) and geometry == POINTWISE
        if pointwise and x.is_contiguous(memory_format=torch.channels_last):
            return Pointwise.apply(roles.sink, x, weight, bias, keys, True)
        return Convolution.apply(roles.sink, x, weight, bias, keys, geometry)

    return rule


POINTWISE = [[1, 1], [0, 0], [1, 1], False, [0, 0], 1]


def _linear(roles: Roles, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    def named(input, weight, bias=None):  # type: ignore[no-untyped-def]
        return input, weight, bias

    x, weight, bias = named(*args, **kwargs)
    if x.dim() < 2 or weight.dim() != 2 or not roles.fit(x, weight, bias):
        return NotImplemented
    return Pointwise.apply(roles.sink, _autocast(x), weight, bias, roles.keys(weight, bias), False)


def _layer_norm(roles: Roles, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    def named(input, normalized_shape, weight=None, bias=None, eps=1e-5, *_):  # type: ignore[no-untyped-def]
        return input, normalized_shape, weight, bias, eps

    x, shape, weight, bias, eps = named(*args, **kwargs)
    if x.dim() <= len(shape) or not roles.fit(x, weight, bias):
        return NotImplemented
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        x = x.float()
    return LayerNorm.apply(roles.sink, x, weight, bias, roles.keys(weight, bias), eps, len(shape))


def _broadcast(kind: str) -> Callable[..., Any]:
    def rule(roles: Roles, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if kwargs or len(args) != 2 or not all(isinstance(arg, Tensor) for arg in args):
            return NotImplemented
        x, p = args
        own = kind
        if id(x) in roles.tracked:
            x, p, own = p, x, {"sub": "rsub", "rsub": "sub"}.get(kind, kind)
        if roles.of(x) != "data" or id(p) not in roles.tracked or x.dim() < p.dim():
            return NotImplemented
        shape = (*(1 for _ in x.shape[p.dim() :]), *p.shape)  # p as it meets x
        if kind == "prelu":
            shape = (1, p.numel(), *(1 for _ in x.shape[2:]))
        if shape[0] != 1 or (kind == "prelu" and x.dim() < 2):
            return NotImplemented
        return Broadcast.apply(roles.sink, own, x, p, id(p), shape)

    return rule


RULES: dict[str, Callable[..., Any]] = {
    "conv1d": _convolution(1, False),
    "conv2d": _convolution(2, False),
    "conv3d": _convolution(3, False),
    "conv_transpose1d": _convolution(1, True),
    "conv_transpose2d": _convolution(2, True),
    "convolve": _convolution(2, False),
    "linear": _linear,
    "layer_norm": _layer_norm,
    "mul": _broadcast("mul"),
    "__rmul__": _broadcast("mul"),
    "multiply": _broadcast("mul"),
    "add": _broadcast("add"),
    "__radd__": _broadcast("add"),
    "sub": _broadcast("sub"),
    "__rsub__": _broadcast("rsub"),
    "prelu": _broadcast("prelu"),
}
