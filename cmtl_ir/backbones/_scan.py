"""Selective scan of Mamba (Gu & Dao, COLM 2024, arXiv 2312.00752): a plain loop, and the same in blocks.

For one channel i and one state n of a sequence, with h_0 = 0:

    h_t = exp(delta_t * decay) * h_{t-1} + delta_t * u_t * b_t          y_t = sum over n of c_t * h_t

Shapes: G independent sequences, I channels, N states, L positions; M blocks of T positions, M * T >= L.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ScanKind = Literal["blocked", "loop"]
HELD = 1 << 27
"""Numbers of one state history that are held at once; more sequences than fit are processed one part after another."""


def selective_scan(u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor, kind: ScanKind = "blocked") -> Tensor:
    """Return y [G, I, L] for u and delta [G, I, L], decay [G, I, N] (negative), b and c [G, N, L].

    `loop` takes L steps and can be differentiated twice. `blocked` takes about 3 sqrt(L) steps, agrees with the loop
    to rounding, and keeps sqrt(L) states for its backward pass where the loop keeps L. All tensors need one dtype.
    """
    if kind == "loop":
        return _loop(u, delta, decay, b, c)
    return _scan(u, delta, decay, b, c)[0]


def _loop(u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h = torch.zeros_like(decay)
    outputs = []
    for step, driven, b_t, c_t in zip(delta.unbind(2), (delta * u).unbind(2), b.unbind(2), c.unbind(2), strict=True):
        h = torch.exp(step[..., None] * decay) * h + driven[..., None] * b_t[:, None]
        outputs.append((h * c_t[:, None]).sum(2))
    return torch.stack(outputs, dim=2)


# ------------------------------------------------------------------------------------------------------ in blocks
# The operator is opaque to torch.compile: its graph holds one node and not thousands of unrolled steps.


@torch.library.custom_op("cmtl_ir::selective_scan", mutates_args=())
def _scan(u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return y [G, I, L] and the state before each block [G, M, I, N]."""
    y, starts = _in_parts(_forward_part, u, delta, decay, b, c)
    return y, starts


@torch.library.custom_op("cmtl_ir::selective_scan_backward", mutates_args=())
def _scan_backward(
    grad: Tensor, u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, delta, decay, b and c, for that of y [G, I, L]."""
    to_u, to_delta, to_decay, to_b, to_c = _in_parts(_backward_part, grad, u, delta, decay, b, c, starts)
    return to_u, to_delta, to_decay, to_b, to_c


@_scan.register_fake
def _(u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    blocks, _ = _blocks_of(u.shape[2])
    return u.new_empty(u.shape), decay.new_empty(len(u), blocks, *decay.shape[1:])


@_scan_backward.register_fake
def _(
    grad: Tensor, u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        u.new_empty(u.shape), u.new_empty(u.shape), u.new_empty(decay.shape), u.new_empty(b.shape), u.new_empty(b.shape)
    )  # fmt: skip


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _pull(ctx: torch.autograd.function.BackwardCFunction, grad: Tensor, _: Tensor | None) -> tuple[Tensor, ...]:
    return _scan_backward(grad, *ctx.saved_tensors)


_scan.register_autograd(_pull, setup_context=_keep)


def _blocks_of(length: int) -> tuple[int, int]:
    """(M, T) for a sequence of L positions."""
    steps = max(1, math.isqrt(length))
    return -(-length // steps), steps


def _in_parts(part: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """Outputs of `part` on slices of the G sequences that hold at most HELD numbers, one sequence at least."""
    _, channels, length = tensors[0].shape
    states = tensors[-1].shape[-1] if tensors[-1].dim() == 4 else tensors[-1].shape[1]
    size = max(1, HELD // (channels * length * states))
    pieces = [part(*slices) for slices in zip(*(tensor.split(size) for tensor in tensors), strict=True)]
    return pieces[0] if len(pieces) == 1 else tuple(torch.cat(each) for each in zip(*pieces, strict=True))


def _cut(x: Tensor) -> Tensor:  # [G, C, L] -> [T, G, M, C]
    """Position t of every block, for t = 0 .. T - 1; zeros fill the last block (delta = 0: the state stays)."""
    blocks, steps = _blocks_of(x.shape[2])
    padded = F.pad(x, (0, blocks * steps - x.shape[2]))
    return padded.unflatten(2, (blocks, steps)).permute(3, 0, 2, 1).contiguous()


def _join(x: Tensor, length: int) -> Tensor:  # [T, G, M, C] -> [G, C, L]
    return x.permute(1, 3, 2, 0).flatten(2)[:, :, :length].contiguous()


def _decays(delta: Tensor, decay: Tensor) -> Tensor:  # [.., G, M, I], [G, I, N] -> [.., G, M, I, N]
    return torch.exp(delta[..., None] * decay[:, None])


def _forward_part(u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    length = u.shape[2]
    driven, delta, b, c = _cut(delta * u), _cut(delta), _cut(b), _cut(c)
    h = torch.zeros_like(_decays(delta[0], decay))  # [G, M, I, N]: every block from zero
    for t in range(len(delta)):
        h = _step(h, _decays(delta[t], decay), driven[t], b[t])
    starts = _carry(h, _decays(delta.sum(0), decay))
    h, outputs = starts, torch.empty_like(driven)
    for t in range(len(delta)):
        h = _step(h, _decays(delta[t], decay), driven[t], b[t])
        torch.matmul(h, c[t, ..., None], out=outputs[t, ..., None])
    return _join(outputs, length), starts


def _step(h: Tensor, decays: Tensor, driven: Tensor, b: Tensor) -> Tensor:  # [G, M, I, N] twice, [G, M, I], [G, M, N]
    """The state after one position; overwrites `decays`."""
    return decays.mul_(h).addcmul_(driven[..., None], b[:, :, None])


def _carry(ends: Tensor, decays: Tensor) -> Tensor:  # [G, M, I, N] twice
    """States before each block, from what each block reaches from zero and the decay over it."""
    starts = torch.zeros_like(ends)
    for m in range(1, ends.shape[1]):
        torch.addcmul(ends[:, m - 1], decays[:, m - 1], starts[:, m - 1], out=starts[:, m])
    return starts


def _backward_part(
    grad: Tensor, u: Tensor, delta: Tensor, decay: Tensor, b: Tensor, c: Tensor, starts: Tensor
) -> tuple[Tensor, ...]:
    length, step = u.shape[2], delta
    grad, driven, delta, b, c = _cut(grad), _cut(delta * u), _cut(delta), _cut(b), _cut(c)
    states = starts.new_empty(len(delta) + 1, *starts.shape)  # [1 + T, G, M, I, N]
    states[0] = starts
    for t in range(len(delta)):
        torch.mul(_decays(delta[t], decay), states[t], out=states[t + 1])
        states[t + 1].addcmul_(driven[t, ..., None], b[t, :, :, None])
    arriving = _arriving(grad, delta, decay, c)
    to_driven, to_delta, to_b = torch.empty_like(driven), torch.empty_like(driven), torch.empty_like(b)
    to_decay = torch.zeros_like(starts)
    for t in reversed(range(len(delta))):
        arriving.addcmul_(grad[t, ..., None], c[t, :, :, None])  # gradient of the state after position t
        torch.matmul(arriving, b[t, ..., None], out=to_driven[t, ..., None])
        torch.matmul(driven[t, :, :, None], arriving, out=to_b[t, :, :, None])
        arriving.mul_(_decays(delta[t], decay))
        through = arriving * states[t]  # gradient of delta_t * decay
        torch.sum(through * decay[:, None], dim=3, out=to_delta[t])
        to_decay.addcmul_(through, delta[t, ..., None])
    to_c = (grad[..., None, :] @ states[1:]).squeeze(3)
    to_driven = _join(to_driven, length)
    to_u, to_delta = to_driven * step, _join(to_delta, length) + to_driven * u
    return to_u, to_delta, to_decay.sum(1), _join(to_b, length), _join(to_c, length)


def _arriving(grad: Tensor, delta: Tensor, decay: Tensor, c: Tensor) -> Tensor:  # -> [G, M, I, N]
    """Gradients of the state after each block that come from later blocks: the scan, run backwards."""
    own = torch.zeros_like(_decays(delta[0], decay))
    for t in reversed(range(len(delta))):
        own = own.addcmul_(grad[t, ..., None], c[t, :, :, None]).mul_(_decays(delta[t], decay))
    return _carry(own.flip(1), _decays(delta.sum(0), decay).flip(1)).flip(1)
