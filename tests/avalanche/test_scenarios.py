"""Tasks of this package under Avalanche's strategies, and Avalanche's streams in the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.reading import validate
from cmtl_ir.strategies.guests.avalanche import from_avalanche, to_avalanche
from cmtl_ir.strategies.guests.avalanche._library import library
from cmtl_ir.strategies.guests.avalanche._samples import labelled
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny

SAMPLES = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    made = tiny.experiment(tasks={"haze": None})
    return build_tasks(made.tasks, made.data, 0, CPU)


@pytest.fixture(scope="module")
def scenario(tasks: dict[str, Task]) -> Any:
    return to_avalanche(tasks, SAMPLES)


def test_an_experience_holds_the_first_samples_of_its_task(scenario: Any, tasks: dict[str, Task]) -> None:
    assert [len(experience.dataset) for experience in scenario.train_stream] == [SAMPLES] * 2
    for number, (experience, task) in enumerate(zip(scenario.train_stream, tasks.values(), strict=True)):
        batch = task.batch(torch.arange(SAMPLES))
        for n, (degraded, clean, label) in enumerate(experience.dataset):
            assert torch.equal(degraded, batch.degraded[n]) and torch.equal(clean, batch.clean[n]) and label == number
    for experience, task in zip(scenario.test_stream, tasks.values(), strict=True):
        wanted = list(task.test_samples())
        assert len(experience.dataset) == len(wanted)
        assert torch.equal(experience.dataset[0][0], wanted[0].degraded[0])


def test_without_a_number_there_is_a_sample_for_every_image(tasks: dict[str, Task]) -> None:
    made = to_avalanche(tasks)
    assert [len(one.dataset) for one in made.train_stream] == [task.size for task in tasks.values()]


@pytest.mark.parametrize("name", ["Naive", "Replay"])
def test_avalanche_s_own_strategies_train_on_it(name: str, scenario: Any) -> None:
    training, plugins = library("avalanche.training"), library("avalanche.training.plugins")
    fields = {key: value for key, value in tiny.RAW["backbone"].items() if key != "name"}
    model = backbones.build("nafnet", **fields)
    seen: list[set[int]] = []

    class Labels(plugins.SupervisedPlugin):  # type: ignore[misc,name-defined]
        def after_forward(self, strategy: Any, **_: Any) -> None:
            seen.append(set(strategy.mb_task_id.tolist()))

    extra = {"mem_size": 4} if name == "Replay" else {}
    run = getattr(training, name)(
        model=model, optimizer=torch.optim.Adam(model.parameters(), 4e-3), criterion=nn.L1Loss(), train_mb_size=4,
        train_epochs=4, eval_mb_size=1, evaluator=plugins.EvaluationPlugin(), plugins=[Labels()], **extra,
    )  # fmt: skip
    losses = [_loss(model, scenario, 0)]
    for experience in scenario.train_stream:
        run.train(experience)
        losses.append(_loss(model, scenario, experience.current_experience))
    assert losses[1] < losses[0]  # what it trained, it learnt
    assert any(labels == {0, 1} for labels in seen) == (name == "Replay")
    run.eval(scenario.test_stream)


@torch.no_grad()
def _loss(model: nn.Module, scenario: Any, number: int) -> float:
    samples = list(scenario.train_stream[number].dataset)
    degraded, clean = (torch.stack([one[side] for one in samples]) for side in (0, 1))
    return (model(degraded) - clean).abs().mean().item()


def learner_on(tasks: dict[str, Any], **overrides: Any) -> Learner:
    """A learner on tasks that `from_avalanche` named."""
    strategies = {"one": {"curriculum": "sequential", "retention": {"name": "replay", "capacity": 8}}}
    made = validate({**tiny.RAW, "tasks": tasks, "strategies": strategies, **overrides}, "a stream")
    return Learner(made, made.strategies["one"], build_tasks(made.tasks, made.data, 0, CPU), 0, CPU)


def test_a_stream_of_pairs_becomes_tasks_that_our_loop_trains(scenario: Any, tmp_path: Path) -> None:
    made = from_avalanche(scenario, tmp_path, names=["noise"])
    assert list(made) == ["noise", "experience_1"]
    assert set(made["noise"]) == {"input", "target", "test"}
    learner, watcher = learner_on(made), tiny.Silent()
    for number, task in enumerate(learner.task_of.values()):
        store = task.splits.train
        assert len(store) == SAMPLES
        wanted = [np.asarray(one) * 255 for one in scenario.train_stream[number].dataset[3][:2]]
        for found, expected in zip(store.pair(3), wanted, strict=True):
            assert np.abs(found.transpose(2, 0, 1) - expected).max() <= 0.5 + 1e-3  # 8 bits
        assert len(list(task.test_samples())) == len(scenario.test_stream[number].dataset)
    train(learner, watcher)
    assert learner.step == 12 and watcher.results[-1].rows == ["experience_1", "memory:noise"]


def of_labels(images: list[Any]) -> Any:
    """A stream of one experience of images with class labels."""
    return library("avalanche.benchmarks").benchmark_from_datasets(
        train=[labelled([(image, n % 3) for n, image in enumerate(images)], 0, "image")]
    )


def test_a_stream_of_labelled_images_needs_a_degradation(tmp_path: Path) -> None:
    from PIL import Image

    grey = [torch.rand(1, 20, 20) for _ in range(4)]
    with pytest.raises(ConfigError, match=r"experience_0: its targets are not images.*degradation"):
        from_avalanche(of_labels(grey), tmp_path / "none")
    made = from_avalanche(of_labels(grey), tmp_path / "grey", degradation={"degradation": "gaussian_noise"})
    assert set(made["experience_0"]) == {"degradation", "clean"}
    made["experience_0"]["test"] = {"clean": made["experience_0"]["clean"]}
    learner = learner_on(made)
    train(learner, tiny.Silent())
    assert learner.step == 12
    pictures = [Image.new("RGB", (20, 20), (n, 100, 255)) for n in range(4)]
    made = from_avalanche(of_labels(pictures), tmp_path / "rgb", degradation={"degradation": "haze"})
    store = learner_on({"sky": made["experience_0"]}).task_of["sky"].splits.train
    pixels = [store.image(n)[0, 0].tolist() for n in range(len(store))]  # one of the four is held out for testing
    assert len(pixels) == 3 and all(pixel in [[n, 100, 255] for n in range(4)] for pixel in pixels)


def test_a_stream_of_normalised_images_is_refused(tmp_path: Path) -> None:
    images = [torch.randn(3, 20, 20) for _ in range(2)]
    with pytest.raises(ConfigError, match=r"are not an image in \[0, 1\]; leave normalisation out"):
        from_avalanche(of_labels(images), tmp_path, degradation={"degradation": "haze"})
