"""Sizes, keys and their order are those of the published weights."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from cmtl_ir.inference.profile import unused_of

from .cases import meta


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def keys(name: str, **fields: Any) -> list[str]:
    return list(meta(name, **fields).state_dict())


# fmt: off
SIZES: list[tuple[str, dict[str, Any], int, int | None]] = [
    ("nafnet", {}, 17_111_907, 664),
    ("nafnet", {"width": 64}, 67_888_835, 664),
    ("nafnet", {"encoder": [2, 2, 4, 8], "middle": 12, "decoder": [2, 2, 2, 2]}, 29_159_715, None),
    ("nafnet", {"width": 64, "encoder": [2, 2, 4, 8], "middle": 12, "decoder": [2, 2, 2, 2]}, 115_982_915, None),
    ("nafnet", {"width": 16}, 4_347_827, None),
    ("nafnet", {"width": 16, "encoder": [1, 1, 1, 1]}, 1_137_203, None),
    ("nafnet", {"width": 8, "encoder": [1, 1, 1], "decoder": [1, 1, 1]}, 75_355, None),
    ("nafnet", {"local_training_size": 256}, 17_111_907, 664),
    ("restormer", {}, 26_126_644, 494),
    ("restormer", {"norm": "BiasFree"}, 26_111_668, 406),
    ("restormer", {"width": 16, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}, 800_547, None),
    ("promptir", {}, 35_592_263, 548),
    ("airnet", {}, 8_930_313, 584),
    ("swinir", {}, 11_504_163, 544),
    ("swinir", {"upsampler": "pixelshuffle", "scale": 4, "image_size": 48}, 11_900_199, None),
    ("swinir", {"width": 60, "depths": [6] * 4, "heads": [6] * 4, "upsampler": "pixelshuffledirect", "scale": 2, "image_size": 64}, 910_152, None),  # noqa: E501
    ("swinir", {"window": 7, "image_size": 126, "value_range": 255.0}, 11_492_067, None),
    ("swinir", {"width": 60, "depths": [6] * 4, "heads": [6] * 4}, 905_283, None),
    ("transweather", {}, 38_052_078, 347),
    ("transweather", {"decoder": False}, 21_903_086, 288),
    ("srresnet", {}, 1_222_147, 70),
    ("srresnet", {"prompt": "explicit"}, 1_441_033, None),
    ("srresnet", {"prompt": "adaptive"}, 1_447_305, None),
    ("unet", {"noise_level": 15.0}, 32_640_960, 64),
]
# fmt: on


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int | None
) -> None:
    model = meta(name, **fields)
    assert count(model) == parameters
    assert entries is None or len(model.state_dict()) == entries


def test_airnet_counts_its_parts_as_the_authors() -> None:
    model = meta("airnet")
    assert count(model.get_submodule("R")) == 6_290_441
    assert count(model.get_submodule("E.E.encoder_q")) == 1_319_936
    assert count(model.get_submodule("E.E.encoder_q.E_pre")) == 39_168
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 7_610_377


@pytest.mark.parametrize(
    ("name", "fields", "unread"),
    [("promptir", {}, 215_296), ("transweather", {}, 296_667), ("transweather", {"decoder": False}, 296_667)],
)
def test_unused_names_the_parameters_that_the_authors_never_read(
    name: str, fields: dict[str, Any], unread: int
) -> None:
    assert unused_of(meta(name, **fields)) == unread


# ------------------------------------------------------------------------------------------------------ key order


def first_seen(names: list[str], depth: int = 1) -> list[str]:
    """Prefixes in the order of their first key."""
    return list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in names))


def tails(names: list[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def both(*modules: str) -> list[str]:
    """Weight and bias of each."""
    return [f"{module}.{one}" for module in modules for one in ("weight", "bias")]


TOP_LEVEL = {
    "nafnet": "intro ending encoders decoders middle_blks ups downs",
    "srresnet": "conv_first body conv_hr conv_last",
    "unet": "m_head m_down1 m_down2 m_down3 m_body m_up3 m_up2 m_up1 m_tail",
    "restormer": "patch_embed encoder_level1 down1_2 encoder_level2 down2_3 encoder_level3 down3_4 latent up4_3 "
    "reduce_chan_level3 decoder_level3 up3_2 reduce_chan_level2 decoder_level2 up2_1 decoder_level1 refinement output",
    "promptir": "patch_embed prompt1 prompt2 prompt3 chnl_reduce1 chnl_reduce2 chnl_reduce3 reduce_noise_channel_1 "
    "encoder_level1 down1_2 reduce_noise_channel_2 encoder_level2 down2_3 reduce_noise_channel_3 encoder_level3 "
    "down3_4 latent up4_3 reduce_chan_level3 noise_level3 reduce_noise_level3 decoder_level3 up3_2 reduce_chan_level2 "
    "noise_level2 reduce_noise_level2 decoder_level2 up2_1 noise_level1 reduce_noise_level1 decoder_level1 refinement "
    "output",
    "swinir": "conv_first patch_embed layers norm conv_after_body conv_last",
    "airnet": "R E",
    "transweather": "Tenc Tdec convtail clean",
}


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_parts_come_in_the_authors_order(name: str) -> None:
    assert first_seen(keys(name)) == TOP_LEVEL[name].split()


RESTORMER_BLOCK = [
    *both("norm1.body"), "attn.temperature", "attn.qkv.weight", "attn.qkv_dwconv.weight", "attn.project_out.weight",
    *both("norm2.body"), "ffn.project_in.weight", "ffn.dwconv.weight", "ffn.project_out.weight",
]  # fmt: skip
SWIN_LAYER = [
    *both("norm1"), "attn.relative_position_bias_table", "attn.relative_position_index",
    *both("attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
]  # fmt: skip
GUIDED = [
    "dcn.weight",
    *both("dcn.conv_offset_mask"),
    *(f"sft.conv_{one}.{i}.weight" for one in ("gamma", "beta") for i in (0, 2)),
]
WEATHER_MLP = both("norm2", "mlp.fc1", "mlp.dwconv.dwconv", "mlp.fc2")
BLOCKS: list[tuple[str, str, list[str]]] = [
    (
        "nafnet",
        "encoders.3.27.",
        ["beta", "gamma", *both("conv1", "conv2", "conv3", "sca.1", "conv4", "conv5", "norm1", "norm2")],
    ),
    ("srresnet", "body.15.", both("conv1", "conv2")),
    ("unet", "m_up3.", ["0.weight", *(f"{i}.res.{j}.weight" for i in range(1, 5) for j in (0, 2))]),
    ("restormer", "latent.7.", RESTORMER_BLOCK),
    ("promptir", "noise_level3.", RESTORMER_BLOCK),
    ("promptir", "prompt1.", ["prompt_param", *both("linear_layer"), "conv3x3.weight"]),
    ("swinir", "layers.5.residual_group.blocks.4.", SWIN_LAYER),
    ("swinir", "layers.5.residual_group.blocks.5.", ["attn_mask", *SWIN_LAYER]),
    ("airnet", "R.body.4.body.0.", [*(f"dgm{i}.{key}" for i in (1, 2) for key in GUIDED), *both("conv1", "conv2")]),
    (
        "transweather",
        "Tenc.block1.1.",
        [*both("norm1", "attn.q", "attn.kv", "attn.proj", "attn.sr", "attn.norm"), *WEATHER_MLP],
    ),
    (
        "transweather",
        "Tdec.block1.2.",
        [*both("norm1"), "attn.task_query", *both("attn.q", "attn.kv", "attn.proj"), *WEATHER_MLP],
    ),
    ("transweather", "convtail.dense_4.", both("0.conv1.conv2d", "0.conv2.conv2d")),
]


@pytest.mark.parametrize(("name", "prefix", "expected"), BLOCKS, ids=lambda value: value if type(value) is str else "")
def test_a_block_has_the_authors_keys_in_their_order(name: str, prefix: str, expected: list[str]) -> None:
    assert tails(keys(name), prefix) == expected


def test_airnet_encoders_follow_the_queue() -> None:
    assert first_seen(tails(keys("airnet"), "E.E.")) == ["queue", "queue_ptr", "encoder_q", "encoder_k"]
    assert first_seen(tails(keys("airnet"), "E.E.encoder_q."), 2) == [
        "E_pre.backbone", "E_pre.shortcut", "E.0", "E.1", "mlp.0", "mlp.2",
    ]  # fmt: skip


def test_transweather_encoder_interleaves_blocks_and_patch_blocks() -> None:
    embeds = [f"{kind}patch_embed{i}" for kind in ("", "mini_") for i in range(1, 5)]
    scales = [f"{part}{i}" for i in range(1, 5) for part in ("block", "norm", "patch_block", "pnorm")][:-2]
    assert first_seen(tails(keys("transweather"), "Tenc.")) == [*embeds, *scales]
    assert tails(keys("transweather"), "convtail.")[::2] == [
        f"{part}.conv2d.weight"
        for part in (
            "convd32x", "convd16x", "dense_4.0.conv1", "dense_4.0.conv2", "convd8x", "dense_3.0.conv1",
            "dense_3.0.conv2", "convd4x", "dense_2.0.conv1", "dense_2.0.conv2", "convd2x", "dense_1.0.conv1",
            "dense_1.0.conv2", "convd1x", "conv_output",
        )
    ]  # fmt: skip


def test_base_transweather_calls_its_tail_by_the_authors_other_name() -> None:
    names = keys("transweather", decoder=False)
    assert first_seen(names) == ["Tenc", "convproj", "clean"]
    assert first_seen(tails(names, "convproj."))[0] == "convd16x"


SHAPES = [
    ("nafnet", "ups.0.0.weight", (1024, 512, 1, 1)),
    ("nafnet", "downs.0.weight", (64, 32, 2, 2)),
    ("restormer", "up4_3.body.0.weight", (768, 384, 3, 3)),
    ("restormer", "latent.0.ffn.project_in.weight", (2042, 384, 1, 1)),
    ("promptir", "up4_3.body.0.weight", (384, 192, 3, 3)),
    ("promptir", "prompt3.prompt_param", (1, 5, 320, 16, 16)),
    ("promptir", "noise_level3.ffn.project_out.weight", (704, 1872, 1, 1)),
    ("swinir", "layers.0.residual_group.blocks.1.attn_mask", (256, 64, 64)),
    ("airnet", "E.E.queue", (256, 1280)),
    ("transweather", "Tdec.block1.0.attn.task_query", (1, 48, 512)),
    ("transweather", "convtail.convd16x.conv2d.weight", (512, 320, 4, 4)),
]


@pytest.mark.parametrize(("name", "key", "shape"), SHAPES)
def test_a_tensor_has_the_authors_shape(name: str, key: str, shape: tuple[int, ...]) -> None:
    assert tuple(meta(name).state_dict()[key].shape) == shape


def test_local_nafnet_has_the_keys_of_the_global_one() -> None:
    assert keys("nafnet", local_training_size=256) == keys("nafnet")
