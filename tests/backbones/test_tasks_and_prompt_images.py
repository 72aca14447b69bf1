"""Properties of single networks beyond those of all networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmtl_ir import backbones
from cmtl_ir.backbones._instance import AffineInstanceNorm, instance_norm
from cmtl_ir.backbones._tiles import Tiles
from cmtl_ir.backbones.msbdn import CollaborativeTransfer
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.making import objective_part
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output

from .cases import CASES, Case, image
from .test_golden_tasks_and_diffusion import IDR, MSBDN, PRORES, UTILITYIR


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


def test_affine_instance_norm_is_torchs_with_the_same_keys() -> None:
    ours, theirs = AffineInstanceNorm(5).double(), torch.nn.InstanceNorm2d(5, affine=True).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    values = {key: image(1, 1, 5, key=key).flatten() for key in ours.state_dict()}
    ours.load_state_dict(values)
    theirs.load_state_dict(values)
    x = image(5, 7, 6, batch=2)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_promptgip_hides_three_quarters_of_both_answers_by_the_image_alone() -> None:
    model = CASES["promptgip"].build()
    x, target = image(3, 16, 12, batch=2), image(3, 16, 12, batch=2, key="gt")
    answers, found = model.masked(x, target, torch.tensor([0, 1]))
    assert answers.shape == found["patches"].shape == found["truth"].shape == (2, 2, 3, 16, 16)
    assert found["hidden"].mean((1, 2, 3, 4)).tolist() == [0.75, 0.75]
    assert not torch.equal(*found["hidden"])
    assert not torch.equal(model.masked(x, target, keys=torch.arange(2))[1]["hidden"], found["hidden"])
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
    y, clean = Case("prores", PRORES).build().eval().network(image(3, 64, 64)), image(3, 64, 64, key="gt")
    objective = objective_part({"name": "smooth_l1", "beta": 0.01}, "")
    loss = objective.losses(Output.of(y), Batch("", torch.zeros(1), clean, clean), Constants(""))
    assert loss.item() == pytest.approx(0.7810728694, rel=1e-6)  # the objective is in float32


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
