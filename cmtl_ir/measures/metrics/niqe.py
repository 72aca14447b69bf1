"""Natural image quality evaluator."""

from __future__ import annotations

from cmtl_ir.measures.metrics._pyiqa import Pyiqa
from cmtl_ir.measures.scale import Scale
from cmtl_ir.strategy.registry import register


@register
class Niqe(Pyiqa):
    """Natural image quality evaluator of the restored luma (Mittal et al., SPL 2013), by pyiqa; lower is better."""

    scale = Scale("niqe", higher_is_better=False)
