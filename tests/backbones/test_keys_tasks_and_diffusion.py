"""Sizes and keys of the authors' own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .cases import meta
from .test_golden_tasks_and_diffusion import IDR, IR_SDE, MSBDN, PROMPTGIP, PRORES, UTILITYIR, WEATHER

# fmt: off
SIZES: list[tuple[str, dict[str, Any], int, int]] = [
    ("biden", {}, 33_908_224 + 6 * 575_363, 135 + 6 * 12),
    ("biden", {"discriminator": True}, 33_908_224 + 6 * 575_363 + 3_030_471, 135 + 6 * 12 + 17),
    ("biden", {"features": 8, "tasks": 3}, 568_345, 171),
    ("idr", {}, 12_262_448, 446),
    ("idr", IDR, 2_624_319, 292),
    ("ir_sde", {"content_vector": True}, 48_975_747, 224),
    ("ir_sde", {}, 36_499_587, 158),
    ("ir_sde", {"degradation_vector": False}, 36_236_419, 151),
    ("ir_sde", IR_SDE, 2_256_899, 224),
    ("ir_sde", {**IR_SDE, "content_vector": False}, 2_099_651, 158),
    ("msbdn", {}, 28_712_861, 390),
    ("msbdn", MSBDN, 616_835, 310),
    ("promptgip", {"tasks": 0}, 329_279_747, 402),
    ("promptgip", PROMPTGIP, 125_075, 66),
    ("prores", {"tasks": 0}, 370_633_091, 350),
    ("prores", PRORES, 606_099, 350),
    ("utilityir", {}, 26_254_176, 516),
    ("utilityir", UTILITYIR, 240_576, 276),
    ("uwadn", {}, 6_583_379, 511),
    ("weather_diffusion", {}, 82_962_435, 332),
    ("weather_diffusion", WEATHER, 1_114_819, 182),
    ("wgws", {}, 4_988_895, 340),
    ("wgws", {"base": 20}, 6_158_077, 340),
    ("wgws", {"base": 24}, 8_865_357, 340),
    ("wgws", {"base": 8}, 987_565, 340),
    ("wgws", {"stage": 2}, 7_575_354, 1180),
    ("wgws", {"base": 20, "stage": 2}, 9_351_964, 1180),
    ("wgws", {"stage": 2, "residual_kernel": 3}, 19_772_658, 1180),
    ("wgws", {"base": 20, "stage": 2, "residual_kernel": 3}, 24_409_804, 1180),
]
# fmt: on

# Keys in the notation of a shell: {a,b} is either, {0..2} a number.
BOTH = "{weight,bias}"
WGWS_CONVS = (
    "{{Encoder,Decoder}.{0..2}.layer{1..6}.{conv0.conv,conv1.conv,conv2.conv,LFF},feat_extract.{0,1,2,5},"
    "Convs.{0,1},AFFs.{0..2}.conv{1,2},FAM{1,2}.merge,SCM{1,2}.{layer{1..4},conv}}.layer."
)
UNET_BLOCK = "{mlp.1.{weight,bias},block{1,2}.proj.weight}"
KEYS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "biden",
        {"discriminator": True},
        [
            "netE.model1.{{1,4,8}.{weight,bias},{7,11}.filt,{12..20}.conv_block.{1,5}.{weight,bias}}",
            "netE.model2.{{1,4,8,12,15,27}.{weight,bias},{7,11}.filt,{18..26}.conv_block.{1,5}.{weight,bias}}",
            "netE.model3.{{0,13}.{weight,bias},3.filt,{4..12}.conv_block.{1,5}.{weight,bias}}",
            "netH{1..6}.model.{{0,3,7,11,15}.{weight,bias},{6,10}.filt}",
            "netD.{model.{{0,3,7,11}.{weight,bias},{2,6,10}.filt},model2.0.{weight,bias},model3.{0,4}.{weight,bias}}",
        ],
    ),
    (
        "idr",
        {},
        [
            "{degra_key,dmixer.conv{U,V}.{weight,bias},output.weight,patch_embed.proj.weight}",
            "{down1_2,down2_3,down3_4,up4_3,up3_2,up2_1}.body.0.weight",
            "reduce_chan_level{2,3}.weight",
            "{{encoder,decoder}_level{1.{0,1},{2,3}.{0..2}},latent.{0..3},refinement.{0,1}}.{norm{1,2}.body.{weight,bias},"
            "attn.{temperature,{qkv,qkv_dwconv,project_out}.weight},ffn.{project_in,dwconv,project_out}.weight}",
            "kdp_level{1..3}.{norm{1,2}.body.{weight,bias},attn.{temperature,{q.{0,1},qkv,qkv_dwconv,project_out}.weight},"
            "attn.kv.{weight,bias},ffn.{fc1.weight,fc2.weight,dwconv.{weight,bias}},SAM.conv{1..3}.weight}",
            "kdp_level{1..3}.principle.{{mlp_img,mlp_degra,pred.1,pred.2}.{weight,bias},"
            "{convolve.convolve,addition.add,point.weight}.{0.{0.{weight,bias},1.weight},{1,2}.conv{1,2}.{weight,bias}},"
            "convolve.convolve.3.{0.{weight,bias},1.weight}}",
        ],
    ),
    (
        "ir_sde",
        {"content_vector": True},
        [
            "{prompt,init_conv.weight,{time_mlp.{1,3},text_mlp.{0,2},prompt_mlp,final_conv}.{weight,bias}}",
            f"{{{{downs,ups}}.{{0..3}}.{{0,1}},mid_block{{1,2}},final_res_block}}.{UNET_BLOCK}",
            "{ups.{0..3}.{0,1},final_res_block}.res_conv.weight",
            "{{downs,ups}.{0..3}.2,mid_attn}.fn.norm.g",
            "{downs.{0..2},ups.{1..3}}.2.fn.fn.{to_qkv.weight,to_out.0.{weight,bias},to_out.1.g}",
            "{downs.3.2,ups.0.2,mid_attn}.fn.fn.{norm,proj_in,proj_out}.{weight,bias}",
            "{downs.3.2,ups.0.2,mid_attn}.fn.fn.transformer_blocks.0.{attn{1,2}.{to_{q,k,v}.weight,to_out.0.{weight,bias}},"
            "{ff.net.{0.proj,2},norm{1..3}}.{weight,bias}}",
            "{downs.{0..2}.3.{weight,bias},downs.3.3.weight,ups.{0..2}.3.1.{weight,bias},ups.3.3.weight}",
        ],
    ),
    (
        "msbdn",
        {},
        [
            "{conv_input,conv{2,4,8,16}x,convd{2,4,8,16}x,conv_output}.conv2d.{weight,bias}",
            "{dense{0..3}.{0..2},dehaze.res{0..17},dense_{1..4}.{0..2}}.{conv{1,2}.conv2d.{weight,bias},relu.weight}",
            "conv{,_}{1..4}.{dense_layers.{0..3}.conv,conv_1x1}.weight",
            *(
                f"{fusion}.{{up_convs.{{0..{last}}}.{{deconv.{{weight,bias}},act.weight}},"
                f"down_convs.{{0..{last}}}.{{conv.{{weight,bias}},act.weight}}}}"
                for level in range(1, 5)
                for fusion, last in ((f"fusion{level}", level - 1), (f"fusion_{level}", 4 - level))
            ),
        ],
    ),
    (
        "promptgip",
        {"tasks": 0},
        [
            "{cls_token,mask_token}",
            "{patch_embed.proj,norm,decoder_embed,decoder_norm,decoder_pred,CNN_Head.{conv_first,HRconv,conv_last}}"
            ".{weight,bias}",
            "{blocks.{0..23},decoder_blocks.{0..7}}.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}.{weight,bias}",
        ],
    ),
    (
        "prores",
        {"tasks": 0},
        [
            "{segment_token_x,pos_embed}",
            "{patch_embed.proj,norm,decoder_embed,decoder_pred.{0,1,3}}.{weight,bias}",
            "blocks.{0..23}.{{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}.{weight,bias},attn.rel_pos_{h,w}}",
        ],
    ),
    (
        "utilityir",
        {},
        [
            "die.{feat.{1,4,6,8},feat{0..3}.0,feat_enc.0,avgpool.1,IQA_regressor.{0,2}}.{weight,bias}",
            "R.{feat_extarct.{1,5},down_{0,1}.0,model.{0..6}.block.{1,5},att.{q,k,v}_enc.{0,1},att.att.out_proj}.{weight,bias}",
            "R.att.att.in_proj_{weight,bias}",
            "R.{feat_extarct.{2,6},down_{0,1}.1,model.{0..6}.block.{2,6}.global_affine}."
            "{running_mean,running_var,{weight,bias}_enc.model.{0,2,4}.{weight,bias}}",
            "R.model.{0..6}.block.{2,6}.local_affine.{running_mean,running_var,{weight,bias}_enc.{0,2}.{weight,bias}}",
            "recon.{{res.{0..4}.block.{1,5},up_{0,1}.0,model.{1,3}}.{weight,bias},res.{0..4}.block.{2,6}.{gamma,beta}}",
        ],
    ),
    (
        "uwadn",
        {},
        [
            "R.{{head,tail}.0,body.{0..4}.body.5,body.5,body.{0..4}.body.{0..4}.{conv1,conv2}}.{weight,bias}",
            "R.body.{0..4}.body.{0..4}.dgm{1,2}."
            "{dcn.{weight,conv_offset_mask.{weight,bias}},sft.conv_{gamma,beta}.{0,2}.weight}",
            "E.E.{E_pre,E.0}.{{backbone.{0,3},shortcut.0}.weight,{backbone.{1,4},shortcut.1}."
            "{weight,bias,running_mean,running_var,num_batches_tracked}}",
            "{E.E.mlp.{0,2},E.classifier}.{weight,bias}",
            "{E.se.{1,3},transform}.weight",
        ],
    ),
    (
        "weather_diffusion",
        {},
        [
            "{temb.dense.{0,1},conv_in,norm_out,conv_out,down.{0..2}.downsample.conv,up.{1..3}.upsample.conv}.{weight,bias}",
            "{down.{0..3}.block.{0,1},up.{0..3}.block.{0..2},mid.block_{1,2}}."
            "{norm1,conv1,temb_proj,norm2,conv2}.{weight,bias}",
            "{down.{1..3}.block.0,up.{0..3}.block.{0..2}}.nin_shortcut.{weight,bias}",
            "{down.2.attn.{0,1},up.2.attn.{0..2},mid.attn_1}.{norm,q,k,v,proj_out}.{weight,bias}",
        ],
    ),
    ("wgws", {}, [WGWS_CONVS + BOTH, "feat_extract.{3,4}.layer." + BOTH]),
    (
        "wgws",
        {"stage": 2},
        [WGWS_CONVS + "{weight,B{1..3}_{residual,indicator}}", "feat_extract.{3,4}.layer." + BOTH],
    ),
]


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int
) -> None:
    model = meta(name, **fields)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == entries


def expanded(pattern: str) -> Iterator[str]:
    """Every key that a pattern with braces stands for."""
    start = pattern.find("{")
    if start < 0:
        yield pattern
        return
    depth, cuts = 0, [start]
    for place, letter in enumerate(pattern[start:], start):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if (letter == "," and depth == 1) or depth == 0:
            cuts.append(place)
        if depth == 0:
            break
    choices = [pattern[a + 1 : b] for a, b in pairwise(cuts)]
    if len(choices) == 1 and ".." in choices[0]:
        first, last = map(int, choices[0].split(".."))
        choices = [str(number) for number in range(first, last + 1)]
    for choice in choices:
        yield from expanded(pattern[:start] + choice + pattern[cuts[-1] + 1 :])


@pytest.mark.parametrize(("name", "fields", "patterns"), KEYS, ids=lambda value: value if type(value) is str else "")
def test_keys_are_those_of_the_authors(name: str, fields: dict[str, Any], patterns: list[str]) -> None:
    assert set(meta(name, **fields).state_dict()) == {key for pattern in patterns for key in expanded(pattern)}


# ---------------------------------------------------------------------------------------------------- multiply-adds


ATTENTION_UTILITYIR = 2 * 4096**2 * 256
ATTENTION_PROMPTGIP = 24 * 2 * 769**2 * 1024 + 8 * 2 * 1025**2 * 512
HEAD_PROMPTGIP = 256**2 * 9 * (3 * 64 + 64 * 64 + 64 * 3)
ONE_KEY_IR_SDE = (1024 + 1023) * (256**2 + 2 * 512**2) + 2 * 1024 * (
    256 + 2 * 512
)  # queries, outputs, products of attn2
CLASSES_UWADN = 128**2 * (64 * 128 * 9 + 128 * 128 * 9 + 64 * 128) + 128**2 + 128 * 5

# name, fields, what runs on x [1, 3, 256, 256], and what the authors' figure has that ours has not, less the reverse
COUNTS: list[tuple[str, dict[str, Any], Callable[[Any, Tensor], Any], int, float]] = [
    ("biden", {}, lambda model, x: model.forward_features(x), 0, 225.34),
    # The fused attention of torch was not counted there.
    ("utilityir", {}, lambda model, x: model(x), -ATTENTION_UTILITYIR, 127.62),
    # Nor here, where the head refined both answers.
    (
        "promptgip", {"tasks": 0}, lambda model, x: model(x, example=(x, x)), HEAD_PROMPTGIP - ATTENTION_PROMPTGIP,
        264.92,
    ),
    # Attention to a single key was computed for every query.
    (
        "ir_sde", {"content_vector": True}, lambda model, x: model.noise(x, x, x[0, 0, 0, :1], None, None),
        ONE_KEY_IR_SDE, 133.09,
    ),
    (
        "weather_diffusion", {}, lambda model, x: model.noise(x[..., :64, :64], x[..., :64, :64], x[0, 0, 0, :1]), 0,
        29.96,
    ),
    ("uwadn", {}, lambda model, x: model.at_width(x, 4), CLASSES_UWADN, 418.5),
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields", "run", "more", "billions"), COUNTS, ids=[name for name, *_ in COUNTS])
def test_multiply_adds_are_those_of_the_authors(
    name: str, fields: dict[str, Any], run: Callable[[Any, Tensor], Any], more: int, billions: float
) -> None:
    model, x = meta(name, **fields).eval(), torch.empty(1, 3, 256, 256, device="meta")
    with FlopCounterMode(display=False) as counter:
        run(model, x)
    exact = 0.5 * 10 ** -len(str(billions).split(".")[1])
    assert (counter.get_total_flops() / 2 + more) / 1e9 == pytest.approx(billions, abs=exact)
