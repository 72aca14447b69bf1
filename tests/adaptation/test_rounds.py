"""An episodic adapter answers each image alike whatever came before it; the trained network is never changed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from cmtl_ir.adaptation.naming import adapter_from, columns_of
from cmtl_ir.adaptation.rounds import Given, Session, answers, keyed_order
from cmtl_ir.adaptation.subject import Choice, Grouped
from cmtl_ir.adaptation.working import WorkingCopy
from cmtl_ir.base.errors import UserError
from cmtl_ir.grouping.router import Routing
from tests import tiny
from tests.adaptation.cases import ALL, CPU, QUICK, Mixing, image, subject

OWN = f"{Path(__file__).parent / 'own.py'}:Brightness"
MOVING = [name for name in ALL if name not in ("self_ensemble", "chain:decide=fixed")]
FOLDER = [
    Given(f"{height}x{width}.png", image(height, width, height)) for height, width in ((20, 28), (31, 17), (9, 150))
]
"""Three sizes. With a tile of 128 two images are smaller than a tile, and one takes two tiles."""


def written(name: str, *fields: str) -> str:
    """An adapter as on the command line, with little to prepare."""
    given = [*fields, *([QUICK[name]] if name in QUICK else [])]
    return f"{name}:{','.join(given)}" if given else name


def session(text: str, model: torch.nn.Module | None = None, said: list[str] | None = None) -> Session:
    told = said if said is not None else []
    return Session(adapter_from(text), subject(model or Mixing(), tile=128), told.append)


def plain(model: torch.nn.Module | None = None) -> list[torch.Tensor]:
    return [one.restored for one in answers(session("none", model), FOLDER, 1)]


@pytest.mark.parametrize("zero", ["steps=0", "rate=0"])
@pytest.mark.parametrize("name", MOVING)
def test_without_steps_or_rate_every_answer_is_that_of_none(name: str, zero: str) -> None:
    found = list(answers(session(written(name, zero)), FOLDER, 1))
    expected = plain()
    assert all(torch.equal(one.restored, expected[one.place]) and (one.drift, one.moved) == (0, 0) for one in found)


@pytest.mark.parametrize("name", [name for name in ALL if adapter_from(name).reads == "image"])
def test_an_episodic_adapter_does_not_know_the_order(name: str) -> None:
    model, fields = Mixing(), ["rate=1e-3", "steps=2"] if name in MOVING else []
    before, none_before = copy.deepcopy(model.state_dict()), plain(model)
    working = session(written(name, *fields), model)
    forward = [one.restored for one in answers(working, FOLDER, 1)]
    backward = [one.restored for one in answers(working, FOLDER[::-1], 1)][::-1]
    alone = [next(iter(answers(working, [given], 1))).restored for given in FOLDER]
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(forward, backward, alone, strict=True))
    assert [one.shape for one in forward] == [given.degraded.shape for given in FOLDER]
    assert not torch.equal(forward[0], none_before[0]), "it does something"
    assert tiny.same(model.state_dict(), before)
    assert all(torch.equal(a, b) for a, b in zip(plain(model), none_before, strict=True))


@pytest.mark.parametrize("name", ["norm_sam", "teacher_restore"])
def test_an_online_adapter_starts_each_order_from_the_trained_weights(name: str) -> None:
    model = Mixing()
    before = copy.deepcopy(model.state_dict())
    found = list(
        answers(session(written(name, "rate=1e-3", *(["drop=1e9"] if name == "norm_sam" else [])), model), FOLDER, 3)
    )
    assert [(one.order, one.place) for one in found] == [(o, p) for o in range(3) for p in keyed_order(3, 0, o)]
    assert len({tuple(keyed_order(3, 0, order)) for order in range(3)}) > 1
    again = list(
        answers(session(written(name, "rate=1e-3", *(["drop=1e9"] if name == "norm_sam" else [])), model), FOLDER, 3)
    )
    assert all(torch.equal(a.restored, b.restored) for a, b in zip(found, again, strict=True))
    last = max((one for one in found if one.order == 0), key=lambda one: keyed_order(3, 0, 0).index(one.place))
    (alone,) = answers(session(written(name, "rate=1e-3"), model), [FOLDER[last.place]], 1)
    assert not torch.equal(last.restored, alone.restored), "the weights go on from image to image"
    assert tiny.same(model.state_dict(), before) and all(0 < one.moved <= 1 and one.drift > 0 for one in found)


def test_an_adapter_of_two_passes_has_seen_the_folder_before_it_answers() -> None:
    found = list(answers(session(f"{OWN}:factor=0.01"), FOLDER, 3))
    means = [given.degraded.mean().item() for given in FOLDER]
    assert [one.place for one in found] == keyed_order(3, 0, 0)
    first, expected = found[0], plain()
    assert torch.allclose(first.restored, (expected[first.place] + 0.01 * sum(means)).clamp(0, 1), atol=1e-6)
    (one,) = answers(session(f"{OWN}:factor=0.01"), FOLDER[:1], 3)
    assert torch.equal(one.restored, (expected[0] + 0.01 * means[0]).clamp(0, 1)), "a folder of one image"


def test_a_working_copy_is_set_back_bit_by_bit() -> None:
    working = WorkingCopy(Mixing())
    with torch.no_grad():
        working.network.get_parameter("conv.bias").add_(1.0)
    drift, moved = working.drift()
    length = sum(float(one.detach().double().square().sum()) for one in Mixing().parameters()) ** 0.5
    assert drift == pytest.approx(3**0.5 / length, rel=1e-5) and moved == pytest.approx(3 / 90) and not working.intact()
    working.reset()
    assert working.intact() and working.drift() == (0, 0)


# --------------------------------------------------------------------------------------------------- names


def test_adapters_are_named_with_fields_and_from_files() -> None:
    named = adapter_from("consistency:steps=3,params=['conv.*', norm.bias],target=renewed")
    assert (named.called, named.steps, named.params) == ("consistency", 3, ["conv.*", "norm.bias"])  # type: ignore[attr-defined]
    assert adapter_from(f"{OWN}:factor=2").factor == 2  # type: ignore[attr-defined]
    assert list(columns_of(["sure:sigma=15", "none"])) == ["none", "self_ensemble", "sure:sigma=15"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("consistensy", "unknown adaptation 'consistensy'.*consistency"),
        ("consistency:step=3", r"step\b.*steps"),
        ("consistency:steps", "expected NAME:field=value"),
        ("consistency:steps=-1", "greater than or equal to 0"),
        ("", "expected NAME"),
        (f"{OWN}x", "has no class 'Brightnessx'"),
    ],
)
def test_a_mistake_in_a_name_is_an_error_that_says_so(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapter_from(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("consistency:params=[nothing.*]", "no parameter of the network has such a name"),
        ("chain", "needs a classifier.*decide=fixed"),
        ("redegrade:degradation=routed,fisher=0", "needs a classifier.*degradation=all"),
        ("redegrade:degradation=given,fisher=0", "name it with --task"),
    ],
)
def test_what_a_network_cannot_give_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        list(answers(session(text), FOLDER[:1], 1))


# -------------------------------------------------------------------------------------------------- grouped


class TwoGroups:
    """A grouped run of noise and rain; images brighter than a half are nearest to rain."""

    blind, tasks = True, ["noise", "rain"]
    groups = [{"tasks": ["noise"], "serves": ["noise"]}, {"tasks": ["rain"], "serves": ["rain"]}]  # noqa: RUF012

    def __init__(self) -> None:
        self.models = [Mixing(), Mixing()]
        with torch.no_grad():
            self.models[1].get_parameter("conv.bias").add_(0.5)
        self.router = self

    def model(self, group: int) -> torch.nn.Module:
        return self.models[group].eval()

    def query(self, degraded: torch.Tensor) -> torch.Tensor:
        return degraded.mean()

    def distances(self, query: torch.Tensor) -> dict[str, float]:
        return {"noise": 1.0, "rain": 3.0 if query < 0.5 else 0.5}

    def routed(self, distances: dict[str, float]) -> Routing:
        nearest = min(distances, key=distances.__getitem__)
        return Routing(nearest, distances[nearest], {self.tasks.index(nearest): 1.0}, False)

    def find(self, degraded: torch.Tensor) -> Routing:
        return self.routed(self.distances(self.query(degraded)))

    def told(self, task: str) -> Routing:
        return Routing(task, float("nan"), {self.tasks.index(task): 1.0}, False)


def test_a_grouped_run_adapts_the_network_that_the_image_is_sent_to() -> None:
    model = TwoGroups()
    of_run = Grouped(model, subject(Mixing()).origin, 128, CPU, told=True)  # type: ignore[arg-type]
    dark, bright = image() * 0.5, image() * 0.5 + 0.5
    assert [of_run.choose(one, None).key for one in (dark, bright)] == [0, 1]
    assert of_run.choose(dark, "rain") == Choice(1, model.models[1], 0)
    assert of_run.classify(model.models[0], dark, 0) == pytest.approx({"noise": 0.9, "rain": 0.1})
    model.distances = lambda query: {"noise": float("inf"), "rain": float("inf")}  # type: ignore[method-assign]
    assert of_run.classify(model.models[0], dark, 0) == {"noise": 0.0, "rain": 0.0}
    del model.distances  # type: ignore[method-assign]
    working = Session(adapter_from("consistency:rate=1e-3,steps=1"), of_run, print)
    found = [working.answer(Given("a", one)).restored for one in (dark, bright, dark)]
    assert torch.equal(found[0], found[2])
    chained = Session(adapter_from("chain:rounds=1"), of_run, print).answer(Given("a", bright)).restored
    assert torch.allclose(chained, model.models[1](bright, torch.zeros(1)).clamp(0, 1), atol=1e-6)
