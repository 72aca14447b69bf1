"""The only import of Avalanche (4,600 modules, wandb among them), made only when it is needed."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # schemas live as long as their library object


@cache
def library(module: str) -> ModuleType:
    """Return a module of Avalanche. Raise ImportError with the pip line if it is missing.

    With a CPU build of torch, torchvision's wheel cannot load its operators, and its import stops at "operator
    torchvision::nms does not exist", although nothing here calls them. So the missing operators are declared before
    Avalanche is imported.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
        _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in missing:
            _declared[-1].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except ImportError:
        pass
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'this needs Avalanche: pip install "avalanche-lib>=0.6" ({error})') from error
