"""Makes `import torchvision` work beside a CPU build of torch."""

from __future__ import annotations

import torch

_declared: list[torch.library.Library] = []  # schemas live as long as their library object


def ensure_torchvision() -> None:
    """Import torchvision; declare the schemas of nms and qnms first where its compiled operators are missing.

    PyPI's torchvision is built for CUDA and cannot load its operators beside a CPU torch; its import then stops at
    "operator torchvision::nms does not exist", although nothing here calls them.
    """
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        import torchvision  # noqa: F401
