"""Properties of single networks among those of `test_golden_prompts_and_experts`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir import backbones
from cmtl_ir.backbones._measnet_bands import split_spectrum
from cmtl_ir.backbones.hair import HyperLevel
from cmtl_ir.backbones.instructir import keyed_instructions
from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.inference.profile import unused_of
from cmtl_ir.strategy.output import output_of

from .cases import CASES, Case, image, meta
from .test_golden_prompts_and_experts import ANYIR, MEASNET


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
        found(
            lambda start, stop: output_of(model, model(x[start:stop])),
            sizes,
            lambda output, row: (output.restored - row).abs().mean(),
        )
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
