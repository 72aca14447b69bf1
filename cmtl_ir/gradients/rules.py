"""Which Function an operation becomes: its arguments by name, and whether the Function fits them.

A rule is called with the mode, the operation and its arguments; NotImplemented hands it on to `by_slices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from cmtl_ir.gradients.functions import Broadcast, Call, Convolution, LayerNorm, Pointwise, Slices
from cmtl_ir.gradients.sink import Unsupported

if TYPE_CHECKING:
    from cmtl_ir.gradients.one_pass import Grouping


def by_slices(mode: Grouping, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Any operation, as if it worked sample by sample."""
    leaves, spec = tree_flatten((tuple(args), dict(kwargs)))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    tensors = [leaves[i] for i in places]
    roles = [mode.role(tensor) for tensor in tensors]
    device = tensors[0].device.type
    autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
    output = Slices.apply(Call(mode.sink, func, leaves, spec, places, roles, autocast), *tensors)
    if not isinstance(output, Tensor) or output.dim() == 0 or output.shape[0] % mode.sink.samples:
        raise Unsupported("gives no output sample by sample")
    return output


def _autocast(x: Tensor) -> Tensor:
    """x in the type in which autocast would multiply it."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x


def _fits(mode: Grouping, x: Tensor, *parameters: Tensor | None) -> bool:
    """True: x is data, and the others are tracked, constant or missing."""
    return mode.role(x) == "data" and all(p is None or mode.role(p) != "data" for p in parameters)


def _keys(mode: Grouping, *tensors: Tensor | None) -> tuple[int | None, ...]:
    return tuple(id(tensor) if id(tensor) in mode.tracked else None for tensor in tensors)


def _convolution(spatial: int, transposed: bool) -> Callable[..., Any]:
    def wide(value: Any) -> list[int]:
        return [value] * spatial if isinstance(value, int) else list(value) * (spatial if len(value) == 1 else 1)

    def plain(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):  # type: ignore[no-untyped-def]
        return input, weight, bias, stride, padding, dilation, 0, groups

    def turned(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):  # type: ignore[no-untyped-def]
        return input, weight, bias, stride, padding, dilation, output_padding, groups

    def rule(mode: Grouping, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        x, weight, bias, stride, padding, dilation, more, groups = (turned if transposed else plain)(*args, **kwargs)
        if isinstance(padding, str) or x.dim() != spatial + 2 or not _fits(mode, x, weight, bias):
            return NotImplemented
        keys, x = _keys(mode, weight, bias), _autocast(x)
        geometry = [wide(stride), wide(padding), wide(dilation), transposed, wide(more), groups]
        pointwise = spatial == 2 and weight.shape[2:] == (1, 1) and geometry == POINTWISE
        if pointwise and x.is_contiguous(memory_format=torch.channels_last):
            return Pointwise.apply(mode.sink, x, weight, bias, keys, True)
        return Convolution.apply(mode.sink, x, weight, bias, keys, geometry)

    return rule


POINTWISE = [[1, 1], [0, 0], [1, 1], False, [0, 0], 1]


def _linear(mode: Grouping, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    def named(input, weight, bias=None):  # type: ignore[no-untyped-def]
        return input, weight, bias

    x, weight, bias = named(*args, **kwargs)
    if x.dim() < 2 or weight.dim() != 2 or not _fits(mode, x, weight, bias):
        return NotImplemented
    return Pointwise.apply(mode.sink, _autocast(x), weight, bias, _keys(mode, weight, bias), False)


def _layer_norm(mode: Grouping, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    def named(input, normalized_shape, weight=None, bias=None, eps=1e-5, *_):  # type: ignore[no-untyped-def]
        return input, normalized_shape, weight, bias, eps

    x, shape, weight, bias, eps = named(*args, **kwargs)
    if x.dim() <= len(shape) or not _fits(mode, x, weight, bias):
        return NotImplemented
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        x = x.float()
    return LayerNorm.apply(mode.sink, x, weight, bias, _keys(mode, weight, bias), eps, len(shape))


def _broadcast(kind: str) -> Callable[..., Any]:
    def rule(mode: Grouping, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if kwargs or len(args) != 2 or not all(isinstance(arg, Tensor) for arg in args):
            return NotImplemented
        x, p = args
        own = kind
        if id(x) in mode.tracked:
            x, p, own = p, x, {"sub": "rsub", "rsub": "sub"}.get(kind, kind)
        if mode.role(x) != "data" or id(p) not in mode.tracked or x.dim() < p.dim():
            return NotImplemented
        shape = (*(1 for _ in x.shape[p.dim() :]), *p.shape)  # p as it meets x
        if kind == "prelu":
            shape = (1, p.numel(), *(1 for _ in x.shape[2:]))
        if shape[0] != 1 or (kind == "prelu" and x.dim() < 2):
            return NotImplemented
        return Broadcast.apply(mode.sink, own, x, p, id(p), shape)

    return rule


RULES: dict[str, Callable[..., Any]] = {
    "conv1d": _convolution(1, False),
    "conv2d": _convolution(2, False),
    "conv3d": _convolution(3, False),
    "conv_transpose1d": _convolution(1, True),
    "conv_transpose2d": _convolution(2, True),
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
