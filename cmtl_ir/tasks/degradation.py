"""The earlier address of the contract of degradations, kept for files of users that import it from here."""

from cmtl_ir.strategy.degradation import Degradation as Degradation
