"""Impartial loss balance: the laplace form of `uncertainty`, parametrised the other way round."""

from __future__ import annotations

from typing import ClassVar, Literal

from cmtl_ir.strategy.registry import register

from .uncertainty import Uncertainty


@register
class ImtlL(Uncertainty):
    """IMTL-L (Liu et al., ICLR 2021): sum e^s l - s, so w = e^s and ds = e^s l - 1.

    The same method as `uncertainty` of form laplace with s -> -s (bit for bit): do not count it twice.
    """

    sign: ClassVar[float] = 1.0

    form: Literal["laplace"] = "laplace"
    """The one form that IMTL-L has."""
