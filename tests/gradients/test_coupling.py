"""Networks that couple the samples of a batch are refused by name, with a remedy that works."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from torch import nn

from cmtl_ir.gradients.rows import Engine
from cmtl_ir.strategy.output import Output

from ..backbones.cases import CASES
from .cases import Step, assert_same_rows, both_engines, read


def coupled() -> Iterator[tuple[str, nn.Module, str]]:
    """Networks in train mode, and the module that their error must name."""
    yield "batch_norm", nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), "1"
    yield "inside", nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))), "0.0"
    yield "airnet", CASES["airnet"].build(), "E_pre.backbone.1"


@pytest.mark.error("training: a network that couples the samples of a batch")
@both_engines
@pytest.mark.parametrize(("model", "name"), [pair[1:] for pair in coupled()], ids=[pair[0] for pair in coupled()])
def test_train_mode_batch_norm_is_refused_and_the_error_says_which_and_how(
    model: nn.Module, name: str, engine: Engine
) -> None:
    step = Step(model.double().train(), [1, 1])
    with pytest.raises(
        ValueError, match=f"{re.escape(name)} .*couples the samples of a batch in train mode.*eval\\(\\)"
    ):
        step.rows(engine)


@both_engines
def test_the_way_out_that_the_error_names_works(engine: Engine) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).double().train()
    model.get_submodule("1").eval()
    step = Step(model, [2, 1])
    step.forward = lambda start, stop: Output.of(model(step.x[start:stop]))  # type: ignore[method-assign]
    assert_same_rows(read(step.rows(engine)), step.reference())


def test_batch_norm_without_statistics_couples_in_eval_mode_too() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).double().eval()
    with pytest.raises(ValueError, match="no running statistics"):
        Step(model, [1, 1]).rows("stream")
