"""Counts of the samples that pass through a network, forwards and backwards: a cost that no other load can change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd.graph import register_multi_grad_hook

from cmtl_ir.strategy.output import Output


class Passes:
    """Number of samples that the networks of a learner were given, and that gradients passed backwards through."""

    def __init__(self) -> None:
        self.forward = self.backward = 0
        self._counting = True

    def counted(self, output: Output, samples: int) -> Output:
        """Count a forward pass of some samples, and each backward pass from its output. Return the output."""
        if self._counting:
            self.forward += samples
            reached = [tensor for tensor in output.tensors() if tensor.requires_grad]
            if reached:
                register_multi_grad_hook(reached, self._hook(samples), mode="any")
        return output

    def _hook(self, samples: int) -> Any:
        def hook(_: Sequence[Tensor | None] | Tensor) -> None:
            self.backward += samples

        return hook

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Count nothing meanwhile, for checks that are not part of the method."""
        self._counting = False
        try:
            yield
        finally:
            self._counting = True
