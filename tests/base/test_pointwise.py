"""1x1 convolutions by one product: the numbers of torch's own, and the same step for both engines of row gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cmtl_ir.backbones._layers import PointwiseConv2d
from cmtl_ir.backbones.nafnet import NAFNet
from cmtl_ir.base import pointwise
from cmtl_ir.gradients.rows import RowGradients
from cmtl_ir.strategy.output import Output

SIDE = 64  # two images of it have MANY_PIXELS


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mean_square(output: Output, row: int) -> Tensor:
    return output.restored.square().mean()


def images(channels: int, count: int = 2, side: int = SIDE) -> Tensor:
    x = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("side", [SIDE, 8])
@pytest.mark.parametrize(("channels", "out"), [(8, 8), (8, 16), (16, 8), (3, 5), (24, 32)])
def test_a_product_and_its_gradients_are_those_of_a_convolution(channels: int, out: int, side: int, bias: bool) -> None:
    layer = PointwiseConv2d(channels, out, bias=bias)
    x = images(channels, side=side).requires_grad_()
    inputs = [x, *layer.parameters()]
    found = pointwise.convolve(x, layer.weight, layer.bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))  # not in channels_last memory
    gradients = torch.autograd.grad(found, inputs, grad)
    layer, wide = layer.double(), x.detach().double().requires_grad_()
    expected = torch.nn.functional.conv2d(wide, layer.weight, layer.bias)
    exact = torch.autograd.grad(expected, [wide, *layer.parameters()], grad.double())
    for one, other in zip((found, *gradients), (expected, *exact), strict=True):
        assert_close(one.double(), other, rtol=1e-5, atol=2e-3 if one.dim() == 1 or one.shape[2:] == (1, 1) else 1e-5)


def test_several_gradients_at_once_are_those_of_each() -> None:
    layer, x = PointwiseConv2d(8, 8), images(8).requires_grad_()
    found, inputs = pointwise.convolve(x, layer.weight, layer.bias), [x, *layer.parameters()]
    grads = torch.randn(3, *found.shape, generator=torch.Generator().manual_seed(1))
    batched = torch.autograd.grad(found, inputs, grads, is_grads_batched=True, retain_graph=True)
    for number, grad in enumerate(grads):
        for one, other in zip(batched, torch.autograd.grad(found, inputs, grad, retain_graph=True), strict=True):
            assert_close(one[number], other, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("x", "taken"),
    [
        (images(8), True),
        (images(8, side=8), False),
        (images(8, count=16, side=SIDE), False),
        (images(16), False),
        (images(8).double(), False),
        (images(8).contiguous(), False),
    ],
    ids=["narrow", "small", "many", "wide", "float64", "contiguous"],
)
def test_only_narrow_maps_of_a_few_large_images_are_taken(x: Tensor, taken: bool) -> None:
    weight = torch.zeros(x.shape[1], x.shape[1], 1, 1)
    assert pointwise.takes(x, weight) is taken
    torch.set_num_threads(2)
    assert not pointwise.takes(x, weight)


def test_the_rows_of_a_network_with_products_are_those_of_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = NAFNet(width=8, encoder=[1], middle=1, decoder=[1]).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 0.1 * torch.cos(torch.arange(parameter.numel()) + number).view(parameter.shape)
    x, rows = images(3, count=4), {}
    for name in ("products", "convolutions"):
        if name == "convolutions":
            monkeypatch.setattr(pointwise, "takes", lambda x, weight: False)
        for engine in ("stream", "grouped"):
            made = RowGradients(model, 2, engine)
            made(lambda start, stop: Output.of(model(x[start:stop])), [2, 2], mean_square)
            assert made.fallback is None
            rows[name, engine] = made.buffer.clone()
    expected = rows["convolutions", "stream"]
    for found in rows.values():
        assert bool(((found - expected).norm(dim=1) < 1e-5 * expected.norm(dim=1)).all())
