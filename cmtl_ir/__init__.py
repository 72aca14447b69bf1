"""cmtl-ir: one restoration backbone, many learning strategies, one fair comparison.

>>> from cmtl_ir import load, run
>>> comparison = run(load("quickstart"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmtl_ir.base.version import __version__

if TYPE_CHECKING:
    from cmtl_ir.config.reading import load
    from cmtl_ir.inference.loading import load_model
    from cmtl_ir.inference.restoration import evaluate, restore
    from cmtl_ir.runs.comparison import run
    from cmtl_ir.strategy.registry import register

_HOMES = {
    "load": "cmtl_ir.config.reading",
    "load_model": "cmtl_ir.inference.loading",
    "run": "cmtl_ir.runs.comparison",
    "restore": "cmtl_ir.inference.restoration",
    "evaluate": "cmtl_ir.inference.restoration",
    "register": "cmtl_ir.strategy.registry",
}
__all__ = ["__version__", "evaluate", "load", "load_model", "register", "restore", "run"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are used: `import cmtl_ir` and `cmtl-ir --help` stay fast."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cmtl_ir' has no attribute {name!r}")
