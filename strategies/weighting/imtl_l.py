"""Impartial loss balance: the laplace form of `uncertainty` with the opposite sign of the parameter."""

from __future__ import annotations

from typing import ClassVar, Literal

from cmtl_ir.strategy.registry import register

from .uncertainty import Uncertainty


@register
class ImtlL(Uncertainty):
    """IMTL-L (Liu et al., ICLR 2021): sum e^s l - s, so w = e^s and ds = e^s l - 1.

    This is bit for bit the same method as `uncertainty` of form laplace with s -> -s. Do not count it twice.
    """

    sign: ClassVar[float] = 1.0

    form: Literal["laplace"] = "laplace"
    """The only form that IMTL-L has."""
