"""IPT with several tasks, and its division into tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.backbones._quarter_tiles import tiled
from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.strategy.output import output_of

from .cases import Case, image

FIELDS: dict[str, Any] = {"features": 4, "image_size": 12, "heads": 2, "layers": 1, "value_range": 1.0}


def three_tasks(scales: list[int] | None = None) -> Any:
    return Case("ipt", {**FIELDS, "tasks": 3, "scales": scales}).build()


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(12, 12), (12, 13), (15, 14), (17, 40), (31, 26)])
def test_tiles_of_the_identity_are_the_image(height: int, width: int, scale: int) -> None:
    def enlarged(x: Tensor) -> Tensor:
        return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    x = image(3, height, width, batch=2)
    y = tiled(lambda tiles, each: enlarged(tiles), x, 12, scale)
    torch.testing.assert_close(y, enlarged(x), rtol=1e-14, atol=1e-14)


@torch.no_grad()
def test_tiles_in_parts_are_tiles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = three_tasks(), image(3, 20, 25, batch=3)
    task = torch.tensor([1, 0, 2])
    at_once = model(x, task)
    monkeypatch.setattr("cmtl_ir.backbones._quarter_tiles.TILES", 7)  # two tiles of three images
    torch.testing.assert_close(model(x, task), at_once, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_mixed_batch_restores_every_image_by_its_task() -> None:
    model, x = three_tasks(), image(3, 14, 12, batch=4)
    task = torch.tensor([2, 0, 2, 1])
    together = model(x, task)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], model(x[i : i + 1], task[i : i + 1]), rtol=1e-11, atol=1e-11)
    assert not torch.allclose(model(x[:1], torch.tensor([1])), together[:1])


def test_absent_tasks_get_no_gradient() -> None:
    model = three_tasks().train()
    model(image(3, 12, 12, batch=2), torch.tensor([1, 1])).mean().backward()
    without = {key.rsplit(".", 1)[0][:6] for key, value in model.named_parameters() if value.grad is None}
    assert without == {"sub_me", "add_me", "head.0", "head.2", "tail.0", "tail.2"}


def test_row_gradients_of_several_tasks_come_from_one_joint_pass() -> None:
    model, x = three_tasks().train(), image(3, 14, 12, batch=4)
    tasks, sizes = torch.tensor([0, 2, 2, 1]), [1, 2, 1]

    def rows(engine: Engine) -> RowGradients:
        found = RowGradients(model, len(sizes), engine)
        found(
            lambda start, stop: output_of(model, model(x[start:stop], tasks[start:stop])),
            sizes,
            lambda output, row: (output.restored - row).abs().mean(),
        )
        return found

    grouped = rows("grouped")
    assert grouped.fallback is None
    torch.testing.assert_close(grouped.buffer, rows("stream").buffer, rtol=1e-9, atol=1e-12)


def test_task_numbers_are_checked() -> None:
    model, x = three_tasks([1, 1, 2]), image(3, 12, 12, batch=2)
    with pytest.raises(ValueError, match="task number of every image"):
        model(x)
    with pytest.raises(ValueError, match=r"\[0, 3\] for a network of 3 tasks"):
        model(x, torch.tensor([3, 0]))
    with pytest.raises(ValueError, match="one scale"):
        model(x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="1 numbers for 2 tasks"):
        Case("ipt", {**FIELDS, "tasks": 2, "scales": [1]}).build()
    with pytest.raises(ValueError, match="multiple of patch"):
        Case("ipt", {**FIELDS, "image_size": 13}).build()
