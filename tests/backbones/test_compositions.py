"""Compositions: one network per task, and one encoder per task with a shared rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from cmtl_ir import backbones
from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.strategy.output import Output, output_of

from .cases import Case, image
from .test_golden import five_numbers

NAFNET = {"name": "nafnet", "width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1]}
SMALL = {"name": "nafnet", "width": 4, "encoder": [1], "middle": 1, "decoder": [1]}
NAMES = ("independent_networks", "own_encoders")
GOLDEN = {
    "independent_networks": (226065, 417, (-0.0509983922, 2.1377762399, -0.3523138012, 2.6584976362, -0.5026885125)),
    "own_encoders": (120043, 263, (-0.2405352360, 1.9089041854, -0.8573210546, -2.0555350197, 0.5606186176)),
}


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_size_and_output_are_those_of_independent_code(name: str) -> None:
    model = Case(name, {"of": NAFNET}).build().eval()
    parameters, entries, numbers = GOLDEN[name]
    assert sum(one.numel() for one in model.parameters()) == parameters
    assert len(model.state_dict()) == entries
    found = five_numbers(model(image(3, 64, 64), torch.tensor([1])))
    assert found == pytest.approx(numbers, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_is_restored_by_the_network_of_its_task(name: str) -> None:
    model = Case(name, {"of": SMALL}).build().eval()
    x, tasks = image(3, 12, 9, batch=3), torch.tensor([2, 0, 2])
    together = model(x, tasks)
    alone = torch.cat([model(x[i : i + 1], tasks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(model(x, torch.tensor([2, 1, 2]))[1], together[1])


@pytest.mark.parametrize("name", NAMES)
def test_row_gradients_of_both_engines_agree(name: str) -> None:
    model: Any = Case(name, {"of": SMALL}).build().train()
    x, tasks = image(3, 12, 8, batch=3), torch.tensor([0, 1, 2])

    def rows(engine: Engine) -> RowGradients:
        def forward(start: int, stop: int) -> Output:
            return output_of(model, model(x[start:stop], tasks[start:stop]))

        found = RowGradients(model, 3, engine)
        found(forward, [1, 1, 1], lambda output, row: output.restored.square().mean())
        return found

    grouped, streamed = rows("grouped"), rows("stream")
    assert grouped.fallback is None
    torch.testing.assert_close(grouped.buffer, streamed.buffer, rtol=1e-10, atol=1e-13)
    for number in range(3):
        names = [key for key, _ in model.named_parameters()]
        moved = {key for key, slot in zip(names, _slots(model, streamed.buffer[number]), strict=True) if slot.any()}
        others = [key for key in moved if key.startswith(("nets.", "heads.")) and key.split(".")[1] != str(number)]
        assert moved and not others


def _slots(model: torch.nn.Module, row: torch.Tensor) -> list[torch.Tensor]:
    return list(
        row[: sum(one.numel() for one in model.parameters())].split([one.numel() for one in model.parameters()])
    )


def test_a_copy_with_own_encoders_shares_nothing_with_its_original() -> None:
    model = Case("own_encoders", {"of": SMALL}).build()
    x, tasks = image(3, 8, 8), torch.tensor([1])
    before, copied = model(x, tasks), copy.deepcopy(model)
    assert torch.equal(copied(x, tasks), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(model(x, tasks), before) and torch.equal(copied(x, tasks), x)
    assert model.latent_module == "middle_blks"


def test_training_mode_reaches_the_networks_of_every_task() -> None:
    of = {"name": "moce_ir", "width": 8, "blocks": [1] * 4, "decoder_blocks": [1] * 3, "refinement_blocks": 1}
    own = ["patch_embed", "enc"]
    model: Any = backbones.build("own_encoders", of={**of, "experts": 2}, own=own, tasks=2).eval()
    assert [net.training for net in model.networks()] == [False, False]
    assert [net.training for net in model.train().networks()] == [True, True]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_or_unknown_task_is_refused(name: str) -> None:
    model = backbones.build(name, of=SMALL, tasks=2)
    with pytest.raises(ValueError, match="needs the task number of every image"):
        model(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"task numbers \[2\] for a composition of 2 tasks"):
        model(torch.zeros(1, 3, 8, 8), torch.tensor([2]))


@pytest.mark.error("backbone: parts that cannot be a task's own")
def test_parts_that_cannot_be_a_tasks_own_are_refused() -> None:
    with pytest.raises(ValueError, match="names direct submodules of nafnet: intro"):
        backbones.build("own_encoders", of=SMALL, own=["body"])
    with pytest.raises(ValueError, match="swinir has tensors outside of its submodules, such as mean"):
        backbones.build("own_encoders", of={"name": "swinir", "depths": [2], "heads": [6]}, own=["conv_first"])
