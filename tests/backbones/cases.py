"""Small presets of every network, and the fill rule that makes weights without any random number."""

from __future__ import annotations

import ast
import functools
import math
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones


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

    def shared(self) -> Any:
        """The network of `build` in evaluation, the same object for all tests that only call it."""
        return _shared(self.name, repr(self.fields))


@functools.lru_cache(maxsize=2)
def _shared(name: str, fields: str) -> Any:
    return Case(name, ast.literal_eval(fields)).build().eval()


@functools.lru_cache(maxsize=32)
def _meta(name: str, fields: str) -> Any:
    with torch.device("meta"):
        return backbones.build(name, **ast.literal_eval(fields))


def meta(name: str, **fields: Any) -> Any:
    """The network without memory behind its tensors, the same object for all tests."""
    return _meta(name, repr(fields))


CASES = {
    "adair": Case("adair", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}),
    "dgunet": Case("dgunet", {"width": 4, "growth": 2, "last_growth": 2, "depth": 2}),
    "dgunet_plus": Case("dgunet_plus", {"width": 4, "growth": 2}),
    "fsnet": Case("fsnet", {"width": 16, "blocks": 4}),
    "fsnet_frozen": Case("fsnet", {"width": 16, "blocks": 4, "window": None, "frozen_statistics": True}),
    "mirnet_v2": Case("mirnet_v2", {"width": 16, "blocks": 1}),
    "mprnet": Case("mprnet", {"width": 8, "unet_growth": 4, "original_growth": 4, "attention_blocks": 1}),
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
    "dehazeformer": Case(
        "dehazeformer", {"widths": [4, 8, 8, 8, 4], "depths": [1, 2, 2, 1, 1], "heads": [1, 2, 2, 1, 1]}
    ),
    "dehazeformer_conv": Case(
        "dehazeformer",
        {"widths": [4, 8, 8, 8, 4], "depths": [1, 2, 2, 1, 1], "heads": [1, 2, 2, 1, 1], "conv": "conv"},
    ),
    "grl": Case("grl", {"width": 8, "depths": [4], "heads": 2, "window": 8, "stripe": [8, 16], "drop_path": 0.5}),
    "grl_local": Case(
        "grl",
        {
            "width": 20,
            "depths": [4],
            "heads": 2,
            "window": 8,
            "stripe": [8, None],
            "stripe_groups": [None, 2],
            "local_connection": True,
        },
    ),
    "ipt": Case("ipt", {"features": 4, "image_size": 12, "heads": 2, "layers": 1, "value_range": 1.0}),
    "mambair": Case("mambair", {"width": 30, "depths": [1, 1], "states": 3, "drop_path": 0.5}),
    "mambair_unet": Case(
        "mambair_unet", {"width": 30, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "states": 2, "expansion": 0.5}
    ),
    "retinexformer": Case("retinexformer", {"width": 8, "stages": 2, "blocks": [1, 1, 1]}),
    "airnet": Case("airnet", {"groups": 1, "blocks": 1, "contrast_batch": 2}),
    "airnet_frozen": Case("airnet", {"groups": 1, "blocks": 1, "contrast_batch": 2, "frozen_statistics": True}),
    "transweather": Case("transweather", {"widths": [4, 8, 8, 16], "drop_path": 0.5}),
    "transweather_base": Case("transweather", {"widths": [4, 8, 8, 16], "decoder": False, "drop_path": 0.5}),
    "biden": Case("biden", {"features": 4, "tasks": 4}),
    "biden_first": Case("biden", {"features": 4, "tasks": 2, "head": "first", "discriminator": True}),
    "idr": Case(
        "idr",
        {"width": 4, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "heads": [1, 2, 2, 2]}
        | {"operations": ["add", "point", "conv", "add"]},
    ),
    "idr_second_stage": Case(
        "idr",
        {"width": 4, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "heads": [1, 2, 2, 2], "stage": 2}
        | {"operations": ["add", "point", "conv", "add"]},
    ),
    "ir_sde": Case("ir_sde", {"width": 4, "multipliers": [1, 2], "vector": 8, "steps": 1, "sampler": "sde"}),
    "ir_sde_content": Case(
        "ir_sde",
        {"width": 4, "multipliers": [8, 8], "vector": 8, "steps": 1, "content_vector": True},
    ),
    "msbdn": Case("msbdn", {"width": 2, "blocks": 1}),
    "promptgip": Case(
        "promptgip",
        {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2, "patch": 4}
        | {"size": 24, "tasks": 4},
    ),
    "prores": Case(
        "prores",
        {
            "width": 16,
            "depth": 4,
            "heads": 2,
            "patch": 4,
            "image_size": 24,
            "head_width": 4,
            "windowed": [0],
            "window": 3,
        }
        | {"drop_path": 0.5, "tasks": 4, "prompt_size": 8},
    ),
    "utilityir": Case("utilityir", {"width": 4, "blocks": 1, "degradation": 4}),
    "uwadn": Case("uwadn", {"groups": 1, "blocks": 1, "widths": [0.1, 0.2]}),
    "weather_diffusion": Case(
        "weather_diffusion",
        {"width": 32, "multipliers": [1, 1], "blocks": 1, "attention_sides": [8], "patch": 16, "stride": 16, "steps": 1}
        | {"patches_per_image": 3},
    ),
    "wgws": Case("wgws", {"base": 4, "blocks": 1, "stage": 2, "tasks": 4}),
    "wgws_general": Case("wgws", {"base": 4, "blocks": 1}),
}

COUPLED = frozenset({"airnet", "anyir", "fsnet", "measnet", "uwadn"})
"""Cases whose samples depend on each other in training."""

DEAR = frozenset(
    "adair dgunet_plus dynet gridformer hair mambair_unet measnet measnet_frozen msbdn promptir".split()  # noqa: SIM905
)
"""Networks whose passes take longest, each of a kind of which another one is tested every time."""


def sampled(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a claim that is the same code for all of them.

    Dear networks, and further fields of a network that is there with others, are tested before a release only.
    """
    dear = DEAR | {name for name, case in CASES.items() if name != case.name}
    return [pytest.param(name, id=name, marks=pytest.mark.release if name in dear else ()) for name in names]


WEAKENED = {".dgm": 0.3, ".convolve.": 0.2, "_residual": 0.1}
"""Parts of AirNet, IDR and WGWS-Net that are chaotic at the rule's full strength, and their factors."""


def spread(count: int, key: str) -> Tensor:
    """[count] float64 in [-1, 1], from a hash of position and key."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(zlib.crc32(key.encode()))
    for _ in range(2):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x45D9F3B)
    x ^= x >> np.uint32(16)
    return torch.from_numpy(x.astype(np.float64) / 2**31 - 1)


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """Weights by key name: a wrong key, shape or eps shows in the output."""
    for key, parameter in model.named_parameters():
        if "_mean." in key:  # IPT's constants
            continue
        values = spread(parameter.numel(), key).reshape(parameter.shape)
        if not key.endswith("weight"):
            values *= 0.5
        elif parameter.ndim > 1:
            values *= math.sqrt(3 / math.prod(parameter.shape[1:]))
        else:
            values = 1 + 0.1 * values
        parameter.copy_(values * next((factor for part, factor in WEAKENED.items() if part in key), 1.0))
    return model


def image(channels: int, height: int, width: int, batch: int = 1, key: str = "input") -> Tensor:
    """[batch, channels, height, width] float64 in [0, 1]."""
    return (0.5 + 0.5 * spread(batch * channels * height * width, key)).reshape(batch, channels, height, width)


def task_numbers(batch: int) -> Tensor:
    """[batch] int64."""
    return torch.arange(batch) % 7
