"""1x1 convolutions with few channels of a few large images on one thread of a CPU, where torch's own are slow.

With one thread and fewer than 16 images torch makes a 1x1 convolution of one matrix product per image, by MKL, which
is up to four times slower where a product has fewer than `NARROW` columns. oneDNN makes one product of all images.

Shapes: N images, I and O channels in and out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import handle_torch_function, has_torch_function_variadic

aten, functorch = torch.ops.aten, torch._C._functorch
NARROW = 16  # columns below which a matrix product takes up to four times as long (measured: MKL, AVX-512)
FEW = 16  # images below which torch takes its slow path with one thread (aten/src/ATen/native/Convolution.cpp)
MANY_PIXELS = 1 << 13  # pixels of all images from which oneDNN's NARROW products are faster (measured)
LARGE_PIXELS = 1 << 17  # pixels of all images from which its other products are faster too (measured)

GEOMETRY = ((1, 1), (0, 0), (1, 1), False, (0, 0), 1)  # stride, padding, dilation, transposed, output padding, groups


def takes(x: Tensor, weight: Tensor) -> bool:
    """Return whether `convolve` is faster than torch's own convolution of images x [N, I, H, W]."""
    columns = min(weight.shape[:2])
    if columns >= NARROW or x.numel() < MANY_PIXELS * weight.shape[1] or len(x) >= FEW or torch.get_num_threads() > 1:
        return False
    return is_supported(x) and not torch.is_autocast_enabled("cpu")


def is_supported(x: Tensor) -> bool:
    """Return whether x [N, I, H, W] is in channels_last memory on the CPU, in float32, and oneDNN may be used."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the 1x1 convolution [N, O, H, W] of x [N, I, H, W], weight [O, I, 1, 1] and bias [O] (`None`: no bias).

    Seen by torch function modes as one operation, as torch's own convolution is.
    """
    if has_torch_function_variadic(x, weight):
        return handle_torch_function(convolve, (x, weight), x, weight, bias)
    return PointwiseConvolution.apply(x, weight, bias)


def product(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return matrix [O, I] times each pixel of x [N, I, H, W], plus bias [O] (`None`: no bias)."""
    columns, channels = matrix.shape
    if x.numel() >= channels * (MANY_PIXELS if columns < NARROW else LARGE_PIXELS) and is_supported(x):
        kernel = matrix.contiguous().view(columns, channels, 1, 1)
        return aten.mkldnn_convolution(x, kernel, bias, (0, 0), (1, 1), (1, 1), 1)
    return torch.nn.functional.linear(x.permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)


class PointwiseConvolution(Function):
    """The convolution by `product`, and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight.flatten(1), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        if functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(
            grad
        ):  # several gradients at once: the general product
            dx, dw, db = aten.convolution_backward(grad, x, weight, [len(weight)], *GEOMETRY, ctx.needs_input_grad)
            return dx, dw, db
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = product(grad, weight.flatten(1).t())
        rows = grad.permute(0, 2, 3, 1).flatten(0, 2)
        if ctx.needs_input_grad[1]:
            pixels = x.permute(0, 2, 3, 1).flatten(0, 2)
            narrow = pixels.shape[1] < NARROW <= rows.shape[1]
            dw = ((pixels.t() @ rows).t() if narrow else rows.t() @ pixels).reshape(weight.shape)
        if ctx.needs_input_grad[2]:
            db = rows.sum(0)
        return dx, dw, db
