"""What a network returns for a batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def final_output(restored: Any) -> Tensor:
    """The image a backbone means: its only output, or the first of several (MPRNet's last stage comes first)."""
    return restored[0] if isinstance(restored, list | tuple) else restored
