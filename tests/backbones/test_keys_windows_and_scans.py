"""Sizes, keys and shapes of MambaIR and others are those of the published weights."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from .cases import meta
from .test_keys import both, count, keys

SMALL_RATIO = {"attention": [1 / 4, 1 / 2, 3 / 4, 0, 0]}
WIDE = {"widths": [48, 96, 192, 96, 48], **SMALL_RATIO}
GRL_SMALL = {"width": 16, "depths": [4, 2], "heads": 2, "window": 8, "stripe": [8, 16]}
GRL_BASE = {"width": 180, "depths": [4, 4, 8, 8, 8, 4, 4], "heads": 3, "local_connection": True}
IPT_SMALL = {"features": 8, "image_size": 12, "heads": 4, "layers": 2, "tasks": 3, "scales": [1, 1, 2]}
MAMBA = {"width": 60, "depths": [2, 1], "states": 4}
LIGHT = {"width": 60, "depths": [6] * 4, "states": 10, "upsampler": "pixelshuffledirect", "scale": 2}

# fmt: off
SIZES: list[tuple[str, dict[str, Any], int, int]] = [
    ("dehazeformer", {}, 687_404, 258),
    ("dehazeformer", {"depths": [8, 8, 8, 4, 4], **SMALL_RATIO}, 1_284_884, 496),
    ("dehazeformer", {"depths": [16, 16, 16, 8, 8], **SMALL_RATIO}, 2_517_612, 972),
    ("dehazeformer", {"depths": [32, 32, 32, 16, 16], **SMALL_RATIO}, 4_983_068, 1924),
    ("dehazeformer", {"depths": [16, 16, 16, 8, 8], **WIDE}, 9_686_724, 972),
    ("dehazeformer", {"depths": [12, 12, 12, 6, 6], **SMALL_RATIO, "conv": "conv"}, 4_635_952, 710),
    ("dehazeformer", {"depths": [16, 16, 16, 12, 12], **WIDE, "conv": "conv"}, 25_451_652, 1004),
    ("grl", {}, 3_120_227, 434),  # the authors' state dict has 13 tables, indices and masks more
    ("grl", {"width": 64}, 880_227, 434),
    ("grl", GRL_BASE, 19_805_263, 1397 - 13),
    ("grl", {"width": 64, "upsampler": "pixelshuffledirect", "scale": 4}, 906_192, 434),
    ("grl", {"upsampler": "pixelshuffle", "scale": 4}, 3_487_715, 453 - 13),
    ("grl", GRL_SMALL, 68_183, 170),
    ("grl", {**GRL_SMALL, "width": 36, "local_connection": True}, 188_277, 231 - 13),
    ("ipt", {}, 115_312_731, 313),
    ("ipt", {"tasks": 6, "scales": [1, 1, 1, 2, 3, 4]}, 118_892_394, 381),
    ("ipt", IPT_SMALL, 367_865, 99),
    ("mambair", {}, 15_777_507, 922),
    ("mambair", {"expansion": 2.0, "upsampler": "pixelshuffle", "scale": 4}, 20_569_575, 928),
    ("mambair", LIGHT, 905_016, 714),
    ("mambair", MAMBA, 228_429, 89),
    ("mambair_unet", {}, 26_779_480, 1110),
    ("mambair_unet", {"expansion": 2.0}, 30_750_424, 1110),
    ("mambair_unet", {"width": 32, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}, 3_252_160, 210),
    ("retinexformer", {}, 1_605_701, 122),
    ("retinexformer", {"width": 16, "stages": 2, "blocks": [1, 1, 1]}, 372_762, 166),
]
# fmt: on


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int
) -> None:
    model = meta(name, **fields)
    assert count(model) == parameters
    assert len(model.state_dict()) == entries


# ------------------------------------------------------------------------------------------------------- key lists


def under(prefix: str, names: list[str]) -> list[str]:
    return [f"{prefix}.{name}" for name in names]


def dehazeformer(depths: list[int], attention: list[int], conv: list[str]) -> list[str]:
    """`attention`: how many blocks at the end of each level have it."""
    norm = ["norm1.weight", "norm1.bias", *both("norm1.meta1", "norm1.meta2")]
    window = [*both("attn.QK"), "attn.attn.relative_positions", *both("attn.attn.meta.0", "attn.attn.meta.2")]

    def level(number: int) -> list[str]:
        plain = conv == [""]
        names = []
        for i in range(depths[number]):
            attends = i >= depths[number] - attention[number]
            block = [*norm] if attends else []
            block += both(*(f"attn.conv{one}" for one in conv))
            block += both("attn.V", "attn.proj") if attends or plain else []
            block += [*window] if attends else []
            names += under(f"layer{number + 1}.blocks.{i}", [*block, *both("mlp.mlp.0", "mlp.mlp.2")])
        return names

    return [
        *both("patch_embed.proj"), *level(0), *both("patch_merge1.proj", "skip1"),
        *level(1), *both("patch_merge2.proj", "skip2"),
        *level(2), *both("patch_split1.proj.0"), "fusion1.mlp.0.weight", "fusion1.mlp.2.weight",
        *level(3), *both("patch_split2.proj.0"), "fusion2.mlp.0.weight", "fusion2.mlp.2.weight",
        *level(4), *both("patch_unembed.proj.0"),
    ]  # fmt: skip


def grl(depths: list[int], local: bool, ending: list[str]) -> list[str]:
    transform = ["logit_scale", *both("cpb_mlp.0"), "cpb_mlp.2.weight"]
    block = [
        *both("attn.qkv.body", "attn.anchor.body.0.reduction"),
        *under("attn.window_attn.attn_transform", transform),
        *under("attn.stripe_attn.attn_transform1", transform),
        *under("attn.stripe_attn.attn_transform2", transform),
        *both("attn.proj", "norm1"),
        *(under("conv.cab", both("0", "2", "3.attention.1", "3.attention.3")) if local else []),
        *both("mlp.fc1", "mlp.fc2", "norm2"),
    ]
    stages = [
        [key for j in range(depth) for key in under(f"layers.{g}.blocks.{j}", block)] + both(f"layers.{g}.conv")
        for g, depth in enumerate(depths)
    ]
    after = both("norm_end", "conv_after_body", *ending)
    return [*both("conv_first", "norm_start"), *itertools.chain(*stages), *after]


def ipt(scales: list[int], layers: int) -> list[str]:
    encoder = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", *both("linear1", "linear2", "norm1", "norm2")]
    asked = ["multihead_attn.in_proj_weight", "multihead_attn.out_proj.weight"]
    decoder = [*encoder[:2], *asked, *encoder[2:], *both("norm3")]
    head = both("0", "1.body.0", "1.body.2", "2.body.0", "2.body.2")
    steps = {1: [], 2: ["0.0"], 3: ["0.0"], 4: ["0.0", "0.2"]}
    return [
        *both("sub_mean", "add_mean"),
        *(key for k in range(len(scales)) for key in under(f"head.{k}", head)),
        *both("body.linear_encoding", "body.mlp_head.0", "body.mlp_head.3"), "body.query_embed.weight",
        *(key for j in range(layers) for key in under(f"body.encoder.layers.{j}", encoder)),
        *(key for j in range(layers) for key in under(f"body.decoder.layers.{j}", decoder)),
        "body.position_encoding.position_ids", "body.position_encoding.pe.weight",
        *(key for k, scale in enumerate(scales) for key in under(f"tail.{k}", both(*steps[scale], "1"))),
    ]  # fmt: skip


SCAN_BLOCK = [
    "skip_scale", "skip_scale2", *both("ln_1"),
    *under("self_attention", ["x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds", "in_proj.weight"]),
    *under("self_attention", [*both("conv2d", "out_norm"), "out_proj.weight"]),
]  # fmt: skip
STATE_SPACE_BLOCK = [
    *SCAN_BLOCK, *under("conv_blk.cab", both("0", "2", "3.attention.1", "3.attention.3")), *both("ln_2")
]  # fmt: skip
LIGHT_BLOCK = [
    *SCAN_BLOCK, *under("conv_blk.cab", both("0", "1", "3", "4", "5.attention.1", "5.attention.3")), *both("ln_2")
]  # fmt: skip


def mambair(depths: list[int], block: list[str], connection: list[str], ending: list[str]) -> list[str]:
    groups = [
        [key for j in range(depth) for key in under(f"layers.{g}.residual_group.blocks.{j}", block)]
        + both(*(f"layers.{g}.conv{one}" for one in connection))
        for g, depth in enumerate(depths)
    ]
    after = both("norm", *(f"conv_after_body{one}" for one in connection), *ending)
    return [*both("conv_first", "patch_embed.norm"), *itertools.chain(*groups), *after]


def mambair_unet() -> list[str]:
    def level(name: str, blocks: int) -> list[str]:
        return [key for j in range(blocks) for key in under(f"{name}.{j}", STATE_SPACE_BLOCK)]

    return [
        "patch_embed.proj.weight",
        *level("encoder_level1", 4), "down1_2.body.0.weight",
        *level("encoder_level2", 6), "down2_3.body.0.weight",
        *level("encoder_level3", 6), "down3_4.body.0.weight",
        *level("latent", 8), "up4_3.body.0.weight", "reduce_chan_level3.weight",
        *level("decoder_level3", 6), "up3_2.body.0.weight", "reduce_chan_level2.weight",
        *level("decoder_level2", 6), "up2_1.body.0.weight",
        *level("decoder_level1", 4), *level("refinement", 4), "output.weight",
    ]  # fmt: skip


def retinexformer(stages: int, blocks: list[int]) -> list[str]:
    attention = ["rescale", "to_q.weight", "to_k.weight", "to_v.weight", *both("proj")]
    attention += ["pos_emb.0.weight", "pos_emb.2.weight"]
    feed_forward = ["fn.net.0.weight", "fn.net.2.weight", "fn.net.4.weight", *both("norm")]

    def level(name: str, count: int) -> list[str]:
        block = [*under("0", attention), *under("1", feed_forward)]
        return [key for j in range(count) for key in under(f"{name}.blocks.{j}", block)]

    encoder = [
        [*level(f"encoder_layers.{i}.0", blocks[i]), f"encoder_layers.{i}.1.weight", f"encoder_layers.{i}.2.weight"]
        for i in (0, 1)
    ]
    decoder = [
        [*both(f"decoder_layers.{i}.0"), f"decoder_layers.{i}.1.weight", *level(f"decoder_layers.{i}.2", blocks[1 - i])]
        for i in (0, 1)
    ]
    denoiser = ["embedding.weight", *encoder[0], *encoder[1], *level("bottleneck", blocks[2]), *decoder[0], *decoder[1]]
    stage = [
        *under("estimator", both("conv1", "depth_conv", "conv2")), *under("denoiser", [*denoiser, "mapping.weight"])
    ]  # fmt: skip
    return [key for number in range(stages) for key in under(f"body.{number}", stage)]


SHUFFLE = ["conv_before_upsample.0", "upsample.0", "upsample.2", "conv_last"]
KEYS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("dehazeformer", {}, dehazeformer([4, 4, 4, 2, 2], [0, 2, 4, 0, 0], [""])),
    (
        "dehazeformer",
        {"depths": [16, 16, 16, 12, 12], **WIDE, "conv": "conv"},
        dehazeformer([16, 16, 16, 12, 12], [4, 8, 12, 0, 0], [".0", ".2"]),
    ),
    ("grl", {}, grl([4] * 4, False, ["conv_last"])),
    ("grl", GRL_BASE, grl([4, 4, 8, 8, 8, 4, 4], True, ["conv_last"])),
    ("grl", {"upsampler": "pixelshuffledirect", "scale": 4}, grl([4] * 4, False, ["upsample.up.0"])),
    (
        "grl",
        {"upsampler": "pixelshuffle", "scale": 4},
        grl([4] * 4, False, ["conv_before_upsample.0", "upsample.up.0", "upsample.up.2", "conv_last"]),
    ),
    ("ipt", {}, ipt([1], 12)),
    ("ipt", {"tasks": 6, "scales": [1, 1, 1, 2, 3, 4]}, ipt([1, 1, 1, 2, 3, 4], 12)),
    ("mambair", {}, mambair([6] * 6, STATE_SPACE_BLOCK, [""], ["conv_last"])),
    (
        "mambair",
        {"connection": "3conv"},
        mambair([6] * 6, STATE_SPACE_BLOCK, [".0", ".2", ".4"], ["conv_last"]),
    ),
    ("mambair", {"upsampler": "pixelshuffle", "scale": 4}, mambair([6] * 6, STATE_SPACE_BLOCK, [""], SHUFFLE)),
    ("mambair", LIGHT, mambair([6] * 4, LIGHT_BLOCK, [""], ["upsample.0"])),
    ("mambair_unet", {}, mambair_unet()),
    ("retinexformer", {}, retinexformer(1, [1, 2, 2])),
    ("retinexformer", {"stages": 3, "blocks": [2, 1, 3]}, retinexformer(3, [2, 1, 3])),
]


@pytest.mark.parametrize(("name", "fields", "expected"), KEYS, ids=lambda value: value if type(value) is str else "")
def test_keys_and_their_order_are_the_authors(name: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert keys(name, **fields) == expected


SHAPES: list[tuple[str, dict[str, Any], str, tuple[int, ...]]] = [
    ("dehazeformer", {}, "layer3.blocks.0.norm1.weight", (1, 96, 1, 1)),
    ("dehazeformer", {}, "layer3.blocks.0.norm1.meta1.weight", (96, 1, 1, 1)),
    ("dehazeformer", {}, "layer3.blocks.0.attn.conv.weight", (96, 1, 5, 5)),
    ("dehazeformer", {}, "layer3.blocks.0.attn.QK.weight", (192, 96, 1, 1)),
    ("dehazeformer", {}, "layer3.blocks.0.attn.attn.relative_positions", (64, 64, 2)),
    ("dehazeformer", {}, "layer3.blocks.0.attn.attn.meta.2.weight", (6, 256)),
    ("dehazeformer", {}, "layer2.blocks.0.mlp.mlp.0.weight", (192, 48, 1, 1)),
    ("dehazeformer", {}, "fusion1.mlp.0.weight", (6, 48, 1, 1)),
    ("dehazeformer", {}, "patch_split1.proj.0.weight", (192, 96, 1, 1)),
    ("dehazeformer", {"conv": "conv"}, "layer1.blocks.0.attn.conv.2.weight", (24, 24, 3, 3)),
    ("grl", {}, "layers.3.blocks.3.attn.qkv.body.weight", (384, 128)),
    ("grl", {}, "layers.3.blocks.3.attn.anchor.body.0.reduction.weight", (64, 128)),
    ("grl", {}, "layers.3.blocks.3.attn.stripe_attn.attn_transform2.logit_scale", (2, 1, 1)),
    ("grl", {}, "layers.3.blocks.3.attn.window_attn.attn_transform.cpb_mlp.2.weight", (2, 512)),
    ("grl", GRL_BASE, "layers.0.blocks.0.conv.cab.0.weight", (45, 180, 3, 3)),
    ("grl", GRL_BASE, "layers.0.blocks.0.conv.cab.3.attention.1.weight", (10, 180, 1, 1)),
    ("ipt", {}, "head.0.2.body.2.weight", (64, 64, 5, 5)),
    ("ipt", {}, "body.mlp_head.0.weight", (2304, 576)),
    ("ipt", {}, "body.decoder.layers.11.multihead_attn.in_proj_weight", (1728, 576)),
    ("ipt", {}, "body.position_encoding.position_ids", (1, 256)),
    ("ipt", {"tasks": 6}, "body.query_embed.weight", (6, 147_456)),
    ("ipt", IPT_SMALL, "tail.2.0.0.weight", (32, 8, 3, 3)),
    ("mambair", {}, "layers.5.residual_group.blocks.5.self_attention.x_proj_weight", (4, 12 + 32, 216)),
    ("mambair", {}, "layers.5.residual_group.blocks.5.self_attention.dt_projs_weight", (4, 216, 12)),
    ("mambair", {}, "layers.5.residual_group.blocks.5.self_attention.A_logs", (864, 16)),
    ("mambair", {}, "layers.5.residual_group.blocks.5.conv_blk.cab.0.weight", (60, 180, 3, 3)),
    ("mambair", {}, "layers.5.residual_group.blocks.5.conv_blk.cab.3.attention.1.weight", (6, 180, 1, 1)),
    ("mambair", {"connection": "3conv"}, "layers.0.conv.2.weight", (45, 45, 1, 1)),
    ("mambair", LIGHT, "layers.0.residual_group.blocks.0.conv_blk.cab.1.weight", (30, 1, 3, 3)),
    ("mambair", LIGHT, "layers.0.residual_group.blocks.0.conv_blk.cab.4.weight", (60, 1, 3, 3)),
    ("mambair_unet", {}, "latent.7.self_attention.in_proj.weight", (1152, 384)),
    ("mambair_unet", {}, "latent.7.self_attention.dt_projs_weight", (4, 576, 24)),
    ("mambair_unet", {}, "reduce_chan_level2.weight", (96, 192, 1, 1)),
    ("retinexformer", {}, "body.0.estimator.depth_conv.weight", (40, 10, 5, 5)),
    ("retinexformer", {}, "body.0.denoiser.encoder_layers.1.2.weight", (160, 80, 4, 4)),
    ("retinexformer", {}, "body.0.denoiser.decoder_layers.0.0.weight", (160, 80, 2, 2)),
    ("retinexformer", {}, "body.0.denoiser.decoder_layers.1.1.weight", (40, 80, 1, 1)),
    ("retinexformer", {}, "body.0.denoiser.bottleneck.blocks.1.0.rescale", (4, 1, 1)),
    ("retinexformer", {}, "body.0.denoiser.bottleneck.blocks.1.1.fn.net.2.weight", (640, 1, 3, 3)),
]


@pytest.mark.parametrize(("name", "fields", "key", "shape"), SHAPES)
def test_a_tensor_has_the_authors_shape(name: str, fields: dict[str, Any], key: str, shape: tuple[int, ...]) -> None:
    assert tuple(meta(name, **fields).state_dict()[key].shape) == shape
