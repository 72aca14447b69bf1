"""LPIPS, NIQE and BRISQUE, as pyiqa computes them: an optional extra, for `evaluate` alone.

LPIPS (Zhang et al., CVPR 2018, AlexNet, version 0.1) compares with the clean image; NIQE (Mittal et al., SPL 2013) and
BRISQUE (Mittal et al., TIP 2012) look at the restored image alone, on Y. Of all three less is better. They see the
8-bit image that `restore` would write, without the protocol's border. Their learnt weights are not part of any package:
pyiqa takes them from its folder below torch.hub.get_dir(), or fetches them there on their first use.
"""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from cmtl_ir.base.errors import UnknownName, UserError, suggestion
from cmtl_ir.measures.evaluation import Score
from cmtl_ir.measures.metrics import Metric

PERCEPTUAL = {name: Metric(name, "", higher_is_better=False) for name in ("lpips", "niqe", "brisque")}
FULL_REFERENCE = ("lpips",)


def perceptual(name: str, device: torch.device) -> Score:
    """The metric of that name. Raises UserError where pyiqa or its weights are missing, saying how to get them."""
    if name not in PERCEPTUAL:
        raise UnknownName(f"no metric is called {name!r}; {suggestion(name, list(PERCEPTUAL))}")
    metric = _created(name, device)

    @torch.no_grad()
    def score(restored: Tensor, clean: Tensor) -> Tensor:
        images = [_as_written(one) for one in (restored, clean)]
        return metric(*(images if name in FULL_REFERENCE else images[:1])).flatten()[0]

    return score


def _as_written(image: Tensor) -> Tensor:
    return (image.float().clamp(0, 1) * 255.0).round() / 255.0


def _created(name: str, device: torch.device) -> Any:
    try:
        import pyiqa
    except ImportError as error:
        raise UserError(f"{name} needs pyiqa ({error}): pip install 'cmtl-ir[metrics]'") from error
    # pyiqa would unpickle whatever lies in its weights' files.
    with patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
        try:
            return pyiqa.create_metric(name, device=device)
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            folder = os.path.join(torch.hub.get_dir(), "pyiqa")
            raise UserError(f"{name}: pyiqa has no weights in {folder} and could not fetch them: {error}") from error
