"""VGG features (Simonyan and Zisserman, ICLR 2015) from a file of the user: nothing is downloaded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.weights_file import read_weights

from . import Space

LAYERS = {
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
    "vgg19": (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512),
}
"""Output channels of the convolutions, and poolings, in order."""
LEVELS: dict[str, dict[int, float]] = {
    "vgg16": {3: 1 / 3, 8: 1 / 3, 15: 1 / 3},  # relu1_2, 2_2, 3_3: OneRestore
    "vgg19": {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0},  # relu1_1 .. 5_1: AECR-Net, C2PNet
}
"""Number of the module in torchvision's `features` -> weight of its output."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
log = logging.getLogger("cmtl_ir")


class VGG:
    """The convolutional part of a VGG up to the last level that is read."""

    def __init__(self, plan: list[Any], levels: Mapping[int, float], normalise: bool) -> None:
        """`plan`: per module a pair (weight, bias), or "relu" or "pool"."""
        self.plan, self.levels, self.normalise = plan, levels, normalise

    def __call__(self, images: Tensor, task: str = "") -> list[Tensor]:  # [B, 3, H, W]
        """Return the maps of the levels."""
        h, maps = self._normalised(images), []
        for number, module in enumerate(self.plan):
            if module == "relu":
                h = F.relu(h)
            elif module == "pool":
                h = F.max_pool2d(h, 2)
            else:
                if module[0].device != h.device:
                    self.plan[number] = module = tuple(one.to(h.device) for one in module)
                weight, bias = (one.to(h.dtype) for one in module)
                h = F.conv2d(h, weight, bias, padding=1)
            if number in self.levels:
                maps.append(h)
        return maps

    def _normalised(self, images: Tensor) -> Tensor:
        if not self.normalise:
            return images
        mean, deviation = (images.new_tensor(one).view(3, 1, 1) for one in (MEAN, DEVIATION))
        return (images - mean) / deviation


def load(
    name: Literal["vgg16", "vgg19"], file: str, normalise: bool, levels16: Mapping[int, float] | None = None
) -> Space:
    """Return the space of a file with torchvision's state dict, and log the file's SHA-256.

    `levels16` replaces the levels of `vgg16`; `None`: those of `LEVELS`.

    Raise UserError if the file cannot be read, and ConfigError if it does not hold the convolutions of this VGG.
    """
    path, levels = Path(file).expanduser(), LEVELS[name]
    if name == "vgg16" and levels16 is not None:
        levels = dict(levels16)
    weights = read_weights(path)
    plan = _plan(name, weights if isinstance(weights, Mapping) else {}, max(levels), path)
    log.info("features %s from %s, SHA-256 %s", name, path, hashlib.sha256(path.read_bytes()).hexdigest())
    return Space(tuple(levels.values()), VGG(plan, levels, normalise))


def _plan(name: str, weights: Mapping[str, Any], last: int, path: Path) -> list[Any]:
    plan: list[Any] = []
    inputs = 3
    for layer in LAYERS[name]:
        if isinstance(layer, str):
            plan.append("pool")
            continue
        plan += [_convolution(weights, len(plan), (layer, inputs, 3, 3), f"{path} is not {name}"), "relu"]
        inputs = layer
        if len(plan) > last:
            break
    return plan[: last + 1]


def _convolution(weights: Mapping[str, Any], number: int, shape: tuple[int, ...], said: str) -> tuple[Tensor, Tensor]:
    found = []
    for kind, expected in (("weight", shape), ("bias", shape[:1])):
        key = f"features.{number}.{kind}"
        value = weights.get(key)
        if not isinstance(value, Tensor) or tuple(value.shape) != expected:
            has = list(value.shape) if isinstance(value, Tensor) else "nothing"
            raise ConfigError(f"{said}: expected {key} {list(expected)}, found {has}; give torchvision's state dict")
        found.append(value.detach().to(torch.promote_types(value.dtype, torch.float32)))
    return found[0], found[1]
