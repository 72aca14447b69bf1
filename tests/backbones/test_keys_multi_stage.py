"""Every key and shape of the authors' state dicts, and their numbers of parameters and entries."""

from __future__ import annotations

from typing import Any

import pytest

from cmtl_ir.inference.profile import unused_of

from .cases import meta
from .key_lists import Shapes, attention_block, keys

# fmt: off
SIZES: list[tuple[str, dict[str, Any], int, int, int]] = [  # parameters, entries, distinct parameters
    ("adair", {}, 28_784_824, 587, 587),
    ("adair", {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}, 295_865, 191, 191),
    ("dgunet", {}, 17_331_512, 216, 210),
    ("dgunet", {"width": 40, "growth": 20, "last_growth": 16}, 3_661_912, 216, 210),
    ("dgunet", {"width": 8, "growth": 4, "last_growth": 4, "depth": 2}, 170_452, 216, 210),
    ("dgunet_plus", {}, 69_572_915, 666, 647),
    ("dgunet_plus", {"width": 80, "growth": 40}, 48_361_987, 666, 647),
    ("dgunet_plus", {"width": 40, "growth": 20}, 12_176_107, 666, 647),
    ("dgunet_plus", {"width": 8, "growth": 4}, 550_027, 666, 647),
    ("fsnet", {}, 13_275_689, 1012, 976),
    ("fsnet", {"width": 16, "blocks": 4}, 1_022_009, 436, 400),
    ("mirnet_v2", {}, 5_858_560, 238, 238),
    ("mirnet_v2", {"dual_pixel": True}, 5_860_720, 238, 238),
    ("mirnet_v2", {"width": 16, "blocks": 1}, 123_472, 122, 122),
    ("mirnet_v2", {"width": 16, "blocks": 1, "dual_pixel": True}, 123_904, 122, 122),
    ("mprnet", {}, 20_127_073, 316, 262),
    ("mprnet", {"width": 80}, 15_741_025, 316, 262),
    ("mprnet", {"width": 40, "unet_growth": 20, "original_growth": 16}, 3_637_249, 316, 262),
    ("mprnet", {"width": 16, "unet_growth": 8, "original_growth": 8, "attention_blocks": 2}, 427_033, 226, 190),
]
# fmt: on


@pytest.mark.parametrize(("name", "fields", "parameters", "entries", "distinct"), SIZES)
def test_a_network_is_as_large_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int, distinct: int
) -> None:
    model = meta(name, **fields)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == entries
    assert len(list(model.named_parameters())) == distinct


@pytest.mark.parametrize(
    ("name", "fields", "unread"),
    [("adair", {}, 43_098), ("dgunet", {}, 115_200), ("fsnet", {}, 896), ("fsnet", {"width": 16}, 448)],
)
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


def unfolding_block(prefix: str, inputs: int, outputs: int) -> Shapes:
    """The convolutions that every block of DGUNet's encoders and decoders has."""
    return keys(
        f"identity+({outputs},{inputs},1,1) conv_1+({outputs},{inputs},3,3) conv_2+({outputs},{outputs},3,3)", prefix
    )


def unfolding_encoder(prefix: str, widths: list[int], fused: bool) -> Shapes:
    """An encoder of DGUNet; `fused`: it takes the previous stage's features."""
    found: Shapes = {}
    for level, (a, b) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
        block = f"{prefix}body.{level}."
        found |= unfolding_block(block, a, b) | keys(f"norm+({b // 2})", block)
        if level < 3:
            found |= keys(f"downsample.weight({b},{b},4,4)", block)
        if fused and level < 3:
            found |= keys(f"csff_enc+({b},{b},3,3) csff_dec+({b},{a},3,3) phi+({b},{b},3,3) gamma+({b},{b},3,3)", block)
    return found


def unfolding_decoder(prefix: str, widths: list[int]) -> Shapes:
    """A decoder of DGUNet."""
    found: Shapes = {}
    for place, level in enumerate((2, 1, 0)):
        c, above = widths[level], widths[level + 1]
        found |= unfolding_block(f"{prefix}body.{place}.conv_block.", 2 * c, c)
        found |= keys(
            f"body.{place}.up.weight({above},{c},2,2) body.{place}.up.bias({c}) skip_conv.{place}+({c},{above},3,3)",
            prefix,
        )
    return found


def unfolding_pieces(n: int, *, degradations: str, shallow: str, supervisions: str, merges: str) -> Shapes:
    """What the stages of DGUNet have besides encoder and decoder, at the places given."""
    return (
        keys(f"{degradations}.body.0+(64,3,3,3) {degradations}.body.1.weight(1) {degradations}.body.2+(3,64,3,3)")
        | keys(f"{shallow}.0.weight({n},3,3,3)")
        | attention_block(f"{shallow}.1.", n)
        | keys(f"{supervisions}.conv1.weight({n},{n},1,1) {supervisions}.conv2.weight(3,{n},1,1)")
        | keys(f"{merges}.conv_block+({n},{2 * n},3,3) {merges}.subnet+(16,{2 * n},3,3)")
    )


def test_dgunet_has_the_authors_keys() -> None:
    n, s, o = 80, 48, 32
    widths = [n, n + s, n + 2 * s, n + 3 * s]
    expected = unfolding_pieces(
        n,
        degradations="{phi_0,phit_0,phi_6,phit_6,basic.phi_1,basic.phit_1}",
        shallow="{shallow_feat1,shallow_feat7,basic.shallow_feat2}",
        supervisions="{sam12,basic.sam23}",
        merges="basic.merge12",
    )
    expected |= keys(
        f"r0(1) r6(1) basic.r1(1) basic.concat12.weight({n},{2 * n},3,3) concat67.weight({n + o},{2 * n},3,3) "
        f"tail.weight(3,{n + o},3,3)"
    )
    for stage, fused in (("stage1", False), ("basic.stage2", True)):
        expected |= unfolding_encoder(f"{stage}_encoder.", widths, fused)
        expected |= unfolding_decoder(f"{stage}_decoder.", widths)
    assert_keys("dgunet", expected)


def test_dgunet_plus_has_the_authors_keys() -> None:
    n, s = 96, 48
    widths = [n, n + s, n + 2 * s, n + 3 * s]
    expected = unfolding_pieces(
        n,
        degradations="{phi,phit}_{0..6}",
        shallow="shallow_feat{1..7}",
        supervisions="sam{12,23,34,45,56,67}",
        merges="merge{12,23,34,45,56,67}",
    )
    expected |= keys(f"r{{0..6}}(1) tail.weight(3,{n},3,3)")
    for stage in range(1, 7):
        expected |= unfolding_encoder(f"stage{stage}_encoder.", widths, fused=stage > 1)
        expected |= unfolding_decoder(f"stage{stage}_decoder.", widths)
    assert_keys("dgunet_plus", expected)


SLOPES = {
    "dgunet": ["basic.phi_1.body.1.weight", "basic.shallow_feat2.1.body.1.weight", "shallow_feat1.1.body.1.weight"],
    "dgunet_plus": ["shallow_feat1.1.body.1.weight", "phi_0.body.1.weight"],
    "mprnet": ["shallow_feat1.1.body.1.weight"],
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_are_shared_as_in_the_authors_class(name: str) -> None:
    slopes = [key for key, value in meta(name).named_parameters() if value.shape == (1,) and key.endswith("weight")]
    assert slopes == SLOPES[name]


def frequency_block(prefix: str, m: int, filtered: bool = False) -> Shapes:
    """A residual block of FSNet."""
    k, hidden = m // 2, max(m // 4, 32)
    found = keys(
        f"conv{{1,2}}.main.0+({m},{m},3,3) localap.{{h,l}}({2 * m}) global_ap.fscale_{{d,h}}({k})",
        prefix,
    )
    for name, taps in (("dyna", 9), ("dyna_2", 25)) if filtered else ():
        found |= keys(
            f"lamb_{{l,h}}({k}) conv.weight({8 * taps},{k},1,1) bn+({8 * taps}) bn.running_{{mean,var}}({8 * taps}) "
            f"bn.num_batches_tracked() modulate.fc+({hidden},{k},1,1) modulate.fcs.{{0,1}}+({k},{hidden},1,1) "
            f"modulate.out+({k},{k},1,1)",
            f"{prefix}{name}.",
        )
    return found


def test_fsnet_has_the_authors_keys() -> None:
    c = 32
    levels = {
        "Encoder.0.layers.": c, "Encoder.1.": 2 * c, "Encoder.2.": 4 * c,
        "Decoder.0.": 4 * c, "Decoder.1.": 2 * c, "Decoder.2.layers.": c,
    }  # fmt: skip
    expected = keys(
        f"{{Encoder.0,Decoder.2}}.layers.down+({c},1,2,2) {{Encoder.0,Decoder.2}}.layers.conv+({c},{2 * c},1,1) "
        f"feat_extract.0.main.0+({c},3,3,3) feat_extract.1.main.0+({2 * c},{c},3,3) "
        f"feat_extract.2.main.0+({4 * c},{2 * c},3,3) feat_extract.3.main.0.weight({4 * c},{2 * c},4,4) "
        f"feat_extract.3.main.0.bias({2 * c}) feat_extract.4.main.0.weight({2 * c},{c},4,4) "
        f"feat_extract.4.main.0.bias({c}) feat_extract.5.main.0+(3,{c},3,3) "
        f"Convs.0.main.0+({2 * c},{4 * c},1,1) Convs.1.main.0+({c},{2 * c},1,1) "
        f"ConvsOut.0.main.0+(3,{4 * c},3,3) ConvsOut.1.main.0+(3,{2 * c},3,3) "
        f"FAM1.merge.main.0+({4 * c},{8 * c},3,3) FAM2.merge.main.0+({2 * c},{4 * c},3,3)"
    )
    for level, width in levels.items():
        expected |= frequency_block(f"{level}layers.{{0..14}}.", width)
        expected |= frequency_block(f"{level}layers.15.", width, filtered=True)
    for name, m in (("SCM1.", 4 * c), ("SCM2.", 2 * c)):
        expected |= keys(
            f"main.0.main.0+({m // 4},3,3,3) main.1.main.0+({m // 2},{m // 4},1,1) "
            f"main.2.main.0+({m // 2},{m // 2},3,3) main.3.main.0+({m},{m // 2},1,1) main.4+({m})",
            name,
        )
    assert_keys("fsnet", expected)


def test_mirnet_v2_has_the_authors_keys() -> None:
    c0, c1, c2 = widths = (80, 120, 180)
    expected = keys(
        f"conv_in.weight({c0},3,3,3) body.{{0..3}}.body.2.weight({c0},{c0},3,3) conv_out.weight(3,{c0},3,3)"
    )
    expected |= keys(
        f"down2.body.0.bot.1.weight({c1},{c0},1,1) down4.0.body.0.bot.1.weight({c1},{c0},1,1) "
        f"down4.1.body.0.bot.1.weight({c2},{c1},1,1) up21_{{1,2}}.body.0.bot.0.weight({c0},{c1},1,1) "
        f"up32_{{1,2}}.body.0.bot.0.weight({c1},{c2},1,1) conv_out.weight({c0},{c0},1,1)",
        "body.{0..3}.body.{0,1}.",
    )
    for stream, c in zip(("top", "mid", "bot"), widths, strict=True):
        block = f"body.{{0..3}}.body.{{0,1}}.dau_{stream}."
        expected |= keys(f"gcnet.conv_mask.weight(1,{c},1,1) gcnet.channel_add_conv.{{0,2}}.weight({c},{c},1,1)", block)
        for group, groups in enumerate((1, 2, 4, 4)):
            expected |= keys(f"body.{{0,2}}.weight({c},{c // groups},3,3)", block.replace("{0..3}", str(group)))
    for stream, c in (("top", c0), ("mid", c1)):
        fusion = f"body.{{0..3}}.body.{{0,1}}.skff_{stream}."
        expected |= keys(f"conv_du.0.weight({c // 8},{c},1,1) fcs.{{0,1}}.weight({c},{c // 8},1,1)", fusion)
    assert_keys("mirnet_v2", expected)


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
