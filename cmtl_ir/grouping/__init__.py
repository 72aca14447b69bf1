"""Grouped runs: probes of the tasks, a plan of groups, one ordinary run per group, a router, scores.

The contract of a grouping is in `cmtl_ir.strategy.grouping`. User files may import it from here as well.
"""

from cmtl_ir.strategy.grouping import Features as Features
from cmtl_ir.strategy.grouping import Group as Group
from cmtl_ir.strategy.grouping import Grouping as Grouping
from cmtl_ir.strategy.grouping import Matrix as Matrix
from cmtl_ir.strategy.grouping import Probe as Probe
