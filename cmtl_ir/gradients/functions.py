"""Operations on data and parameters whose backward pass splits the parameters' gradients by row.

Each returns the data's gradient as autograd does, and passes a tracked tensor's gradient, row by row, to the Sink.
Shapes: M rows, N samples, NB = N * B first entries of data, L positions, I and O channels in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils._pytree import tree_unflatten

from cmtl_ir.base.pointwise import product
from cmtl_ir.gradients.sink import Sink

aten = torch.ops.aten
Keys = tuple[int | None, int | None]  # of weight and bias; `None` if not tracked
ROW_BY_ROW = (
    1 << 18
)  # elements per row above which a layer norm call per row beats one product over all rows (measured)
FOLDED = (
    1 << 16
)  # elements per row below which one call with rows as groups beats a call per row (measured: CPU, 2 threads)


# ------------------------------------------------------------------------------- convolutions and linear maps


class Pointwise(Function):
    """x W^T + b over the last dimension, or with `image` over the channels of [NB, I, H, W] in channels_last memory."""

    @staticmethod
    def forward(
        ctx: Any, sink: Sink, x: Tensor, weight: Tensor, bias: Tensor | None, keys: Keys, image: bool
    ) -> Tensor:
        ctx.sink, ctx.keys, ctx.image = sink, keys, image
        w = weight.to(x.dtype).view(weight.shape[:2])
        ctx.save_for_backward(x, w, weight, bias)
        bias = None if bias is None else bias.to(x.dtype)
        return product(x, w, bias) if image else torch.nn.functional.linear(x, w, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, w, weight, bias = ctx.saved_tensors
        dx = None
        if ctx.image:
            if ctx.needs_input_grad[1]:
                dx = product(grad, w.t())
            grad, x = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
        elif ctx.needs_input_grad[1]:
            dx = (grad.reshape(-1, len(w)) @ w).view(x.shape)
        grads = ctx.sink.matrices(grad)
        if ctx.keys[0] is not None:
            ctx.sink.put_outer(ctx.keys[0], weight, grads, ctx.sink.matrices(x))
        if ctx.keys[1] is not None:
            ctx.sink.put(ctx.keys[1], bias, [g.sum(1) for g in grads])
        return None, dx, None, None, None, None


class Convolution(Function):
    """Convolution of any kind. `geometry`: stride, padding, dilation, transposed, output padding, groups."""

    @staticmethod
    def forward(
        ctx: Any, sink: Sink, x: Tensor, weight: Tensor, bias: Tensor | None, keys: Keys, geometry: Sequence[Any]
    ) -> Tensor:
        ctx.sink, ctx.keys, ctx.geometry = sink, keys, geometry
        w = weight.to(x.dtype)
        ctx.save_for_backward(x, w, weight, bias)
        return torch.convolution(x, w, None if bias is None else bias.to(x.dtype), *geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, w, weight, bias = ctx.saved_tensors
        sink, keys = ctx.sink, ctx.keys
        if keys[0] is not None:
            parts = zip(sink.split(grad), sink.split(x), strict=True)
            sink.put(keys[0], weight, [_weight_rows(g, v, w, ctx.geometry) for g, v in parts])
        if keys[1] is not None:
            sink.put_sums(keys[1], bias, grad, (1, grad.shape[1], *(1 for _ in grad.shape[2:])))
        dx = None
        if ctx.needs_input_grad[1]:
            dx = aten.convolution_backward(grad, x, w, None, *ctx.geometry, (True, False, False))[0]
        return None, dx, None, None, None, None


def _weight_rows(grad: Tensor, x: Tensor, w: Tensor, geometry: Sequence[Any]) -> Tensor:
    """Return the weight gradients [rows, *w.shape] from grad [rows, n, O, ...] and x [rows, n, I, ...]."""
    *where, groups = geometry
    mask = (False, True, False)
    rows = len(grad)
    if groups > 1 and rows > 1 and x[0].numel() <= FOLDED:  # rows become groups of one convolution
        folded = aten.convolution_backward(
            _rows_as_channels(grad), _rows_as_channels(x), w.repeat(rows, *(1,) * (w.dim() - 1)), None, *where,
            rows * groups, mask,
        )[1]  # fmt: skip
        return folded.view(rows, *w.shape)
    patches = groups == 1 and w.dim() == 4 and where == [[*w.shape[2:]], [0, 0], [1, 1], False, [0, 0]]
    if patches and x.shape[-2] % w.shape[2] == x.shape[-1] % w.shape[3] == 0:
        return _patch_weight_rows(grad, x, w.shape[2:])
    pairs = [(_with_batch_stride(g), _with_batch_stride(v)) for g, v in zip(grad, x, strict=True)]
    return torch.stack([aten.convolution_backward(g, v, w, None, *geometry, mask)[1] for g, v in pairs])


def _with_batch_stride(x: Tensor) -> Tensor:
    """Return x [n, C, H, W] with the batch stride of a contiguous batch if n is 1.

    Splitting a batch gives such an x another stride, with which torch (2.13, CPU, float64, channels_last) returns a
    wrong weight gradient of a grouped convolution.
    """
    return x.as_strided(x.shape, (x[0].numel(), *x.stride()[1:])) if len(x) == 1 else x


def _patch_weight_rows(grad: Tensor, x: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return the weight gradients if kernel = stride. Each patch is a position, and its pixels are the channels."""
    cut = x.movedim(2, -1).unflatten(3, (-1, kernel[1])).unflatten(2, (-1, kernel[0]))  # [rows, n, H, kh, W, kw, I]
    patches = cut.permute(0, 1, 2, 4, 3, 5, 6).flatten(4).flatten(1, 3)  # [rows, n H W, kh kw I]
    product = torch.bmm(grad.movedim(2, -1).flatten(1, 3).transpose(1, 2), patches)
    return product.unflatten(2, (*kernel, -1)).movedim(-1, 2)  # [rows, O, I, kh, kw]


def _rows_as_channels(data: Tensor) -> Tensor:
    """Return data [rows, n, C, H, W] as [n, rows * C, H, W] in channels_last memory."""
    rows, n, channels, *spatial = data.shape
    last = data.movedim(2, -1).movedim(0, -2)  # [n, H, W, rows, C]
    return last.reshape(n, *spatial, rows * channels).movedim(-1, 1)


# ---------------------------------------------------------------------------------- norms, scales and shifts


class LayerNorm(Function):
    """Layer norm over the last `rank` dimensions."""

    @staticmethod
    def forward(
        ctx: Any, sink: Sink, x: Tensor, weight: Tensor | None, bias: Tensor | None, keys: Keys, eps: float, rank: int
    ) -> Tensor:
        ctx.sink, ctx.keys, ctx.rank = sink, keys, rank
        y, mean, deviation = torch.native_layer_norm(x, x.shape[-rank:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, bias, mean, deviation = ctx.saved_tensors
        shape, sink = x.shape[-ctx.rank :], ctx.sink
        grad = grad.contiguous()

        def native(g: Tensor, data: Tensor, mean: Tensor, deviation: Tensor, *mask: bool) -> Any:
            return aten.native_layer_norm_backward(g, data, shape, mean, deviation, weight, bias, mask)

        if x.numel() > sink.rows * ROW_BY_ROW:
            rows = zip(*([part[a:b] for a, b in sink.bounds_of(x)] for part in (grad, x, mean, deviation)), strict=True)
            own = [native(*row, False, True, True) for row in rows]
            for key, tracked, pieces in zip(ctx.keys, (weight, bias), list(zip(*own, strict=True))[1:], strict=True):
                if key is not None:
                    sink.put_rows(key, tracked, pieces)
        else:
            kept = (*(1 for _ in x.shape[: -ctx.rank]), *shape)
            if ctx.keys[0] is not None:
                sink.put_sums(ctx.keys[0], weight, torch.sub(x, mean).mul_(deviation).mul_(grad), kept)
            if ctx.keys[1] is not None:
                sink.put_sums(ctx.keys[1], bias, grad, kept)
        dx = native(grad, x, mean, deviation, True, False, False)[0] if ctx.needs_input_grad[1] else None
        return None, dx, None, None, None, None, None


class Broadcast(Function):
    """Product, sum, difference or PReLU of x and p, where p is the same for all samples."""

    @staticmethod
    def forward(ctx: Any, sink: Sink, kind: str, x: Tensor, p: Tensor, key: int, shape: Sequence[int]) -> Tensor:
        ctx.sink, ctx.kind, ctx.key, ctx.shape, ctx.x_shape = sink, kind, key, shape, x.shape
        ctx.save_for_backward(x if kind in ("mul", "prelu") else None, p)
        wide = p.view(shape)
        if kind == "prelu":
            return torch.where(x > 0, x, x * wide.to(x.dtype))
        if kind == "mul":
            return x * wide
        return x + wide if kind == "add" else x - wide if kind == "sub" else wide - x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, p = ctx.saved_tensors
        kind = ctx.kind
        own = grad * x if kind == "mul" else grad * x.clamp(max=0) if kind == "prelu" else grad
        ctx.sink.put_sums(ctx.key, p, -own if kind == "sub" else own, ctx.shape)
        dx = None
        if ctx.needs_input_grad[2]:
            through = grad
            if kind in ("mul", "prelu"):
                through = grad * p.view(ctx.shape)
            if kind == "prelu":
                through = torch.where(x > 0, grad, through)
            dx = (-through if kind == "rsub" else through).sum_to_size(ctx.x_shape)
        return None, None, dx, None, None, None


class Expand(Function):
    """Expansion of p for all samples: [1, ...] -> [NB, ...]."""

    @staticmethod
    def forward(ctx: Any, sink: Sink, p: Tensor, key: int, size: Sequence[int]) -> Tensor:
        ctx.sink, ctx.key = sink, key
        ctx.save_for_backward(p)
        return p.expand(size).clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (p,) = ctx.saved_tensors
        ctx.sink.put_sums(ctx.key, p, grad, (*(1 for _ in grad.shape[p.dim() :]), *p.shape))
        return None, None, None, None


# ------------------------------------------------------------------------------------ everything else, by slices


class Slices(Function):
    """Any operation that works sample by sample. It runs once forward, and once again per row in the backward pass."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Tensor:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        return call.run(tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        call, tensors, sink = ctx.call, ctx.saved_tensors, ctx.call.sink
        wanted = [i for i, role in enumerate(call.roles) if role != "constant" and ctx.needs_input_grad[i + 1]]
        rows = [call.pull(tensors, grad, start, stop, wanted) for start, stop in sink.bounds]
        out: list[Tensor | None] = [None] * len(tensors)
        for i, pieces in zip(wanted, zip(*rows, strict=True), strict=True):
            if call.roles[i] == "data":
                out[i] = torch.cat(pieces)
            else:
                sink.put_rows(call.roles[i], tensors[i], pieces)
        return None, *out


@dataclass
class Call:
    """An operation whose tensors are stored separately from its other arguments."""

    sink: Sink
    func: Callable[..., Any]
    leaves: list[Any]
    spec: Any
    places: list[int]  # places of the tensors among the leaves
    roles: list[Any]  # role of each tensor: "data", "constant", or the key of a tracked tensor
    autocast: tuple[str, torch.dtype, bool]

    def run(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the output of the operation for these tensors."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self.spec)
        return self.func(*args, **kwargs)

    def pull(self, tensors: Sequence[Tensor], grad: Tensor, start: int, stop: int, wanted: list[int]) -> list[Tensor]:
        """Return the gradients of the wanted tensors from samples start .. stop. For data, that of their slice."""

        def cut(data: Tensor) -> Tensor:
            each = data.shape[0] // self.sink.samples
            return data.narrow(0, start * each, (stop - start) * each)

        parts = [cut(t) if role == "data" else t for t, role in zip(tensors, self.roles, strict=True)]
        parts = [part.detach().requires_grad_(i in wanted) for i, part in enumerate(parts)]
        device, dtype, enabled = self.autocast
        with torch.enable_grad(), torch.autocast(device, dtype, enabled=enabled):
            output = self.run(parts)
        asked = [parts[i] for i in wanted]
        pulled = torch.autograd.grad(output, asked, cut(grad), allow_unused=True)
        return [torch.zeros_like(t) if pull is None else pull for t, pull in zip(asked, pulled, strict=True)]
