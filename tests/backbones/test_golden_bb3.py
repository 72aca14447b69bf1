"""Outputs, sizes and keys of the authors' classes for InstructIR, MoCE-IR, MEASNet, GridFormer, HAIR, AnyIR, CAPTNet
and DyNet (float64, weights by rule), to the last printed digit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from cmtl_ir import backbones
from cmtl_ir.backbones._measnet_parts import split_spectrum
from cmtl_ir.backbones.hair import HyperLevel
from cmtl_ir.backbones.instructir import InstructionHead, keyed_instructions
from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.inference.profile import unused_of

from .cases import CASES, Case, fill, image, spread
from .test_golden import assert_golden
from .test_published import count, first_seen, keys, meta


class Row(NamedTuple):
    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]  # mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1]
    given: dict[str, Tensor] = {}  # noqa: RUF012, never changed: further arguments of forward


ONE = [1, 1, 1, 1]
ANYIR = {"width": 16, "blocks": ONE, "refinement_blocks": 1}
CAPTNET = {"width": 16, "encoder": ONE}
DYNET = {"width": 16, "reuse": [1, 2, 1, 2], "refinement_blocks": 1}
GRIDFORMER = {"width": 16, "blocks": ONE[:3], "growth": 8, "dense_layers": 1}
HAIR = {"width": 16, "blocks": ONE, "refinement_blocks": 1}
INSTRUCTIR = {"width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1], "text": 16}
MOCE_IR = {"width": 16, "blocks": ONE, "decoder_blocks": ONE[:3], "refinement_blocks": 1, "with_complexity": True}
MEASNET = {"width": 16, "blocks": ONE, "refinement_blocks": 1}
TEXT = {"text": spread(16, "text")[None]}

# fmt: off
QUICK = [
    Row("anyir", ANYIR, (3, 64, 64), (2.7782493166, 3.4485425410, -0.3598047191, 6.8721200748, 2.7824543173)),
    Row("anyir", ANYIR, (3, 64, 96), (2.7938176500, 3.4537116543, -0.0280430066, 4.1364338832, 2.4455352274)),
    Row("captnet", CAPTNET, (3, 64, 64), (1.1806825720, 5.2202334215, 2.8799320057, -4.2982453372, -1.4263606017)),
    Row("dynet", DYNET, (3, 64, 64), (0.1963179203, 1.6947119116, 0.8048293469, -2.0744277930, 1.5302989774)),
    Row("dynet", DYNET, (3, 64, 96), (0.1764653064, 1.6808139856, -0.2652193169, -0.4733647177, 0.6524578815)),
    Row("gridformer", GRIDFORMER, (3, 64, 64), (0.5970147251, 0.5830423395, 0.0436941301, 1.1370367065, 0.8196079378)),
    Row("gridformer", GRIDFORMER, (3, 48, 80), (0.5980529265, 0.5810376585, 0.1266917208, 1.6166377206, 0.9992871987)),
    Row("hair", HAIR, (3, 64, 64), (-0.1754700898, 1.0067481044, 0.1097670043, -1.2157667148, 0.1273995374)),
    Row("hair", HAIR, (3, 64, 96), (-0.1931765311, 1.0201301210, 0.2301990392, -0.8471566033, 0.4720326988)),
    Row("instructir", INSTRUCTIR, (3, 64, 64), (0.7825222974, 2.1870342151, -0.1148972584, 0.7499278770, 0.4493959450), TEXT),  # noqa: E501
    Row("instructir", INSTRUCTIR, (3, 61, 50), (0.7750520437, 2.1753434903, -1.3864367052, 4.6399038155, -2.7300868668), TEXT),  # noqa: E501
    Row("measnet", MEASNET, (3, 64, 64), (-0.3262451286, 1.3054766395, -0.2254947745, 0.0241500399, 0.5975024788)),
    Row("measnet", MEASNET, (3, 64, 128), (-0.3358132116, 1.2936764734, -0.1072368648, -0.1561958462, -0.4898900573)),
    Row("moce_ir", MOCE_IR, (3, 64, 64), (1.3773698739, 1.5982749096, 1.7682287731, 0.9458441845, -0.0285586375)),
    Row("moce_ir", MOCE_IR, (3, 64, 96), (1.3761278310, 1.6289071040, 1.7069755030, 1.5851702741, -0.1926648344)),
]
SLOW: list[Row] = [
    Row("anyir", {}, (3, 64, 64), (0.4620761938, 6.5185526399, -0.7414755820, -8.1628035346, 2.7381409259)),
    Row("captnet", {}, (3, 64, 64), (1.1666210019, 11.7724202283, -2.0659990418, 21.6671366936, 2.6593815262)),
    Row("dynet", {}, (3, 64, 64), (0.9184638197, 5.6539231596, -1.9802792499, -8.5464474006, 0.8342905095)),
    Row("dynet", {"reuse": [2, 3, 3, 4]}, (3, 64, 64), (0.6691072098, 3.3127155882, -1.3455626980, 0.2957153683, 0.3812288813)),  # noqa: E501
    Row("gridformer", {}, (3, 64, 64), (0.5811617823, 0.5191869472, -0.2074592156, 0.1076042356, 0.8269553514)),
    Row("hair", {}, (3, 64, 64), (0.6550751605, 3.3980610734, -0.9266691267, 2.6658346527, 2.4685279343)),
    Row("measnet", {}, (3, 64, 64), (1.3061622640, 2.7551904098, 0.1267047277, 0.3126728615, 2.0772714088)),
    Row("moce_ir", {"width": 32}, (3, 64, 64), (-0.8855230982, 3.5111929321, 0.6945242152, 1.3077410536, 0.0175082499)),
]
SIZES: list[tuple[str, dict[str, Any], int, int | None]] = [
    ("anyir", {}, 5_736_376, 825),
    ("anyir", {"width": 32, "blocks": [4, 6, 6, 8]}, 8_513_436, None),
    ("anyir", ANYIR, 499_157, 187),
    ("captnet", {}, 24_366_307, 683),
    ("captnet", CAPTNET, 1_552_923, 197),
    ("dynet", {}, 16_726_031, 182),
    ("dynet", {"reuse": [2, 3, 3, 4]}, 16_726_031, 182),
    ("dynet", DYNET, 7_144_038, 149),
    ("gridformer", {}, 34_072_791, 1974),
    ("gridformer", {"blocks": [1, 2, 4]}, 30_202_439, 1494),
    ("gridformer", GRIDFORMER, 713_769, 308),
    ("hair", {}, 28_559_846, 665),
    ("hair", HAIR, 1_977_811, 223),
    ("instructir", {}, 15_843_363, 696),
    ("instructir", INSTRUCTIR, 99_995, 271),
    ("measnet", {}, 31_680_752, 982),
    ("measnet", MEASNET, 1_592_413, 630),
    ("moce_ir", {}, 25_353_796, 1262),
    ("moce_ir", {"width": 32}, 11_477_752, 1262),
    ("moce_ir", MOCE_IR, 927_008, 332),
]
# fmt: on


def label(row: Row) -> str:
    return "-".join([row.name, "small" if row.fields else "published", "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).build().eval()
    y = model(image(*row.shape), **row.given)
    assert_golden(y[-1] if isinstance(y, list) else y, row.numbers)


@torch.no_grad()
def test_captnet_before_cropping_is_that_of_the_authors() -> None:
    model, x = Case("captnet", CAPTNET).build().eval(), image(3, 61, 50)
    y = model.restored(x)
    assert_golden(y, (0.7276008831, 4.9114043213, 3.3182479023, 1.9963264547, -1.6180618887))
    assert torch.equal(model(x), y[:, :, :61, :50])


@torch.no_grad()
def test_gridformer_restores_smaller_images_as_the_authors() -> None:
    quarter, half, _ = Case("gridformer", GRIDFORMER).build().eval()(image(3, 64, 64))
    assert (quarter.shape[-2:], half.shape[-2:]) == ((16, 16), (32, 32))
    assert float(half.mean()) == pytest.approx(0.8174196754, abs=1e-9)
    assert float(quarter.mean()) == pytest.approx(0.7680111045, abs=1e-9)


@torch.no_grad()
@pytest.mark.slow
def test_instructir_follows_the_authors_language_head() -> None:
    head = fill(InstructionHead().double())
    instruction, logits = head(spread(384, "text")[None])
    found = torch.stack([instruction[0, 0], logits[0, 0]])
    torch.testing.assert_close(
        found, torch.tensor([0.0047966532, 0.1938337153], dtype=torch.float64), rtol=0, atol=1e-9
    )
    y = Case("instructir", {}).build().eval()(image(3, 64, 64), text=instruction)
    assert_golden(y, (1.8272036019, 4.3719637460, -0.5201024410, 5.4994139588, 4.8362150681))


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int | None
) -> None:
    model = meta(name, **fields)
    assert count(model) == parameters
    assert entries is None or len(model.state_dict()) == entries


# ------------------------------------------------------------------------------------------------------------ keys


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


@torch.no_grad()
@pytest.mark.slow
def test_moce_ir_routes_as_the_authors_balance_loss_says() -> None:
    model = Case("moce_ir", {**MOCE_IR, "router_noise": False}).build().train()
    x = torch.cat([image(3, 64, 64), image(3, 64, 64, key="b")])
    _, features = model.forward_features(x)

    def spread_of(values: Tensor) -> Tensor:  # [D, E] -> [D]
        return (values.std(1) / (values.mean(1) + 1e-8)).square()

    loss = 0.5 * (spread_of(features["importance"].sum(0)) + spread_of(features["load"].mean(0))).mean()
    assert float(loss) == pytest.approx(1.2982131316, abs=1e-9)


@torch.no_grad()
def test_measnet_in_training_is_that_of_the_authors() -> None:
    model = Case("measnet", {**MEASNET, "router_noise": False}).build().train()
    y, features = model.forward_features(torch.cat([image(3, 64, 64), image(3, 64, 64, key="b")]))

    def spread_of(values: Tensor) -> Tensor:  # [3, E] -> [3]
        return values.var(1) / (values.mean(1).square() + 1e-10)

    loss = (spread_of(features["importance"].sum(0)) + spread_of(features["load"].sum(0))).sum()
    assert float(loss) == pytest.approx(5.2235162513, abs=1e-9)
    assert float(y[0].mean()) == pytest.approx(-0.2685894412, abs=1e-9)


# ---------------------------------------------------------------------------------------- what one network promises


@torch.no_grad()
def test_instructir_takes_its_instruction_from_task_or_text() -> None:
    model = CASES["instructir"].build()
    x = image(3, 16, 16)
    first = model(x, torch.tensor([0]))
    assert not torch.allclose(first, model(x, torch.tensor([1])))
    assert not torch.allclose(first, model(x))
    torch.testing.assert_close(model(x, text=keyed_instructions(7, 8)[:1].double()), first, rtol=1e-5, atol=1e-5)


def test_an_instruction_belongs_to_the_task_number_alone() -> None:
    few, many = keyed_instructions(2, 16), keyed_instructions(9, 16)
    assert torch.equal(few, many[:2])
    torch.testing.assert_close(many.norm(dim=1), torch.ones(9))


@torch.no_grad()
def test_moce_ir_noise_is_of_training_and_of_the_image() -> None:
    model = CASES["moce_ir"].build().train()
    x = image(3, 16, 16, batch=2)

    def loads(model: Any, x: Tensor) -> Tensor:
        return model.forward_features(x)[1]["load"]

    noisy = loads(model, x)
    assert torch.equal(loads(model, x), noisy)
    torch.testing.assert_close(loads(model, x.flip(0)), noisy.flip(0), rtol=1e-9, atol=1e-9)
    quiet = Case("moce_ir", {**CASES["moce_ir"].fields, "router_noise": False}).build().train()
    assert not torch.allclose(loads(quiet, x), noisy)
    torch.testing.assert_close(loads(quiet, x), loads(model.eval(), x), rtol=1e-9, atol=1e-9)


def test_skipping_experts_that_nobody_chose_changes_nothing() -> None:
    model = CASES["moce_ir"].build().eval()
    x = image(3, 16, 16, batch=2)
    with torch.no_grad():
        sparse = model(x)
    torch.testing.assert_close(model(x), sparse, rtol=1e-12, atol=1e-12)


def test_more_chosen_experts_than_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and experts"):
        backbones.build("moce_ir", experts=2, chosen=3)


def test_measnet_router_without_noise_has_no_gradient_for_it() -> None:
    model = Case("measnet", {**CASES["measnet"].fields, "router_noise": False}).build().train()
    model(image(3, 64, 64, batch=2)).mean().backward()
    unused = {key for key, one in model.named_parameters() if one.grad is None}
    assert "stpg_g_mese1.model.w_n" in unused & set(model.unused)


@torch.no_grad()
def test_low_frequencies_are_a_box_that_grows_with_the_side() -> None:
    rows = torch.arange(256, dtype=torch.float64) * (2 * torch.pi / 256)
    slow, fast = torch.ones(256, 1, dtype=torch.float64), torch.cos(3 * rows)[:, None]  # frequencies 0 and 3
    x = (slow + fast).expand(1, 1, 256, 256)
    share = torch.tensor([[0.6, 0.6]])  # h = int(256 // 128 * 0.6) = 1
    high, low = split_spectrum(x, share)
    torch.testing.assert_close(low[0, 0], slow.expand(256, 256), rtol=0, atol=1e-12)
    torch.testing.assert_close(high[0, 0], fast.abs().expand(256, 256), rtol=0, atol=1e-12)
    assert not split_spectrum(x[:, :, :120, :120], share)[1].any()


FROZEN = [Case("anyir", {**ANYIR, "frozen_statistics": True}), Case("measnet", {**MEASNET, "frozen_statistics": True})]


@pytest.mark.parametrize("case", FROZEN, ids=lambda case: case.name)
def test_frozen_statistics_stay_and_give_row_gradients(case: Case) -> None:
    model = case.build(torch.float32).train()  # depthwise convolutions take ten times as long in float64
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x, sizes = image(3, 16, 16, batch=2).float(), [1, 1]

    def rows(engine: Engine) -> RowGradients:
        found = RowGradients(model, len(sizes), engine)
        found(lambda start, stop: model(x[start:stop]), sizes, lambda y, row: (y - row).abs().mean())
        return found

    grouped = rows("grouped")
    assert grouped.fallback is None
    streamed = rows("stream").buffer
    torch.testing.assert_close(grouped.buffer, streamed, rtol=0, atol=1e-4 * float(streamed.abs().max()))
    assert model.training and not model.couples_samples
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize(("side", "expected"), [(16, (4, 8, 16)), (13, (4, 7, 13)), (1, (1, 1, 1))])
def test_gridformer_rounds_the_sides_of_smaller_images_up(side: int, expected: tuple[int, int, int]) -> None:
    outputs = CASES["gridformer"].build()(image(3, side, 2 * side))
    assert tuple(y.shape[2] for y in outputs) == expected


def test_a_gridformer_with_another_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="one per row"):
        backbones.build("gridformer", blocks=[1, 1])


def test_a_new_kernel_box_holds_convolutions_of_the_usual_size() -> None:
    torch.manual_seed(0)
    box = HyperLevel(16, 1, 1, rows=5, width=16, expansion=2.0).kernel_box.detach()
    assert float(box[:, : 48 * 16].abs().max()) == pytest.approx(1 / 4, rel=0.01)  # 1x1, 16 inputs
    assert float(box[:, 48 * 16 : 48 * 25].abs().max()) == pytest.approx(1 / 3, rel=0.01)  # depthwise 3x3


def test_hair_of_a_width_without_24_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        backbones.build("hair", width=24)


@torch.no_grad()
def test_captnet_reads_the_prompts_of_the_decoder_alone() -> None:
    model = CASES["captnet"].build()
    x = image(3, 16, 16)
    before = model(x)
    model.encoders[3][0].attn.prompt += 1
    assert torch.equal(model(x), before)
    model.decoders[0][0].attn.prompt += 1
    assert not torch.allclose(model(x), before)


def test_a_captnet_of_three_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="4 numbers each, not 3 and 4"):
        backbones.build("captnet", encoder=[1, 1, 1])


@pytest.mark.parametrize(("name", "unread"), [("captnet", 7_808), ("dynet", 112_896)])
def test_unused_names_the_parameters_that_the_authors_never_read(name: str, unread: int) -> None:
    assert unused_of(meta(name)) == unread


@torch.no_grad()
def test_a_dynet_block_applied_twice_is_two_blocks_with_the_same_weights() -> None:
    once, twice = (Case("dynet", {**CASES["dynet"].fields, "reuse": [times, 1, 1, 1]}).build() for times in (1, 2))
    assert list(once.state_dict()) == list(twice.state_dict())
    x = image(3, 16, 16)
    once.encoder_level1 = torch.nn.Sequential(once.encoder_level1, once.encoder_level1)
    once.decoder_level1 = torch.nn.Sequential(once.decoder_level1, once.decoder_level1)
    torch.testing.assert_close(once(x), twice(x), rtol=1e-12, atol=1e-12)
