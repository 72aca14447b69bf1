"""Keys of the authors' classes for the networks of `test_golden_prompts_and_experts`."""

from __future__ import annotations

from typing import Any

import pytest

from .test_golden_prompts_and_experts import ANYIR, CAPTNET, DYNET, GRIDFORMER, HAIR, INSTRUCTIR, MEASNET, MOCE_IR
from .test_keys import first_seen, keys


def expanded(*patterns: str) -> set[str]:
    """Shell braces: `a.{b,c}.{0..2}` stands for six names; they may be nested."""
    found: set[str] = set()
    for pattern in " ".join(patterns).split():
        start = pattern.rfind("{")
        if start < 0:
            found.add(pattern)
            continue
        stop = pattern.index("}", start)
        inner = pattern[start + 1 : stop]
        first, _, last = inner.partition("..")
        choices = [str(i) for i in range(int(first), int(last) + 1)] if last else inner.split(",")
        found |= expanded(*(pattern[:start] + choice + pattern[stop + 1 :] for choice in choices))
    return found


WB = "{weight,bias}"
NAF = f"{{beta,gamma,{{conv{{1..5}},sca.1,norm{{1,2}}}}.{WB}}}"
MDTA = "{qkv,qkv_dwconv,project_out}"
CROSS = "{q,q_dwconv,kv,kv_dwconv,project_out}"
FFN = "{project_in,dwconv,project_out}"
BATCH_NORM = "{weight,bias,running_mean,running_var,num_batches_tracked}"
UNET = "{patch_embed.proj,{down1_2,down2_3,down3_4,up4_3,up3_2,up2_1}.body.0,reduce_chan_level{2,3},output}.weight"
LEVELS = "{{en,de}coder_level{1..3},latent,refinement}"
BLOCK = f"{{norm{{1,2}}.body.{WB},attn.{{temperature,{MDTA}.weight}},ffn.{FFN}.weight}}"
HYPER = "{latent,decoder_level{1..3},refinement}"
RESTORMER = f"{LEVELS}.0.{BLOCK}"
MOCE_BLOCK = f"{{norms.{{0,1}}.body.{WB},mixer.{{temperature,{MDTA}.{WB}}},ffn.{FFN}.{WB}}}"
MOCE_ATTENTION = f"{{{{q,kv}}.weight,{{q_dwconv,kv_dwconv,proj_out,norm.body}}.{WB}}}"
COMPACT = f"{{norm{{1,2}}.body.{WB},attn.{{temperature,{{LocalProp,{MDTA}}}.weight}},ffn.{FFN}.weight}}"
DENSE = f"{{dense_layers.0.{{Transformer.transformer.0.{COMPACT},conv.weight}},conv_1x1.weight}}"
KEYS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "anyir",
        ANYIR,
        [
            f"{UNET} reduce_dim_level3.weight {LEVELS}.0.{BLOCK}",
            f"{LEVELS}.0.attn.{{lam,gatedcnn.{{tau,norm.{BATCH_NORM},W_{{exp,depth,gate,proj}}.weight}}}}",
        ],
    ),
    (
        "captnet",
        CAPTNET,
        [
            f"{{intro,ending,downs.{{0..3}}}}.{WB}",
            f"{{encoders.{{0,1}},decoders.{{2,3}},middle}}.0.{NAF}",
            f"{{encoders.{{2,3}},decoders.{{0,1}},middle_blks}}.0.{{{{norm1,norm2,ffn.{FFN},attn.{MDTA}}}.{WB}}}",
            "{encoders.{2,3},decoders.{0,1},middle_blks}.0.attn.{temperature,prompt}",
            "{ups.{0..3}.0,middle_ups.0}.weight",
        ],
    ),
    (
        "dynet",
        DYNET,
        [
            f"{UNET} {{encoder_level{{1..3}},latent,decoder_level{{1..3}},noise_level{{1..3}},refinement.0}}.{BLOCK}",
            f"prompt{{1..3}}.{{prompt_param,linear_layer.{WB},conv3x3.weight}}",
            "{reduce_noise_level{1..3},reduce_noise_channel_{1..3}}.weight",
        ],
    ),
    (
        "gridformer",
        GRIDFORMER,
        [
            f"coefficient conv_in.proj.weight conv_out.{WB}",
            "{upsample_module.{0,1}_{3..5},downsample_module.{0,1}_{0..2}}.body.0.weight",
            f"extractor_module.{{0,1}}_0.{{conv_in.proj.weight,tbm_in.transformer.0.{COMPACT}}}",
            f"reconstruct_module.{{0,1}}_5.{{conv_out.{WB},tbm_out.transformer.0.{COMPACT}}}",
            f"{{TBM_in,TBM_out,TBM_module.{{0..2}}_{{0..4}}}}.{DENSE}",
        ],
    ),
    (
        "hair",
        HAIR,
        [
            f"{UNET} reduce_latent.{WB} encoder_level{{1..3}}.0.{BLOCK}",
            f"{HYPER}.{{kernel_box,blocks.0.{{norm1.body.{WB},attn.temperature,norm2.body.{WB}}}}}",
            f"{HYPER}.extracts.0.net.{{0,2,4,6}}.{WB}",
            f"feature.{{conv_in,down.{{0,1}}.downsample.conv,norm_out,conv_out}}.{WB}",
            f"feature.{{down.{{0..2}}.block.{{0..2}},mid.block_{{1,2}}}}.{{norm,conv}}{{1,2}}.{WB}",
            f"feature.mid.attn_1.{{norm,q,k,v,proj_out}}.{WB}",
        ],
    ),
    (
        "instructir",
        INSTRUCTIR,
        [
            f"{{intro,ending,downs.{{0..2}}}}.{WB}",
            f"{{{{encoders,decoders}}.{{0..2}}.0,middle_blks.0}}.{NAF}",
            "ups.{0..2}.0.weight",
            f"{{enc,dec}}_cond.{{0..2}}.{{beta,gamma,fc.{WB},block.{NAF}}}",
        ],
    ),
    (
        "measnet",
        MEASNET,
        [
            f"{UNET} {RESTORMER}",
            f"block{{1..3}}.{{param_alpha,param_beta,{{initial_conv,aux_conv}}.weight,score_generator.{WB}}}",
            f"block{{1..3}}.cross_layer_{{low,high,agg}}.{{temperature,{CROSS}.weight}}",
            f"block{{1..3}}.freq_refinement.{{modulate1.spatial.weight,modulate2.squential.{{0,2}}.weight,conv.{WB}}}",
            "block{1..3}.rate_adaptive_conv.{0,2}.weight",
            f"task_prompt.{{dictionary,{{CondNet.{{0,2,4,6,8}},lastOut}}.{WB}}}",
            f"stpg_g_mese{{1..3}}.{{fc.{WB},model.{{w_g,w_n,mean,std,el.{{0..5}}.{{fc1,fc2}}.{WB}}}}}",
            f"fe_mee{{1..3}}.{{spilit.{{lamb_l,lamb_h,conv.weight,bn.{BATCH_NORM}}},proj.{WB}}}",
            f"fe_mee{{1..3}}.{{high,low}}_block.{{norm_1,norm_2,block.{{conv_1.{{0,2}},agg_conv.0,conv.{{0,1}}}}}}.{WB}",
            f"fe_mee{{1..3}}.{{high,low}}_block.block.{{conv_2.0.conv.{{0,1}},proj}}.{WB}",
            f"fe_mee{{1..3}}.{{high,low}}_block.block.moe_layer.experts.{{0..4}}.conv_{{1..3}}.{WB}",
            "fe_mee{1..3}.{high,low}_block.block.moe_layer.wet.body.2.weight",
        ],
    ),
    (
        "moce_ir",
        MOCE_IR,
        [
            f"{{patch_embed.proj,output,freq_embed.high_conv.0.conv}}.weight freq_embed.mlp.{{0,2}}.{WB}",
            f"{{{{enc.{{0..2}}.0,latent,refinement}}.layers.0}}.{MOCE_BLOCK}",
            "{enc.{0..2}.1.body.0,dec.{0..2}.{0.body.0,1}}.weight",
            f"dec.{{0..2}}.2.layers.0.{{norms.{{0,1}}.body.{WB},proj.{{0,1}}.{WB},ffn.{FFN}.weight}}",
            f"dec.{{0..2}}.2.layers.0.{{shared.{{temperature,{MDTA}.weight}},mixer.{{temperature,{CROSS}.weight}}}}",
            f"dec.{{0..2}}.2.layers.0.adapter.experts.{{0..3}}.0.{{proj.{{0..2}}.weight,body.{MOCE_ATTENTION}}}",
            "dec.{0..2}.2.layers.0.adapter.{proj_out.weight,routing.{complexity,gate.2.weight,freq_gate.weight}}",
        ],
    ),
]


@pytest.mark.parametrize(("name", "fields", "patterns"), KEYS, ids=lambda value: value if type(value) is str else "")
def test_the_keys_are_those_of_the_authors(name: str, fields: dict[str, Any], patterns: list[str]) -> None:
    assert set(keys(name, **fields)) == expanded(*patterns)


ORDERS = {"instructir": "intro ending encoders decoders middle_blks ups downs enc_cond dec_cond"}


@pytest.mark.parametrize("name", ORDERS)
def test_parts_come_in_the_authors_order(name: str) -> None:
    assert first_seen(keys(name)) == ORDERS[name].split()
