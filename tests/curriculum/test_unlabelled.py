"""Rows of unlabelled images: losses without the truth by hand, their refusals, and the folders of `data.unlabelled`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cmtl_ir.base import keyed
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.strategies.curriculum import equivariant
from cmtl_ir.strategies.curriculum.equivariant import Equivariant
from cmtl_ir.strategies.curriculum.joint import Joint
from cmtl_ir.strategies.curriculum.noise2noise import Noise2noise
from cmtl_ir.strategies.curriculum.sure import Sure
from cmtl_ir.strategy.data import UNLABELLED, Batch
from cmtl_ir.strategy.output import Output
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.loop import train
from tests import tiny

OVER: dict[str, Any] = {
    "data": {"patch": 16, "labelled": 0.5},
    "training": {"steps": 4, "batch": 6, "clip": None},
    "conflict": {"every": 0},
}
NAMES = ("sure", "noise2noise", "equivariant")


def learner_of(name: str, training: dict[str, Any] | None = None, **fields: Any) -> Any:
    over = {**OVER, "training": {**OVER["training"], **(training or {})}}
    return tiny.learner({"curriculum": {"name": name, **fields}}, **over)


def moved(learner: Any) -> Tensor:
    """How far training moves the weights, flat."""
    before = tiny.weights(learner)
    train(learner, tiny.Silent())
    after = tiny.weights(learner)
    return torch.cat([(after[name] - before[name]).flatten() for name in before])


def restoring(learner: Any, network: Any) -> Any:
    """The learner with another network."""
    learner.restore = lambda batch, other=None: Output.of(network(batch.degraded))
    return learner


# ------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("a", [0.5, 0.9, 1.0])
def test_sure_of_a_linear_denoiser_has_its_analytic_divergence(a: float) -> None:
    """f(y) = a y has the divergence a P: R = (a - 1)^2 |y|^2 / P - sigma^2 + 2 a sigma^2."""
    learner = restoring(tiny.learner(), lambda y: a * y)
    noisy = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Batch("noise", torch.arange(3), noisy, torch.full_like(noisy, torch.nan))
    found = Sure(sigma=25.5, mask=False).without_truth("noise", learner)["loss"](Output.of(a * noisy), batch)
    expected = (a - 1) ** 2 * noisy.square().mean((1, 2, 3)) - 0.01 + 2 * a * 0.01
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-3)
    none = Sure(sigma=250.0).without_truth("noise", learner)["loss"](Output.of(a * noisy), batch)
    assert none.tolist() == [0, 0, 0]  # every pixel may have been clipped


def test_the_divergence_of_a_filter_is_its_central_weight() -> None:
    kernel = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
    network = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
    network.weight.data[:] = kernel
    learner, noisy = restoring(tiny.learner(), network), torch.full((16, 3, 64, 64), 0.5)
    batch = Batch("noise", torch.arange(16), noisy, noisy)
    loss = Sure(sigma=255.0, mask=False).without_truth("noise", learner)["loss"]
    with torch.no_grad():
        answer = network(noisy)
        divergence = (loss(Output.of(answer), batch) + 1 - (answer - noisy).square().mean((1, 2, 3))) / 2
    assert float(divergence.mean()) == pytest.approx(0.4, abs=4e-3)


def test_the_loss_of_noise2noise_is_the_error_and_the_variance_of_the_noise() -> None:
    """E loss = (a - 1)^2 Y + a^2 s^2 + s^2 for f(y) = a y, Y = 1/3, s = .1: .0214334 at a = .9."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.linspace(-1, 1, 100_000).view(1, 1, 1, -1)
    one, other = (clean + 0.1 * torch.randn(clean.shape, generator=generator) for _ in range(2))
    learner: Any = tiny.learner()
    learner.degrade_again = lambda batch, clean=None, images=None: other
    batch = Batch("noise", torch.arange(1), one, torch.full_like(one, torch.nan))
    loss = Noise2noise().without_truth("noise", learner)["loss"]
    assert loss(Output.of(0.9 * one), batch).item() == pytest.approx(0.0214334, rel=0.01)
    best = min((loss(Output.of(a * one), batch).item(), a) for a in (0.93, 0.95, 0.97, 0.99, 1.01))
    assert best[1] == 0.97  # Y / (Y + s^2) = .970874
    absolute = Noise2noise(norm="absolute").without_truth("noise", learner)["loss"]
    assert absolute(Output.of(other + 0.5), batch).item() == pytest.approx(0.5)


def test_a_second_draw_has_the_same_crop_and_strength_and_noise_of_its_own() -> None:
    learner = learner_of("noise2noise")
    batch = learner.batch("noise", torch.arange(8), UNLABELLED)
    truth = learner.task_of["noise"]._unlabelled.batch(batch.ids)
    again = learner.degrade_again(batch, images=UNLABELLED)
    assert torch.equal(again, learner.degrade_again(batch, images=UNLABELLED))
    one, other = (image - truth.clean for image in (truth.degraded, again))
    assert abs(float((one * other).mean())) < 0.05 * float(one.square().mean())
    assert float(other.square().mean()) == pytest.approx(float(one.square().mean()), rel=0.1)
    assert torch.equal(truth.degraded, batch.degraded) and bool(batch.clean.isnan().all())


@pytest.mark.parametrize("transform", ["symmetry", "shift"])
def test_an_idempotent_network_that_commutes_has_no_equivariant_loss(transform: Any) -> None:
    """A = identity: noise of strength 0 that is not rounded."""
    over = {**OVER, "tasks": {"noise": {"sigma": [0], "quantise": "none"}}}
    learner = tiny.learner({"curriculum": "equivariant"}, **over)
    batch = learner.batch("noise", torch.arange(4), UNLABELLED)
    view = Equivariant(transform=transform).without_truth("noise", learner)["view"]

    def loss(network: Any) -> Tensor:
        made = view(replace(batch, degraded=batch.degraded) if restoring(learner, network) else batch)
        return learner.sample_losses(Output.of(network(made.degraded)), made)

    assert float(loss(lambda x: x.clamp(min=0.3)).max()) < 1e-6
    slope = torch.linspace(0, 1, 16)
    assert float(loss(lambda x: x * slope).min()) > 0.01


def test_every_turn_changes_the_image_and_a_shift_is_circular() -> None:
    images, keys = torch.rand(40, 3, 8, 8), keyed.keys_of(0, torch.arange(40))
    turned, shifted = equivariant.turns(images, keys), equivariant.shifts(images, keys)
    assert len({int(n) for n in keyed.integers(keys, 1, 8)}) == 7
    assert not any(torch.equal(one, other) for one, other in zip(turned, images, strict=True))
    for moved_images in (turned, shifted):
        same = [one.flatten(1).sort().values for one in (moved_images[0], images[0])]
        assert torch.equal(*same)
    assert not torch.equal(shifted[0], shifted[1])


# ------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", NAMES)
def test_neutral_settings_are_the_stage_of_joint_training(name: str) -> None:
    for neutral in ({"share": 0.0}, {"weight": 0.0}):
        learner = learner_of(name, **neutral)
        assert learner.strategy.curriculum.next_stage(learner.history()) == Joint().next_stage(learner.history())


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_with_the_same_bits_and_the_truth_is_not_read(name: str) -> None:
    class Stop(tiny.Silent):
        def stepped(self, learner: Any, result: Any, rate: float) -> None:
            super().stepped(learner, result, rate)
            if learner.step == 2:
                raise KeyboardInterrupt

    whole, stopped, again = (learner_of(name) for _ in range(3))
    watcher = Stop()
    train(whole, tiny.Silent())
    with pytest.raises(KeyboardInterrupt):
        train(stopped, watcher)
    again.load_tree(stopped.tree())
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(again))
    rows = watcher.results[0].rows
    assert ("unlabelled:haze" in rows) == (name == "equivariant") and "unlabelled:noise" in rows
    assert all(bool(result.losses.isfinite().all()) for result in watcher.results)


@pytest.mark.parametrize("fields", [{"engine": "grouped"}, {"micro_batch": 1}])
def test_a_loss_that_runs_the_network_has_the_same_gradient_in_every_engine(fields: dict[str, Any]) -> None:
    plain = {"optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.0}, "steps": 1}
    joint = moved(learner_of("sure", plain, weight=30.0))
    learner = learner_of("sure", {**plain, **fields}, weight=30.0)
    if "engine" in fields:
        learner.strategy = learner.strategy.model_copy(update={"surgery": surgery()})
    found = moved(learner)
    assert float((found - joint).norm()) < 2e-3 * float(joint.norm())


def surgery() -> Any:
    """One that changes nothing, and asks for row gradients."""
    from cmtl_ir.strategy.parts import Surgery

    class Nothing(Surgery):
        def weights(self, gramian: Tensor, losses: Tensor, context: Any) -> Tensor:
            return torch.full((len(losses),), 1.0 / len(losses), dtype=torch.float64)

    return Nothing()


def test_without_labelled_rows_a_network_learns_from_noise_alone() -> None:
    learner = learner_of("noise2noise", share=1.0, weight=1.0)
    watcher = tiny.Silent()
    train(learner, watcher)
    assert watcher.results[0].rows == ["unlabelled:noise"] and bool(watcher.results[-1].losses.isfinite().all())


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.error("strategy: {name} for tasks that it is not meant for")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sure", "rain has the degradation rain_streaks, which is not Gaussian noise; leave it out of `tasks`"),
        ("noise2noise", "rain has the degradation rain_streaks, which is not noise of mean zero"),
    ],
)
def test_a_loss_is_refused_for_tasks_that_it_is_not_meant_for(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"curriculum {name}: {said}"):
        train(learner_of(name, tasks=["rain"]), tiny.Silent())
    learner = tiny.learner({"curriculum": name}, **{**OVER, "tasks": {"noise": None}})
    with pytest.raises(ConfigError, match=f"curriculum {name}: no task of this run adds"):
        train(learner, tiny.Silent())
    with pytest.raises(UserError, match="names the unknown task 'rainy'"):
        tiny.experiment({"one": {"curriculum": {"name": name, "tasks": ["rainy"]}}})


@pytest.mark.error("strategy: {name} while all images are labelled")
@pytest.mark.parametrize("name", NAMES)
def test_without_unlabelled_images_it_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"curriculum {name}: task noise has no unlabelled images"):
        train(tiny.learner({"curriculum": {"name": name, "tasks": ["noise"]}}), tiny.Silent())


# ----------------------------------------------------------------------------------------------- data.unlabelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("noisy")
    for number in range(3):
        pixels = torch.randint(0, 256, (40, 40, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(made / f"{number}.png")
    return made


def with_folder(folder: Path, curriculum: Any, task: str = "noise") -> Any:
    over = {**OVER, "data": {"patch": 16, "unlabelled": {task: str(folder)}}}
    return tiny.learner({"curriculum": curriculum}, **over)


def test_the_images_of_a_folder_are_degraded_already(folder: Path) -> None:
    learner = with_folder(folder, {"name": "sure", "tasks": ["noise"]})
    task, plain = learner.task_of["noise"], tiny.learner({}, **{**OVER, "data": {"patch": 16}}).task_of
    assert len(task.splits.train) == len(plain["noise"].splits.train) and len(task.splits.unlabelled) == 3
    assert task.digest != plain["noise"].digest and learner.task_of["rain"].digest == plain["rain"].digest
    batch = learner.batch("noise", torch.arange(5), UNLABELLED)
    images = [torch.tensor(list(Image.open(one).tobytes())).view(40, 40, 3) for one in sorted(folder.iterdir())]
    colours = {tuple(pixel) for image in images for pixel in image.view(-1, 3).tolist()}
    found = (batch.degraded * 255).round().permute(0, 2, 3, 1).reshape(-1, 3).int().tolist()
    assert {tuple(pixel) for pixel in found} <= colours and bool(batch.clean.isnan().all())
    watcher = tiny.Silent()
    train(learner, watcher)
    assert "unlabelled:noise" in watcher.results[0].rows
    teacher = with_folder(folder, {"name": "mean_teacher", "ids": 4}, task="noise")
    with pytest.raises(ConfigError, match="mean_teacher: task rain has no unlabelled images"):
        train(teacher, tiny.Silent())


@pytest.mark.error("data: folders of data.unlabelled that cannot be used")
def test_folders_that_cannot_be_used_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        with_folder(tmp_path / "nowhere", "joint")
    with pytest.raises(DataError, match=r"data\.unlabelled names the unknown task 'noisy'"):
        with_folder(folder, "joint", task="noisy")
    made = tiny.experiment(data={"patch": 64, "unlabelled": {"noise": str(folder)}})
    with pytest.raises(DataError, match=r"training images smaller than a crop of 64x64: 0\.png"):
        build_tasks(made.tasks, made.data, 0, torch.device("cpu"))
    for other, said in (({"labelled": 0.5}, "labelled and unlabelled"), ({}, "the embedded photographs are clean")):
        given = str(folder) if other else "embedded"
        with pytest.raises(UserError, match=said):
            tiny.experiment(data={"unlabelled": {"noise": given}, **other})
    learner = with_folder(folder, {"name": "noise2noise", "tasks": ["noise"]})
    with pytest.raises(ConfigError, match=r"curriculum noise2noise: task noise: .*cannot be degraded once more"):
        train(learner, tiny.Silent())
