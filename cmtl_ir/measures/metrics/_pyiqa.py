"""LPIPS, NIQE and BRISQUE as computed by pyiqa, an optional dependency.

They see the 8-bit image that `restore` would write, without the protocol's border. Their learnt weights are not part
of any package. pyiqa reads them from its folder below torch.hub.get_dir(), or downloads them there on first use.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from pydantic import PrivateAttr
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.measures.metric import Metric
from cmtl_ir.measures.protocol import Protocol


class Pyiqa(Metric):
    """A metric of pyiqa, found by the name of its scale."""

    full_reference: ClassVar[bool] = False
    """Whether the metric compares with the clean image, or sees only the restored image."""

    _network: Any = PrivateAttr(default=None)

    def prepare(self, device: torch.device) -> None:
        """Load pyiqa's network. Raise UserError with the remedy if pyiqa or its weights are missing."""
        self._network = _created(self.scale.name, device)

    @torch.no_grad()
    def __call__(self, restored: Tensor, clean: Tensor, protocol: Protocol | str) -> Tensor:
        """Return the scores [B] of images [B, 3, H, W] in [0, 1]."""
        images = [_as_written(one) for one in (restored, clean)]
        return self._network(*(images if self.full_reference else images[:1])).flatten()


def _as_written(image: Tensor) -> Tensor:
    return (image.float().clamp(0, 1) * 255.0).round() / 255.0


def _created(name: str, device: torch.device) -> Any:
    try:
        import pyiqa
    except ImportError as error:
        raise UserError(f"{name} needs pyiqa ({error}): pip install 'cmtl-ir[metrics]'") from error
    # By default pyiqa would unpickle its files of weights.
    with patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
        try:
            return pyiqa.create_metric(name, device=device)
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            folder = os.path.join(torch.hub.get_dir(), "pyiqa")
            raise UserError(f"{name}: pyiqa has no weights in {folder} and could not fetch them: {error}") from error
