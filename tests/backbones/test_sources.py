"""Output of `list` and `describe` for each network."""

from __future__ import annotations

import pytest
import torch

from cmtl_ir import backbones
from cmtl_ir.backbones.sources import PROTOTYPES, SOURCES
from cmtl_ir.config import catalogue

from .cases import CASES, Case, image

OPTIONAL = {"srresnet": "srresnet_explicit"}
"""Networks that read the task number in one of their settings only, and a case of that setting."""
ALIKE = {"ipt": {"tasks": 3}, "wgws": {"tasks": 4, "stage": 2}}


def test_every_network_has_an_entry_and_every_prototype_a_member() -> None:
    assert set(SOURCES) == set(backbones.shipped())
    assert {source.prototype for source in SOURCES.values()} == set(PROTOTYPES)


@torch.no_grad()
@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_a_network_reads_the_task_number_if_and_only_if_its_entry_says_so(name: str) -> None:
    case = CASES[OPTIONAL.get(name, name)]
    model = Case(name, case.fields | ALIKE.get(name, {})).shared()
    x = image(3, 16, 16)
    first, second = (_as_tensor(model(x, torch.tensor([number]))) for number in (0, 1))
    assert torch.equal(first, second) != SOURCES[name].beside.startswith("the task number")


def _as_tensor(returned: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    return returned if isinstance(returned, torch.Tensor) else returned[-1]


def test_list_shows_the_prototype_and_describe_the_facts() -> None:
    assert catalogue.matching("nafn*")["backbone"]["nafnet"].startswith("(c) Simple Baselines")
    facts = catalogue.describe("moce_ir").facts
    for part in ("25,353,796", "prototype (f): a mixture of experts", "Apache-2.0", "multiple of: 8"):
        assert part in facts
    assert catalogue.describe("pcgrad").facts == ""
    assert "a composition" in catalogue.describe("own_encoders").facts


@pytest.mark.parametrize("name", backbones.shipped())
def test_the_size_of_every_network_is_described_without_its_weights(name: str) -> None:
    state = torch.random.get_rng_state()
    assert catalogue.describe(name).facts.startswith("parameters with the default fields: ")
    assert torch.equal(state, torch.random.get_rng_state())
