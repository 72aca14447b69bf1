"""Restoration networks by name, and the loading of published weights into them.

A backbone is an `nn.Module` whose keyword-only, typed constructor arguments are its YAML fields, and whose
`forward(x, task=None)` takes images [B, 3, H, W] in [0, 1] of any size and returns an image or a list of images. Class
attributes say what the engine must know:

- `couples_samples`: whether a sample's output depends on the others of its batch while training.
- `unused`: glob patterns of parameters that exist only so that published weights load strictly.
- `latent_module`: dotted name of the module whose output, [B, C, h, w] or [B, N, C], is the network's latent.
- `restored_output`: "first" or "last", which image of a list is the restored one; "first" if it is missing.
- `encoder_module`: dotted name of the module that represents the degradation, [B, 3, H, W] -> [B, C, h, w].
- `published_auxiliary`: auxiliary objectives of its published training, which a strategy has unless it lists its own.
- `output_weights`: weights of the images of a list in the base loss; 1 each if it is missing.

A network is imported when it is first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from cmtl_ir.base import errors
from cmtl_ir.strategy import registry

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cmtl_ir.backbones._weights import WeightsReport

ENTRY_POINT_GROUP = "cmtl_ir.backbones"

BACKBONES: dict[str, str] = {
    "adair": "cmtl_ir.backbones.adair:AdaIR",
    "airnet": "cmtl_ir.backbones.airnet:AirNet",
    "anyir": "cmtl_ir.backbones.anyir:AnyIR",
    "biden": "cmtl_ir.backbones.biden:BIDeN",
    "captnet": "cmtl_ir.backbones.captnet:CAPTNet",
    "dehazeformer": "cmtl_ir.backbones.dehazeformer:DehazeFormer",
    "dgunet": "cmtl_ir.backbones.dgunet:DGUNet",
    "dgunet_plus": "cmtl_ir.backbones.dgunet_plus:DGUNetPlus",
    "dynet": "cmtl_ir.backbones.dynet:DyNet",
    "fsnet": "cmtl_ir.backbones.fsnet:FSNet",
    "gridformer": "cmtl_ir.backbones.gridformer:GridFormer",
    "grl": "cmtl_ir.backbones.grl:GRL",
    "hair": "cmtl_ir.backbones.hair:HAIR",
    "idr": "cmtl_ir.backbones.idr:IDR",
    "instructir": "cmtl_ir.backbones.instructir:InstructIR",
    "ipt": "cmtl_ir.backbones.ipt:IPT",
    "ir_sde": "cmtl_ir.backbones.ir_sde:IRSDE",
    "mambair": "cmtl_ir.backbones.mambair:MambaIR",
    "mambair_unet": "cmtl_ir.backbones.mambair_unet:MambaIRUNet",
    "measnet": "cmtl_ir.backbones.measnet:MEASNet",
    "mirnet_v2": "cmtl_ir.backbones.mirnet_v2:MIRNetV2",
    "moce_ir": "cmtl_ir.backbones.moce_ir:MoCEIR",
    "mprnet": "cmtl_ir.backbones.mprnet:MPRNet",
    "msbdn": "cmtl_ir.backbones.msbdn:MSBDN",
    "nafnet": "cmtl_ir.backbones.nafnet:NAFNet",
    "promptgip": "cmtl_ir.backbones.promptgip:PromptGIP",
    "promptir": "cmtl_ir.backbones.promptir:PromptIR",
    "prores": "cmtl_ir.backbones.prores:ProRes",
    "restormer": "cmtl_ir.backbones.restormer:Restormer",
    "retinexformer": "cmtl_ir.backbones.retinexformer:Retinexformer",
    "srresnet": "cmtl_ir.backbones.srresnet:SRResNet",
    "swinir": "cmtl_ir.backbones.swinir:SwinIR",
    "transweather": "cmtl_ir.backbones.transweather:TransWeather",
    "unet": "cmtl_ir.backbones.unet:UNet",
    "utilityir": "cmtl_ir.backbones.utilityir:UtilityIR",
    "uwadn": "cmtl_ir.backbones.uwadn:UWADN",
    "weather_diffusion": "cmtl_ir.backbones.weather_diffusion:WeatherDiffusion",
    "wgws": "cmtl_ir.backbones.wgws:WGWS",
}

COMPOSITIONS = {
    "independent_networks": "cmtl_ir.backbones.compositions:IndependentNetworks",
    "own_encoders": "cmtl_ir.backbones.compositions:OwnEncoders",
}
"""Compositions of any network, which are no published networks."""

MADE_OF_OTHERS = {
    "adapted": "cmtl_ir.backbones._adapted:Adapted",
    "ensemble": "cmtl_ir.backbones._ensemble:Ensemble",
    "featured": "cmtl_ir.backbones._featured:featured",
    "headed": "cmtl_ir.backbones._headed:headed",
}
"""Networks that are built around another one by a part of a strategy, and cannot be chosen by name."""


def shipped() -> list[str]:
    """Return the names of the networks and compositions of this package, sorted."""
    return sorted({*BACKBONES, *COMPOSITIONS})


def names() -> list[str]:
    """Return every name that `backbone_class` knows, sorted, without importing the networks."""
    return sorted({*BACKBONES, *COMPOSITIONS, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def backbone_class(name: str) -> type[nn.Module]:
    """Return the class of that name, of an entry point or of `path/to/file.py:Class`.

    Raises UnknownName, a ValueError, listing near names.
    """
    if ".py:" in name:
        return registry.load("backbone", name)
    ours = {**BACKBONES, **COMPOSITIONS, **MADE_OF_OTHERS}
    if name in ours:
        module, _, class_name = ours[name].partition(":")
        return getattr(importlib.import_module(module), class_name)
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return point.load()
    raise errors.UnknownName(f"unknown backbone {name!r}: {errors.suggestion(name, names())}")


def build(name: str, **fields: Any) -> nn.Module:
    """Build a backbone with fresh weights from torch's default generator, which the caller seeds or forks."""
    return backbone_class(name)(**fields)


def load_weights(model: nn.Module, path: str | Path) -> WeightsReport:
    """Fill `model` strictly from a .safetensors, .pth or .ckpt file. Raises WeightsError naming file and keys."""
    from cmtl_ir.backbones._weights import load_weights as load

    return load(model, path)
