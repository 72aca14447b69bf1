"""Every key and shape of the authors' state dicts, and their numbers of parameters and entries."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmtl_ir import backbones
from cmtl_ir.profile import unused_of

from .key_lists import Shapes, attention_block, keys

# fmt: off
SIZES: list[tuple[str, dict[str, Any], int, int, int]] = [  # parameters, entries, distinct parameters
    ("adair", {}, 28_784_824, 587, 587),
    ("adair", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}, 295_865, 191, 191),
    ("mprnet", {}, 20_127_073, 316, 262),
    ("mprnet", {"width": 80}, 15_741_025, 316, 262),
    ("mprnet", {"width": 40, "unet_growth": 20, "original_growth": 16}, 3_637_249, 316, 262),
    ("mprnet", {"width": 16, "unet_growth": 8, "original_growth": 8, "attention_blocks": 2}, 427_033, 226, 190),
]
# fmt: on


def meta(name: str, **fields: Any) -> Any:
    """The network without memory behind its tensors."""
    with torch.device("meta"):
        return backbones.build(name, **fields)


@pytest.mark.parametrize(("name", "fields", "parameters", "entries", "distinct"), SIZES)
def test_a_network_is_as_large_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int, distinct: int
) -> None:
    model = meta(name, **fields)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == entries
    assert len(list(model.named_parameters())) == distinct


@pytest.mark.parametrize(("name", "fields", "unread"), [("adair", {}, 43_098)])
def test_unused_names_what_gets_no_gradient_in_the_authors_class(
    name: str, fields: dict[str, Any], unread: int
) -> None:
    assert unused_of(meta(name, **fields)) == unread


def assert_keys(name: str, expected: Shapes) -> None:
    assert {key: tuple(value.shape) for key, value in meta(name).state_dict().items()} == expected


def test_adair_has_the_authors_keys() -> None:
    expected: Shapes = {key: tuple(value.shape) for key, value in meta("restormer").state_dict().items()}
    for number, c in ((1, 384), (2, 192), (3, 96)):
        expected |= keys(
            f"para{{1,2}}({c},1,1) conv{{,1}}.weight({c},3,3,3) score_gen+(2,2,7,7) "
            f"channel_cross_{{l,h,agg}}.temperature(4,1,1) channel_cross_{{l,h,agg}}.q.weight({c},{c},1,1) "
            f"channel_cross_{{l,h,agg}}.q_dwconv.weight({c},1,3,3) "
            f"channel_cross_{{l,h,agg}}.kv.weight({2 * c},{c},1,1) "
            f"channel_cross_{{l,h,agg}}.kv_dwconv.weight({2 * c},1,3,3) "
            f"channel_cross_{{l,h,agg}}.project_out.weight({c},{c},1,1) "
            "frequency_refine.SpatialGate.spatial.weight(1,2,7,7) "
            f"frequency_refine.ChannelGate.mlp.0.weight({c // 16},{c},1,1) "
            f"frequency_refine.ChannelGate.mlp.2.weight({c},{c // 16},1,1) frequency_refine.proj+({c},{c},1,1) "
            f"rate_conv.0.weight({c // 8},{c},1,1) rate_conv.2.weight(2,{c // 8},1,1)",
            f"fre{number}.",
        )
    assert_keys("adair", expected)


def test_mprnet_has_the_authors_keys() -> None:
    n, w2, w3, o = 96, 144, 192, 128
    expected = keys(
        f"shallow_feat{{1,2,3}}.0.weight({n},3,3,3) "
        f"stage{{1,2}}_encoder.down12.down.1.weight({w2},{n},1,1) "
        f"stage{{1,2}}_encoder.down23.down.1.weight({w3},{w2},1,1) "
        f"stage{{1,2}}_decoder.up21.up.1.weight({n},{w2},1,1) stage{{1,2}}_decoder.up32.up.1.weight({w2},{w3},1,1) "
        f"stage3_orsnet.orb{{1,2,3}}.body.8.weight({o},{o},3,3) "
        f"stage3_orsnet.{{up_enc1,up_dec1}}.up.1.weight({n},{w2},1,1) "
        f"stage3_orsnet.{{up_enc2,up_dec2}}.0.up.1.weight({w2},{w3},1,1) "
        f"stage3_orsnet.{{up_enc2,up_dec2}}.1.up.1.weight({n},{w2},1,1) "
        f"stage3_orsnet.conv_{{enc,dec}}{{1,2,3}}.weight({o},{n},1,1) "
        f"sam{{12,23}}.conv1.weight({n},{n},1,1) sam{{12,23}}.conv2.weight(3,{n},1,1) "
        f"sam{{12,23}}.conv3.weight({n},3,1,1) "
        f"concat12.weight({n},{2 * n},3,3) concat23.weight({o},{2 * n},3,3) tail.weight(3,{o},3,3)"
    )
    for level, width in enumerate((n, w2, w3), 1):
        expected |= keys(f"stage2_encoder.csff_{{enc,dec}}{level}.weight({width},{width},1,1)")
        expected |= attention_block(f"stage{{1,2}}_{{encoder.en,decoder.de}}coder_level{level}.{{0,1}}.", width)
    expected |= attention_block("shallow_feat{1,2,3}.1.", n)
    expected |= attention_block("stage{1,2}_decoder.skip_attn1.", n)
    expected |= attention_block("stage{1,2}_decoder.skip_attn2.", w2)
    expected |= attention_block("stage3_orsnet.orb{1,2,3}.body.{0..7}.", o)
    assert_keys("mprnet", expected)


def test_mprnet_shares_one_slope() -> None:
    slopes = [key for key, value in meta("mprnet").named_parameters() if value.shape == (1,)]
    assert slopes == ["shallow_feat1.1.body.1.weight"]
