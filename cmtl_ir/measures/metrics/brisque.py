"""Blind spatial quality evaluator."""

from __future__ import annotations

from cmtl_ir.measures.metrics._pyiqa import Pyiqa
from cmtl_ir.measures.scale import Scale
from cmtl_ir.strategy.registry import register


@register
class Brisque(Pyiqa):
    """Quality of the restored luma without reference (Mittal et al., TIP 2012), by pyiqa; lower is better."""

    scale = Scale("brisque", higher_is_better=False)
