"""cmtl-ir: one restoration backbone, many learning strategies, one fair comparison.

>>> from cmtl_ir import load, run
>>> comparison = run(load("quickstart"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cmtl_ir.config import load
    from cmtl_ir.registry import register
    from cmtl_ir.restoration import evaluate, restore
    from cmtl_ir.runs import run

_HOMES = {
    "load": "cmtl_ir.config",
    "run": "cmtl_ir.runs",
    "restore": "cmtl_ir.restoration",
    "evaluate": "cmtl_ir.restoration",
    "register": "cmtl_ir.registry",
}
__all__ = ["__version__", "evaluate", "load", "register", "restore", "run"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are used: `import cmtl_ir` and `cmtl-ir --help` stay fast."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cmtl_ir' has no attribute {name!r}")
