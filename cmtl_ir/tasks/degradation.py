"""The contract of degradations under its earlier address, for files of users that import it from here."""

from cmtl_ir.strategy.degradation import Degradation as Degradation
