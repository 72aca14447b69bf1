"""The families of parts, in one table. A new family is one line here and a folder of parts."""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A kind of part: its contract, where its parts are, and which key of a strategy asks for one."""

    name: str
    contract: str
    """`module:Class` of the base class; imported when it is first needed, because `--help` must not load torch."""
    package: str | None = None
    """Package that holds the parts shipped; `None`: they are in `cmtl_ir.strategies.<name>`. A package in the
    entry-point group adds parts in `<package>.<name>` in either case."""
    key: str | None = None
    """Key of a strategy that takes such a part; `None` if a strategy has no such key."""
    many: bool = False
    """Whether the key takes a list of parts instead of one."""
    neutral: str | None = None
    """Name of the part that an absent key stands for; `None` if an absent key means no part."""
    in_steps: bool = True
    """Whether its parts take part in training steps, so that `describe` states what they add to one."""
    always_in_identity: bool = False
    """Whether a run's identity names the family even if the strategy has no such part. False for every family that is
    added later, so that the hashes of older runs do not change."""

    def base(self) -> type:
        """Import and return the contract's class."""
        module, _, name = self.contract.partition(":")
        found: type = getattr(importlib.import_module(module), name)
        return found


_PARTS = "cmtl_ir.strategy.parts"
_TABLE = (
    Family("curriculum", f"{_PARTS}:Curriculum", key="curriculum", neutral="joint", always_in_identity=True),
    Family("weighting", f"{_PARTS}:Weighting", key="weighting", neutral="proportional", always_in_identity=True),
    Family("surgery", f"{_PARTS}:Surgery", key="surgery", always_in_identity=True),
    Family("retention", f"{_PARTS}:Retention", key="retention", always_in_identity=True),
    Family("objective", "cmtl_ir.strategy.objective:Objective", key="auxiliary", many=True),
    Family("grouping", "cmtl_ir.strategy.grouping:Grouping", key="grouping", always_in_identity=True),
    Family("unlearning", "cmtl_ir.strategy.unlearning:Unlearner"),
    Family("adaptation", "cmtl_ir.strategy.adaptation:Adapter", in_steps=False),
    Family("degradation", "cmtl_ir.strategy.degradation:Degradation", "cmtl_ir.tasks.degradations", in_steps=False),
    Family("metric", "cmtl_ir.measures.metric:Metric", "cmtl_ir.measures.metrics", in_steps=False),
)
FAMILIES = {family.name: family for family in _TABLE}
"""Name -> family, in the order in which `cmtl-ir list` shows them."""
KEYS = {family.key: family for family in _TABLE if family.key is not None}
"""Key of a strategy -> family."""
