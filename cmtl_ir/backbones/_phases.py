"""Networks whose published training has two phases that read different parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Phased(nn.Module):
    """A network that begins in phase 1 and is brought to phase 2 once, by the curriculum `two_stage`.

    The number of the phase is a buffer, so that weights that are stored or averaged know in which phase they are used.
    A subclass calls `begin_phases` at the end of its constructor if it is to have both.
    """

    phase: Tensor  # [] int64, registered by `begin_phases`
    frozen_in: ClassVar[Mapping[int, tuple[str, ...]]] = {}
    """Phase -> shell patterns of the parameters that are not trained in it."""

    def begin_phases(self) -> None:
        """Start in phase 1."""
        self.register_buffer("phase", torch.ones((), dtype=torch.int64))
        self.register_load_state_dict_post_hook(_phase_of_loaded_weights)
        self.use_phase(1)

    @property
    def has_phases(self) -> bool:
        """Whether this network has both phases."""
        return "phase" in self._buffers

    def enter_phase(self, number: int) -> None:
        """Go on in phase 1 or 2."""
        self.phase.fill_(number)
        self.use_phase(number)

    def use_phase(self, number: int) -> None:
        """Make the forward pass that of a phase."""
        raise TypeError(f"{type(self).__name__} does not define its phases")


def _phase_of_loaded_weights(module: Any, incompatible: Any) -> None:
    module.use_phase(int(module.phase))
