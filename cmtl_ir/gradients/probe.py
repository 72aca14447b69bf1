"""A check before the first joint pass that one pass split by row gives the same gradients as one pass per row.

It runs under slightly changed weights, because zeros would hide errors. Sums of the outputs replace the losses, which
may count their calls. Two sketches per row and parameter are compared: its norm and one projection.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cmtl_ir.gradients.jacobian import Forward, Jacobian
from cmtl_ir.gradients.one_pass import fill_in_one_pass
from cmtl_ir.gradients.sink import Unsupported
from cmtl_ir.gradients.stream import fill_by_row
from cmtl_ir.strategy.output import Output

MOVED = 0.02  # change of a parameter, relative to its root mean square
ALIKE = 0.1  # relative to a gradient's norm: bfloat16 differs by a few percent, samples in the wrong row by about 1
NOISE = 0.01  # relative to the row's root mean square: smaller gradients may be only rounding


def why_not_one_pass(jacobian: Jacobian, forward: Forward, sizes: Sequence[int]) -> str | None:
    """Return why one joint pass does not work for this network, or `None` if it agrees with one pass per row."""
    with torch.no_grad():
        torch._foreach_copy_(jacobian.update_views, jacobian.parameters)
    try:
        with torch.no_grad():
            for i, parameter in enumerate(jacobian.parameters):
                size = float(parameter.square().mean().sqrt()) or 1.0
                parameter.add_(_waves(parameter, i) * (MOVED * size))
        fill_by_row(jacobian, forward, sizes, _sum_of_waves)
        by_row = _sketches(jacobian, len(sizes))
        fill_in_one_pass(jacobian, forward, sizes, _sum_of_waves)
        return _difference(jacobian, by_row, _sketches(jacobian, len(sizes)))
    except (Unsupported, RuntimeError) as error:
        return str(error).splitlines()[0]
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(jacobian.parameters), jacobian.update_views)


def _waves(like: Tensor, phase: float) -> Tensor:
    count = torch.arange(like.numel(), dtype=torch.float32, device=like.device)
    return torch.cos(count * 1.7 + phase).to(like.dtype).view(like.shape)


def _sum_of_waves(output: Output, row: int) -> Tensor:
    parts = [y.double() if y.dtype == torch.float64 else y.float() for y in output.tensors()]
    return torch.stack([(part * _waves(part, row)).sum() for part in parts]).sum()


def _sketches(jacobian: Jacobian, rows: int) -> Tensor:
    """Return [parameters, 2, rows]: norm and projection on a fixed vector of every row's gradient."""
    blocks = [block[:rows].reshape(rows, -1) for block in jacobian.blocks]
    pairs = [torch.stack([block.norm(dim=1), block @ _waves(block[0], i)]) for i, block in enumerate(blocks)]
    return torch.stack(pairs).double()


def _difference(jacobian: Jacobian, by_row: Tensor, joint: Tensor) -> str | None:
    """Return a message on the first parameter whose sketches [parameters, 2, rows] differ, or `None`."""
    norms = by_row[:, 0]  # [parameters, rows]
    numbers = torch.tensor([p.numel() for p in jacobian.parameters], dtype=norms.dtype, device=norms.device)
    noise = NOISE * norms.square().sum(0).sqrt() * (numbers[:, None] / jacobian.size).sqrt()
    bad = ~((by_row - joint).abs().amax(1) <= ALIKE * norms + noise).all(1)
    if not bool(bad.any()):
        return None
    name = jacobian.names[int(bad.nonzero()[0])]
    return f"{name}: the gradients of one joint pass, split by row, are not those of the rows"
