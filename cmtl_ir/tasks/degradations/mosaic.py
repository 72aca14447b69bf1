"""One colour per pixel, as recorded by a sensor."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor

from cmtl_ir.base.keyed import integers, normal, substream
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._fields import positions
from cmtl_ir.tasks.degradations._filters import padded
from cmtl_ir.tasks.degradations._graded import Graded, drawn, spread
from cmtl_ir.tasks.degradations._limits import Range, within

Pattern = Literal["rggb", "grbg", "gbrg", "bggr"]
PATTERNS = {"rggb": (0, 0), "grbg": (0, 1), "gbrg": (1, 0), "bggr": (1, 1)}
"""Row and column of the first red pixel."""


def _listed(given: Any) -> Any:
    """Accept one pattern as a list of one."""
    if isinstance(given, list | tuple) and not given:
        raise ValueError(f"the list is empty; name one pattern or more of {', '.join(PATTERNS)}")
    return [given] if isinstance(given, str) else given


@register
class Mosaic(Graded):
    """Bayer mosaic, demosaicked bilinearly, with optional sensor noise (Gharbi et al., SIGGRAPH Asia 2016).

    The pattern is aligned with the full image. Borders are reflected, which keeps the pattern.
    """

    severities: ClassVar = {"sigma": ((0, 0), (5, 5), (10, 10), (20, 20), (40, 40))}

    patterns: Annotated[tuple[Pattern, ...], BeforeValidator(_listed)] = ("rggb", "grbg", "gbrg", "bggr")
    """Colours of the four pixels of a cell, each pattern equally likely (ours; cameras differ)."""
    sigma: Annotated[Range, within(0, 255)] = (0, 0)
    """Standard deviation of the sensor noise on the 0..255 scale (Gharbi et al. also train on 0 to 20)."""
    demosaic: Literal["bilinear", "none"] = "bilinear"
    """bilinear: missing colours are the mean of their neighbours. none: missing colours are 0."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        red = torch.tensor([PATTERNS[name] for name in self.patterns], device=keys.device)  # [patterns, 2]
        return {
            "red": red[integers(substream(keys, "pattern"), 0, len(red))],  # [B, 2]
            "sigma": drawn(keys, "sigma", self.sigma),
        }

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        noise = normal(substream(keys, "noise"), (1, *clean.shape[2:])) * spread(parameters["sigma"] / 255)
        seen = (clean + noise).clamp_(0, 1) * colour_masks(origin, parameters["red"], clean.shape[2], clean.shape[3])
        if self.demosaic == "none":
            return seen
        wide = padded(seen, 1)
        across = (wide[..., :-2] + wide[..., 2:]) / 2 + wide[..., 1:-1]  # [B, 3, h + 2, w]
        square = (across[:, :, :-2] + across[:, :, 2:]) / 2 + across[
            :, :, 1:-1
        ]  # [[1, 2, 1], [2, 4, 2], [1, 2, 1]] / 4
        cross = seen + (wide[:, :, :-2, 1:-1] + wide[:, :, 2:, 1:-1] + wide[:, :, 1:-1, :-2] + wide[:, :, 1:-1, 2:]) / 4
        return torch.stack([square[:, 0], cross[:, 1], square[:, 2]], 1).clamp_(0, 1)


def colour_masks(origin: Tensor, red: Tensor, height: int, width: int) -> Tensor:
    """Return 1 where the sensor sees a colour and 0 elsewhere: [B, 3, h, w] float32."""
    odd_row = ((positions(origin, 0, height) - red[:, :1]) % 2)[:, :, None]  # [B, h, 1]: 0 where red rows are
    odd_column = ((positions(origin, 1, width) - red[:, 1:]) % 2)[:, None, :]
    greens = odd_row ^ odd_column
    return torch.stack([(1 - greens) * (1 - odd_row), greens, (1 - greens) * odd_row], 1).to(torch.float32)
