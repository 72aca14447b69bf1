"""Outputs, sizes and keys of the authors' own classes (float64, weights by rule), to the last printed digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from cmtl_ir import backbones
from cmtl_ir.backbones._instance import instance_norm
from cmtl_ir.backbones._mean_reverting import MeanReverting
from cmtl_ir.backbones._tiles import Tiles
from cmtl_ir.backbones.msbdn import CollaborativeTransfer

from .cases import CASES, Case, image, spread
from .test_golden import five_numbers

Run = Callable[[Any, Tensor], Tensor]


class Row(NamedTuple):
    """A network, what it is shown, and mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1] of its output."""

    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]
    run: Run = lambda model, x: model(x)


def of_task(number: int) -> Run:
    """Restore an image of that task."""
    return lambda model, x: model(x, torch.tensor([number]))


WGWS = {"base": 8, "stage": 2}


def raw_head(number: int) -> Run:
    """The tanh of that head of BIDeN."""
    return lambda model, x: 2 * model(x, torch.tensor([number])) - 1


def at_width(number: int) -> Run:
    """Restore by U-WADN's width of that number."""
    return lambda model, x: model.at_width(x, number)


def alone(model: Any, x: Tensor) -> Tensor:
    """The transformer of ProRes, without prompt and normalization."""
    return model.network(x)


def noisy(x: Tensor) -> Tensor:
    """A state of that size."""
    return image(3, x.shape[2], x.shape[3], key="noise")


def vectors() -> tuple[Tensor, Tensor]:
    """A degradation and a content vector."""
    return spread(16, "degra")[None], spread(16, "content")[None]


def noise_at(t: int) -> Run:
    """What IR-SDE's network finds in a state at time t."""
    return lambda model, x: model.noise(noisy(x), x, torch.tensor([t]).double(), *vectors())


def posterior_means(model: Any, x: Tensor) -> Tensor:
    """The reverse of IR-SDE without noise."""
    return model.sampled(noisy(x), x, *vectors(), keys=None)


def question(model: Any, x: Tensor) -> Tensor:
    """PromptGIP's answer to image b, of which the input and image a are the example."""
    answer, query = (image(3, x.shape[2], x.shape[3], key=key) for key in ("a", "b"))
    return model(query, example=(x, answer))


PROMPTGIP = {
    "width": 32,
    "depth": 2,
    "heads": 2,
    "decoder_width": 24,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "tasks": 0,
}
UTILITYIR = {"width": 8, "blocks": 1, "degradation": 8}
IR_SDE = {"width": 32, "multipliers": [1, 2, 2, 2], "vector": 16, "content_vector": True}
IDR = {"width": 16, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}
MSBDN = {"width": 4, "blocks": 2}
PRORES = {"width": 32, "depth": 24, "heads": 2, "image_size": 64, "head_width": 8, "tasks": 0}
BIDEN = {"features": 8, "tasks": 3}

# fmt: off
QUICK = [
    Row("biden", BIDEN, (3, 64, 64), (0.2029524538, 0.4675571523, 0.5972712617, 0.2114052529, -0.4327564092), raw_head(0)),  # noqa: E501
    Row("biden", BIDEN, (3, 64, 96), (0.0747137129, 0.6002960629, -0.8173718384, 0.6108081297, 0.9813771632), raw_head(2)),  # noqa: E501
    Row("idr", IDR, (3, 64, 64), (0.2647995173, 2.4399833996, 0.6465010190, -1.1863953206, -0.0443078229), of_task(0)),
    Row("idr", IDR, (3, 64, 64), (-0.1396952421, 17.0700823949, 0.2066589758, 5.4545701004, 1.2623593375), of_task(2)),
    Row("idr", IDR, (3, 64, 64), (0.2238710718, 1.4520454840, -0.8787892490, -1.8681826994, -0.3128451896), of_task(3)),
    Row("idr", {**IDR, "stage": 2}, (3, 64, 64), (-0.4062172587, 9.3450625913, -0.5815075298, -2.3289877216, -0.3972392262)),  # noqa: E501
    Row("idr", {**IDR, "stage": 2}, (3, 64, 96), (-0.5547316337, 12.4443717606, -2.5141573317, -5.0023305424, -0.2582149357)),  # noqa: E501
    Row("ir_sde", IR_SDE, (3, 64, 64), (-0.0160539207, 0.9472457055, -0.0751925019, 0.1805187924, -0.0068361218), noise_at(50)),  # noqa: E501
    Row("ir_sde", IR_SDE, (3, 61, 50), (0.0906006639, 1.2194751251, -0.2277692843, 1.0581889700, -1.2030994102), noise_at(1)),  # noqa: E501
    Row("ir_sde", {**IR_SDE, "content_vector": False}, (3, 64, 64), (-0.0803698538, 0.7750293435, 0.0104474945, 0.3596115319, -0.0852067079), noise_at(50)),  # noqa: E501
    Row("ir_sde", {**IR_SDE, "steps": 4}, (3, 64, 64), (-3.4910805949, 136.2522800430, 48.6360905328, 5.9429564504, -9.3640838208), posterior_means),  # noqa: E501
    Row("msbdn", MSBDN, (3, 64, 64), (1.4412158683, 73.7136363200, -34.4654723891, -44.1439787402, 17.3033291997)),
    Row("msbdn", MSBDN, (3, 48, 80), (0.3135502936, 64.2713215182, -35.5011215446, -42.0702894000, 36.2286094589)),
    Row("promptgip", PROMPTGIP, (3, 32, 32), (0.0174687483, 0.4911995609, 0.1498574555, -0.3344150514, 0.4780870969), question),  # noqa: E501
    Row("prores", PRORES, (3, 64, 64), (0.0548475789, 0.8267878519, -0.2253842081, 0.1871638689, 0.0771034573), alone),
    Row("prores", PRORES, (3, 96, 64), (0.0547785298, 0.8314754168, -0.6831344381, 0.1488218675, 0.0400503131), alone),
    Row("prores", {**PRORES, "windowed": [0, 1, 3], "window": 3}, (3, 64, 64), (0.0588650658, 0.8150845936, -0.6515354432, -0.1164487127, 0.2317266043), alone),  # noqa: E501
    Row("utilityir", UTILITYIR, (3, 64, 64), (0.0750987047, 0.3495538556, -0.1596628045, -0.4011743691, 0.5046004323)),
    Row("utilityir", UTILITYIR, (3, 48, 80), (0.0746603668, 0.3496148401, -0.1085698370, 0.1717663519, 0.7329475958)),
    Row("wgws", {"base": 8}, (3, 64, 64), (22.8277201120, 104.7788803196, 0.8596141587, 14.1547093076, -3.1414299043)),
    Row("wgws", {"base": 8}, (3, 96, 80), (24.7221948232, 111.4879506443, -1.9655882783, 25.5803381134, -9.0761216091)),
    Row("wgws", WGWS, (3, 64, 64), (12.8270991898, 55.0122167095, -1.3289824283, 6.8758864849, -6.8875028742), of_task(0)),  # noqa: E501
    Row("wgws", WGWS, (3, 64, 64), (12.6563289310, 54.8305417226, 0.1045167694, 0.5567824770, -5.1638306823), of_task(1)),  # noqa: E501
    Row("wgws", WGWS, (3, 64, 64), (10.5013491120, 48.7984127588, 0.0433791316, -0.4274573854, -3.5674152305)),
    Row("wgws", {**WGWS, "residual_kernel": 3}, (3, 64, 64), (31.0142042083, 106.7650605741, 3.4153447061, 38.4917936988, -11.2801253143), of_task(2)),  # noqa: E501
]
SLOW = [
    Row("msbdn", {}, (3, 64, 64), (-4.2646390054, 98.7493729006, -102.2054186849, 101.2412966891, -7.3846019548)),
    Row("uwadn", {}, (3, 64, 64), (-12.8036984871, 45.5817264013, -9.5670101844, -30.6182125332, 12.7670753691), at_width(4)),  # noqa: E501
    Row("uwadn", {}, (3, 64, 64), (0.5269565727, 3.1794760458, -1.4248233459, -4.9505540179, 0.2010755269), at_width(1)),  # noqa: E501
    Row("uwadn", {}, (3, 61, 50), (0.5331950341, 3.1882353304, -0.7942325951, -3.6796649458, 0.4589482474), at_width(1)),  # noqa: E501
]

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
    ("wgws", {}, [WGWS_CONVS + BOTH, "feat_extract.{3,4}.layer." + BOTH]),
    (
        "wgws",
        {"stage": 2},
        [WGWS_CONVS + "{weight,B{1..3}_{residual,indicator}}", "feat_extract.{3,4}.layer." + BOTH],
    ),
]


def assert_golden(y: Tensor, numbers: tuple[float, ...]) -> None:
    expected = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(five_numbers(y), expected, rtol=1e-9, atol=1e-9)


def label(row: Row) -> str:
    return "-".join([row.name, *(f"{key}={value}" for key, value in row.fields.items()), "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).build().eval()
    assert_golden(row.run(model, image(*row.shape)), row.numbers)


def meta(name: str, **fields: Any) -> Any:
    """The network without memory behind its tensors."""
    with torch.device("meta"):
        return backbones.build(name, **fields)


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


# ---------------------------------------------------------------------------------------- what one network promises


@torch.no_grad()
def test_stage_2_of_wgws_starts_as_the_general_network_without_its_biases() -> None:
    general = Case("wgws", {"base": 4}).build()
    specific: Any = backbones.build("wgws", base=4, stage=2).double()
    specific.start_from(general.state_dict())
    for key, parameter in general.named_parameters():
        if key.endswith(".bias") and not key.startswith(("feat_extract.3", "feat_extract.4")):
            parameter.zero_()
    x = image(3, 16, 16)
    torch.testing.assert_close(specific(x, torch.tensor([1])), general(x), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_every_image_of_a_batch_has_its_own_weather() -> None:
    model = Case("wgws", {"base": 4, "stage": 2}).build()
    x = image(3, 16, 16).repeat(2, 1, 1, 1)
    first, second = model(x, torch.tensor([0, 2]))
    assert not torch.allclose(first, second)
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        model(x, torch.tensor([0, 3]))


@torch.no_grad()
def test_bidens_discriminator_gives_the_authors_source_logits() -> None:
    model = Case("biden", {"features": 4, "discriminator": True}).build().eval()
    _, found = model.forward_features(image(3, 64, 64))
    expected = torch.tensor([-2.3285336510, 0.2400751232, 3.0175975145, 2.5782197115], dtype=torch.float64)
    torch.testing.assert_close(found["sources"][0, :4], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_biden_chooses_the_head_of_the_task_alike_in_training_and_in_eval() -> None:
    model = Case("biden", {"features": 4, "tasks": 3}).build()
    x, tasks = image(3, 19, 16, batch=2), torch.tensor([2, 0])
    restored, found = model.forward_features(x, tasks)
    torch.testing.assert_close(model.eval()(x, tasks), restored, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.train()(x, tasks), restored, rtol=1e-9, atol=1e-9)
    assert found["components"].shape == (2, 3, 3, 19, 16)
    assert torch.equal(found["components"][0, 2], restored[0])


def test_instance_norm_has_the_same_gradient_in_every_memory_format() -> None:
    x, along = image(4, 6, 6, key="x").requires_grad_(), image(4, 6, 6, key="gradient")
    plain = torch.autograd.grad(torch.nn.functional.instance_norm(x), x, along)[0]
    last = torch.autograd.grad(instance_norm(x), x, along.contiguous(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(last, plain, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_promptgip_hides_three_quarters_of_both_answers_by_the_image_alone() -> None:
    model = CASES["promptgip"].build()
    x, target = image(3, 16, 12, batch=2), image(3, 16, 12, batch=2, key="gt")
    answers, found = model.masked(x, target, torch.tensor([0, 1]))
    assert answers.shape == found["patches"].shape == found["truth"].shape == (2, 2, 3, 16, 16)
    assert found["hidden"].mean((1, 2, 3, 4)).tolist() == [0.75, 0.75]
    assert not torch.equal(*found["hidden"])
    alone = model.masked(x[1:], target[1:], torch.tensor([1]))
    torch.testing.assert_close(alone[0], answers[1:], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found["truth"][:, 1, :, :, :12], target)


@torch.no_grad()
def test_promptgip_reads_the_example_and_refuses_to_do_without() -> None:
    model, bare = CASES["promptgip"].build(), Case("promptgip", CASES["promptgip"].fields | {"tasks": 0}).build()
    x, one, other = (image(3, 8, 8, key=key) for key in ("input", "a", "b"))
    assert not torch.allclose(model(x, example=(one, one)), model(x, example=(one, other)))
    assert torch.equal(model(x, example=(one, other)), bare(x, example=(one, other)))
    with pytest.raises(ValueError, match="example"):
        bare(x)
    with pytest.raises(ValueError, match="512 pixels a side, not for 516"):
        model.masked(torch.zeros(1, 3, 8, 516), torch.zeros(1, 3, 8, 516))


@torch.no_grad()
def test_tiles_are_averaged_to_what_they_were_cut_from() -> None:
    x = image(3, 13, 20, batch=2)
    tiles = Tiles((13, 20), 8, 5)
    assert len(tiles.cut(x)) == 2 * 2 * 4
    torch.testing.assert_close(tiles.averaged(tiles.cut(x)), x)
    with pytest.raises(ValueError, match="smaller than a tile of 14"):
        Tiles((13, 20), 14, 5)


@torch.no_grad()
def test_uwadn_restores_every_image_at_the_width_that_it_chooses() -> None:
    model = CASES["uwadn"].build().eval()
    x = image(3, 12, 12, batch=6)
    logits = model.forward_features(x)[1]["width"]
    model.E.classifier.bias[0] += 2 * (logits[:, 1] - logits[:, 0]).median()  # so that it chooses both
    restored, found = model.forward_features(x)
    chosen = found["width"].argmax(1)
    assert 0 < chosen.sum() < 6
    each = torch.stack([model.at_width(x, 0), model.at_width(x, 1)])[chosen, torch.arange(6)]
    torch.testing.assert_close(restored, each, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_collaborative_transfer_projects_the_four_features_of_msbdn() -> None:
    with torch.device("meta"):
        parts = [CollaborativeTransfer(channels, teachers=3) for channels in (64, 128, 256, 256)]
    assert sum(parameter.numel() for part in parts for parameter in part.parameters()) == 10_229_760
    assert sum(len(part.state_dict()) for part in parts) == 56
    feature = Case("msbdn", MSBDN).build().forward_features(image(3, 32, 32))[1]["scale8"]
    student, common, back = CollaborativeTransfer(32, teachers=2).double()(feature, feature, 1)
    assert student.shape == common.shape == (1, 16, 4, 4)
    assert back.shape == feature.shape


@torch.no_grad()
def test_prores_on_the_rules_target_has_the_authors_loss() -> None:
    y = Case("prores", PRORES).build().eval().network(image(3, 64, 64))
    loss = torch.nn.functional.smooth_l1_loss(y, image(3, 64, 64, key="gt"), beta=0.01)
    torch.testing.assert_close(float(loss), 0.7810728694, rtol=0.0, atol=1e-9)


@torch.no_grad()
def test_prores_adds_the_prompt_of_the_task_or_the_given_one() -> None:
    model, bare = CASES["prores"].build().eval(), Case("prores", CASES["prores"].fields | {"tasks": 0}).build().eval()
    x = image(3, 8, 8, batch=2)
    first, second = model(x[:1].repeat(2, 1, 1, 1), torch.tensor([0, 1]))
    assert not torch.allclose(first, second)
    torch.testing.assert_close(bare(x, prompt=model.prompts[[1, 0]]), model(x, torch.tensor([1, 0])))
    with pytest.raises(ValueError, match="prompt=picture"):
        bare(x)


@torch.no_grad()
def test_idrs_side_images_have_the_authors_distance_to_the_target() -> None:
    model = Case("idr", IDR).build().eval()
    _, found = model.forward_features(image(3, 64, 64), torch.tensor([1]))
    sides, gt = [found[f"side{number}"] for number in (1, 2, 3)], image(3, 64, 64, key="gt")
    targets = [torch.nn.functional.interpolate(gt, side.shape[-2:], mode="bilinear") for side in sides]
    distance = sum(float((side - target).abs().mean()) for side, target in zip(sides, targets, strict=True))
    assert distance == pytest.approx(4.2050204289, abs=1e-9)
    torch.testing.assert_close(found["classes"].sum(2), torch.ones(1, 3, dtype=torch.float64))


@torch.no_grad()
def test_idr_without_a_task_takes_the_most_probable_one() -> None:
    model = CASES["idr"].build().eval()
    for number in (1, 2, 3):
        model.get_submodule(f"kdp_level{number}.principle.pred.2").bias[2] += 100
    x = image(3, 16, 16)
    assert torch.equal(model(x), model(x, torch.tensor([2])))
    assert not torch.allclose(model(x), model(x, torch.tensor([1])))


@torch.no_grad()
def test_utilityir_takes_estimates_from_its_user() -> None:
    model = Case("utilityir", UTILITYIR).build().eval()
    restored, found = model.forward_features(image(3, 64, 64))
    assert float(found["quality"]) == pytest.approx(5.4196343377, abs=1e-9)
    again = model(image(3, 64, 64), type_map=found["type"], severity=found["severity"])
    assert torch.equal(again, restored)
    assert not torch.allclose(model(image(3, 64, 64), severity=2 * found["severity"]), restored)


# ------------------------------------------------------------------------------------------------ diffusion networks


def test_the_sde_has_the_published_tables() -> None:
    sde = MeanReverting()
    found = [
        *sde.theta[[0, 1, 50, 100]].tolist(), sde.dt, *sde.theta_sum[[50, 100]].tolist(), float(sde.sigma[50]),
        *sde.deviation[[1, 50, 100]].tolist(), float(sde.posterior_deviation[50]),
    ]  # fmt: skip
    expected = [
        0.000614239571, 0.001694615642, 0.506156409559, 0.999766572480, 0.104093807857, 9.7928167676, 50.8994480617,
        0.197281877382, 0.003682600193, 0.182869578376, 0.196075980377, 0.0614917421,
    ]  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-10)


SDE_STEPS = {
    "noised": (0.4980644847, 0.2114087672, 0.4291855936, 0.3946881186, 0.5483102041),
    "optimum": (0.4999551990, 0.2707690644, 0.6507417345, 0.4269977232, 0.5569326952),
    "reverse_mean": (0.5003859848, 0.3053382564, 0.6805637907, 0.4074065703, 0.5405151248),
    "ode_step": (0.5002987340, 0.3051367389, 0.6793025100, 0.4180281608, 0.5498898851),
    "clean": (0.5050719978, 0.9879203488, 1.3666926738, 0.4857817879, -0.0909839039),
}


@pytest.mark.parametrize("step", SDE_STEPS)
def test_a_step_of_the_sde_is_the_authors(step: str) -> None:
    mu, clean, noise = image(3, 64, 64), image(3, 64, 64, key="gt"), spread(12288, "eps").reshape(1, 3, 64, 64)
    others = {"noised": (clean, noise * 0), "optimum": (noisy(mu), clean)}
    first, last = others.get(step, (noisy(mu), noise))
    assert_golden(getattr(MeanReverting(), step)(first, mu, torch.tensor([50]), last), SDE_STEPS[step])


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["posterior", "sde"])
def test_ir_sdes_noise_is_keyed_by_the_image(sampler: str) -> None:
    model = Case("ir_sde", CASES["ir_sde"].fields | {"sampler": sampler}).build()
    x = image(3, 12, 9, batch=2)
    restored = model(x)
    assert torch.equal(model(x), restored)
    torch.testing.assert_close(model(x.flip(0)), restored.flip(0), rtol=1e-10, atol=1e-10)
    noiseless = model.sampled(x, x, model.of_task(x, None), None, keys=None)
    assert not torch.allclose(restored, noiseless)


@torch.no_grad()
def test_ir_sdes_training_pair_reads_time_and_noise_off_each_images_key() -> None:
    model = CASES["ir_sde"].build()
    x, target = image(3, 12, 9, batch=4), image(3, 12, 9, batch=4, key="gt")
    vector = model.of_task(x, torch.tensor([0, 1, 2, 0]))
    assert torch.equal(vector[0], vector[3]) and not torch.equal(vector[0], vector[1])
    together = torch.stack(model.training_pair(x, target, vector, None))
    alone = torch.stack(model.training_pair(x[2:3], target[2:3], vector[2:3], None))
    torch.testing.assert_close(together[:, 2:3], alone, rtol=1e-10, atol=1e-10)
    other = torch.stack(model.training_pair(x, target, vector, None, keys=torch.arange(4)))
    assert not torch.allclose(together, other)
