"""Row gradients row by row: one forward and one backward pass per row, with the activation memory of one row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cmtl_ir.gradients.jacobian import Forward, Jacobian, Losses


def fill_by_row(
    jacobian: Jacobian, forward: Forward, sizes: Sequence[int], losses: Losses, micro_batch: int | None = None
) -> list[Tensor]:
    """Fill J from a graph per row, and return the rows' losses, detached.

    `micro_batch`: largest number of samples per forward pass. A row with more samples needs a second forward pass,
    without a graph. `None` means one pass per row.
    """
    jacobian.reached = [False] * len(jacobian.parameters)
    values, start = [], 0
    for row, size in enumerate(sizes):
        if micro_batch is None or size <= micro_batch:
            loss = losses(forward(start, start + size), row)
            _write_row(jacobian, row, torch.autograd.grad(loss, jacobian.parameters, allow_unused=True))
        else:
            loss = _fill_in_pieces(jacobian, forward, range(start, start + size, micro_batch), losses, row)
        values.append(loss.detach())
        start += size
    return values


def _fill_in_pieces(jacobian: Jacobian, forward: Forward, starts: range, losses: Losses, row: int) -> Tensor:
    """Write a row's gradient piece by piece, and return its loss.

    The chain rule is cut at the output. The output's gradient comes from a pass without a graph, then each piece is
    run again with a graph. The gradient of a loss that runs the network itself is added; its passes are not cut.
    """
    pieces = [(start, min(start + starts.step, starts.stop)) for start in starts]
    with torch.no_grad():
        outputs = [forward(*piece) for piece in pieces]
    parts = zip(*(output.tensors() for output in outputs), strict=True)
    whole = [torch.cat(part).requires_grad_() for part in parts]
    loss = losses(outputs[0].with_tensors(whole), row)
    found = torch.autograd.grad(loss, [*whole, *jacobian.parameters], allow_unused=True)
    pulls, direct = found[: len(whole)], found[len(whole) :]
    for start, stop in pieces:
        window = slice(start - starts.start, stop - starts.start)
        heads = [
            (y, pull[window]) for y, pull in zip(forward(start, stop).tensors(), pulls, strict=True) if pull is not None
        ]
        outputs_reached, grads = [y for y, _ in heads], [pull for _, pull in heads]
        gradients = torch.autograd.grad(outputs_reached, jacobian.parameters, grads, allow_unused=True)
        _write_row(jacobian, row, gradients, add=start > starts.start)
    if any(gradient is not None for gradient in direct):
        _write_row(jacobian, row, direct, add=True)
    return loss


def _write_row(jacobian: Jacobian, row: int, gradients: Sequence[Tensor | None], add: bool = False) -> None:
    """Write or add one gradient per parameter. `None` stands for zero."""
    views = jacobian.row_views[row]
    given = [(view, gradient) for view, gradient in zip(views, gradients, strict=True) if gradient is not None]
    write = torch._foreach_add_ if add else torch._foreach_copy_
    write([view for view, _ in given], [gradient for _, gradient in given])
    for i, gradient in enumerate(gradients):
        if gradient is not None:
            jacobian.reached[i] = True
        elif not add:
            views[i].zero_()
