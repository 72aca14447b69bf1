"""The blocked selective scan agrees with the plain loop, in its values and in its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cmtl_ir.backbones import _scan
from cmtl_ir.backbones._scan import ScanKind, selective_scan

from .cases import spread

KINDS: tuple[ScanKind, ...] = ("loop", "blocked")


def scan(tensors: list[Tensor], kind: ScanKind = "blocked") -> Tensor:
    u, delta, decay, b, c = tensors
    return selective_scan(u, delta, decay, b, c, kind)


def inputs(length: int, sequences: int = 2, channels: int = 3, states: int = 2) -> list[Tensor]:
    """u, delta, decay, b, c: deltas up to about 6 and decays down to -16, where exp(-cumulated sum) overflows."""
    shapes = {
        "u": (sequences, channels, length),
        "delta": (sequences, channels, length),
        "decay": (sequences, channels, states),
        "b": (sequences, states, length),
        "c": (sequences, states, length),
    }
    made = {key: spread(torch.Size(shape).numel(), key).reshape(shape) for key, shape in shapes.items()}
    made["delta"] = torch.nn.functional.softplus(6 * made["delta"])
    made["decay"] = -torch.exp(2.77 * made["decay"])
    return [tensor.requires_grad_() for tensor in made.values()]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 48, 50, 577])
def test_blocks_agree_with_the_loop_to_rounding(length: int) -> None:
    tensors = inputs(length)
    loop, blocked = scan(tensors, "loop"), scan(tensors)
    torch.testing.assert_close(blocked, loop, rtol=1e-13, atol=1e-13)
    weights = spread(loop.numel(), "weights").reshape(loop.shape)
    expected = torch.autograd.grad((loop * weights).sum(), tensors)
    found = torch.autograd.grad((blocked * weights).sum(), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(other.abs().max()))


def test_sequences_that_do_not_fit_at_once_are_processed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = inputs(50, sequences=5)

    def both_ways() -> list[Tensor]:
        y = scan(tensors)
        return [y, *torch.autograd.grad(y.square().sum(), tensors)]

    whole = both_ways()
    monkeypatch.setattr(_scan, "HELD", 2 * 3 * 2 * 50)  # two sequences
    for one, other in zip(both_ways(), whole, strict=True):
        assert torch.equal(one, other)


def test_float32_is_as_near_to_float64_as_the_loop() -> None:
    tensors = inputs(577)
    exact = scan(tensors, "loop")
    single = [tensor.detach().float() for tensor in tensors]
    loop, blocked = ((scan(single, kind) - exact).abs().max() for kind in KINDS)
    assert blocked < 2 * loop + 1e-6


def test_the_operator_keeps_the_rules_of_torch() -> None:
    torch.library.opcheck(_scan._scan, tuple(inputs(10)))
