"""Small presets of every network, and the fill rule that makes weights without any random number."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cmtl_ir import backbones

LOW = np.uint64(0xFFFFFFFF)


class Case(NamedTuple):
    """A network that is small enough for a test of milliseconds."""

    name: str
    fields: dict[str, Any]

    def build(self, dtype: torch.dtype = torch.float64) -> Any:
        """The network with the rule's weights; a buffer is the same at each call and exact in `dtype`."""
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            return fill(backbones.build(self.name, **self.fields))
        finally:
            torch.set_default_dtype(torch.float32)


CASES = {
    "anyir": Case("anyir", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "expansion": 1.0}),
    "captnet": Case("captnet", {"width": 4, "encoder": [1, 1, 1, 1]}),
    "dynet": Case("dynet", {"width": 8, "reuse": [1, 2, 1, 1], "refinement_blocks": 1, "expansion": 1.0}),
    "gridformer": Case(
        "gridformer",
        {
            "width": 4,
            "blocks": [1, 1, 1],
            "heads": [1, 2, 2],
            "sampling": [2, 1, 1],
            "growth": 4,
            "dense_layers": 1,
        },
    ),
    "hair": Case("hair", {"width": 16, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "expansion": 1.0}),
    "instructir": Case(
        "instructir", {"width": 4, "encoder": [1, 1], "middle": 1, "decoder": [1, 1], "text": 8, "tasks": 7}
    ),
    "instructir_learned": Case(
        "instructir",
        {"width": 4, "encoder": [1], "middle": 1, "decoder": [1], "text": 8, "instructions": "learned"},
    ),
    "measnet": Case("measnet", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "expansion": 1.0}),
    "moce_ir": Case(
        "moce_ir",
        {
            "width": 8,
            "blocks": [1, 1, 1, 1],
            "decoder_blocks": [1, 1, 1],
            "refinement_blocks": 1,
            "expansion": 1.0,
            "experts": 2,
        },
    ),
    "nafnet": Case("nafnet", {"width": 4, "encoder": [1, 2], "middle": 1, "decoder": [1, 1]}),
    "nafnet_local": Case(
        "nafnet", {"width": 4, "encoder": [1, 2], "middle": 1, "decoder": [1, 1], "local_training_size": 8}
    ),
    "srresnet": Case("srresnet", {"width": 8, "blocks": 2}),
    "srresnet_explicit": Case("srresnet", {"width": 8, "blocks": 2, "prompt": "explicit"}),
    "srresnet_adaptive": Case("srresnet", {"width": 8, "blocks": 2, "prompt": "adaptive"}),
    "unet": Case("unet", {"widths": [4, 6, 8, 10], "blocks": 1}),
    "unet_noise_map": Case("unet", {"widths": [4, 6, 8, 10], "blocks": 1, "noise_level": 15.0}),
    "restormer": Case("restormer", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}),
    "restormer_biasfree": Case(
        "restormer", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "norm": "BiasFree"}
    ),
    "promptir": Case("promptir", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}),
    "swinir": Case(
        "swinir",
        {"width": 12, "depths": [2, 2], "heads": [2, 2], "window": 4, "image_size": 16, "drop_path": 0.5},
    ),
    "airnet": Case("airnet", {"groups": 1, "blocks": 1, "contrast_batch": 2}),
    "airnet_frozen": Case("airnet", {"groups": 1, "blocks": 1, "contrast_batch": 2, "frozen_statistics": True}),
    "transweather": Case("transweather", {"widths": [4, 8, 8, 16], "drop_path": 0.5}),
    "transweather_base": Case("transweather", {"widths": [4, 8, 8, 16], "decoder": False, "drop_path": 0.5}),
}

COUPLED = frozenset({"airnet", "anyir", "measnet"})
"""Cases whose samples depend on each other in training."""


def spread(count: int, key: str) -> Tensor:
    """[count] float64 in [-1, 1], from a hash of position and key."""
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(key.encode()))) & LOW
    for _ in range(2):
        x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x45D9F3B)) & LOW
    x ^= x >> np.uint64(16)
    return torch.from_numpy(x.astype(np.float64) / 2**31 - 1)


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """Weights by key name: a wrong key, shape or eps shows in the output."""
    for key, parameter in model.named_parameters():
        values = spread(parameter.numel(), key).reshape(parameter.shape)
        if not key.endswith("weight"):
            values *= 0.5
        elif parameter.ndim > 1:
            values *= math.sqrt(3 / math.prod(parameter.shape[1:]))
        else:
            values = 1 + 0.1 * values
        # AirNet's 50 deformable convolutions in a row are chaotic at full strength.
        parameter.copy_(values * 0.3 if ".dgm" in key else values)
    return model


def image(channels: int, height: int, width: int, batch: int = 1, key: str = "input") -> Tensor:
    """[batch, channels, height, width] float64 in [0, 1]."""
    return (0.5 + 0.5 * spread(batch * channels * height * width, key)).reshape(batch, channels, height, width)


def task_numbers(batch: int) -> Tensor:
    """[batch] int64."""
    return torch.arange(batch) % 7
