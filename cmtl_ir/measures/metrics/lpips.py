"""Learned perceptual image patch similarity."""

from __future__ import annotations

from cmtl_ir.measures.metrics._pyiqa import Pyiqa
from cmtl_ir.measures.scale import Scale
from cmtl_ir.strategy.registry import register


@register
class Lpips(Pyiqa):
    """Learned perceptual similarity (Zhang et al., CVPR 2018; AlexNet, version 0.1), by pyiqa; lower is better."""

    scale = Scale("lpips", higher_is_better=False)
    full_reference = True
