"""`training.loss`: accepted and refused objectives, and how they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.experiment import TrainingConfig
from cmtl_ir.config.reading import validate
from cmtl_ir.strategy import registry
from cmtl_ir.training.loop import train
from tests import tiny

NAMES = registry.names("objective")
OWN = """
from cmtl_ir.strategy import Objective
from cmtl_ir.strategy.objective import Objective as Same

assert Same is Objective


class Mine(Objective):
    power: float = 1.0

    def losses(self, output, batch, constants):
        return (output.restored - batch.clean).abs().pow(self.power).mean((1, 2, 3))


class Latent(Objective):
    needs = frozenset({"output", "latent"})
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_is_registered_under_its_own_name_and_explains_itself(name: str) -> None:
    cls: Any = registry.load("objective", name)
    assert registry.snake_case(cls.__name__) == name
    assert cls.__doc__ and len(cls.__doc__.splitlines()[0]) < 120 and cls.__doc__.splitlines()[0].endswith(".")
    assert all(field.description for field in cls.model_fields.values())


BASE = [name for name in NAMES if registry.load("objective", name).needs == {"output"}]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BASE)
def test_every_objective_on_images_trains_as_base_objective(name: str) -> None:
    fields = {"ms_ssim": {"scales": 1}}.get(name, {})
    learner, watcher = tiny.learner(training={"loss": {"name": name, **fields}, "steps": 4}), tiny.Silent()
    train(learner, watcher)
    assert all(bool(torch.isfinite(value).all()) for value in learner.model.state_dict().values())
    assert len({tuple(result.losses.tolist()) for result in watcher.results}) == 4


def test_an_objective_without_fields_is_stored_as_its_bare_name_and_read_again() -> None:
    assert TrainingConfig(loss={"name": "psnr"}).model_dump()["loss"] == "psnr"
    stored = tiny.experiment(training={"loss": "frequency"}).resolved()
    assert stored["training"]["loss"] == {"name": "frequency", "norm": "backward"}
    assert validate(stored, "again").resolved() == stored


@pytest.mark.error("objective: no base objective")
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("l2", r"training\.loss: unknown objective 'l2': did you mean l1\?"),
        ({"name": "l1", "weight": 0.5}, "weight: read under auxiliary only"),
        ({"name": "l1", "from": 0.5}, "from: read under auxiliary only"),
        ({"name": "frequency", "norm": "none"}, "norm"),
    ],
)
def test_what_is_no_base_objective_is_refused_by_name(loss: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.experiment(training={"loss": loss})


@pytest.mark.error("objective: an own class that is no base objective")
def test_an_objective_of_ones_own_file(tmp_path: Path) -> None:
    file = tmp_path / "my_loss.py"
    file.write_text(OWN)
    ends = []
    for loss in ("l1", f"{file}:Mine", {"name": f"{file}:Mine", "power": 2.0}):
        learner = tiny.learner(training={"loss": loss, "steps": 2})
        train(learner, tiny.Silent())
        ends.append(tiny.weights(learner))
    assert tiny.same(ends[0], ends[1]) and not tiny.same(ends[0], ends[2])
    with pytest.raises(ConfigError, match="Latent needs latent; it can only be listed in auxiliary"):
        tiny.experiment(training={"loss": f"{file}:Latent"})
