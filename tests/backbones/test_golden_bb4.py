"""Outputs, sizes and keys of the authors' own classes (float64, weights by rule), to the last printed digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.backbones._instance import instance_norm

from .cases import Case, image
from .test_golden import five_numbers

Run = Callable[[Any, Tensor], Tensor]


class Row(NamedTuple):
    """A network, what it is shown, and mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1] of its output."""

    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]
    run: Run = lambda model, x: model(x)
    scaled: tuple[str, float] = ("", 1.0)
    """A part of parameter names, and a factor: at full strength the rule's weights make some networks chaotic."""


def of_task(number: int) -> Run:
    """Restore an image of that task."""
    return lambda model, x: model(x, torch.tensor([number]))


WGWS = {"base": 8, "stage": 2}
TENTH = ("_residual", 0.1)


def raw_head(number: int) -> Run:
    """The tanh of that head of BIDeN."""
    return lambda model, x: 2 * model(x, torch.tensor([number])) - 1


BIDEN = {"features": 8, "tasks": 3}

# fmt: off
QUICK = [
    Row("biden", BIDEN, (3, 64, 64), (0.2029524538, 0.4675571523, 0.5972712617, 0.2114052529, -0.4327564092), raw_head(0)),  # noqa: E501
    Row("biden", BIDEN, (3, 64, 96), (0.0747137129, 0.6002960629, -0.8173718384, 0.6108081297, 0.9813771632), raw_head(2)),  # noqa: E501
    Row("wgws", {"base": 8}, (3, 64, 64), (22.8277201120, 104.7788803196, 0.8596141587, 14.1547093076, -3.1414299043)),
    Row("wgws", {"base": 8}, (3, 96, 80), (24.7221948232, 111.4879506443, -1.9655882783, 25.5803381134, -9.0761216091)),
    Row("wgws", WGWS, (3, 64, 64), (12.8270991898, 55.0122167095, -1.3289824283, 6.8758864849, -6.8875028742), of_task(0), TENTH),  # noqa: E501
    Row("wgws", WGWS, (3, 64, 64), (12.6563289310, 54.8305417226, 0.1045167694, 0.5567824770, -5.1638306823), of_task(1), TENTH),  # noqa: E501
    Row("wgws", WGWS, (3, 64, 64), (10.5013491120, 48.7984127588, 0.0433791316, -0.4274573854, -3.5674152305), scaled=TENTH),  # noqa: E501
    Row("wgws", {**WGWS, "residual_kernel": 3}, (3, 64, 64), (31.0142042083, 106.7650605741, 3.4153447061, 38.4917936988, -11.2801253143), of_task(2), TENTH),  # noqa: E501
]
SLOW: list[Row] = []

SIZES: list[tuple[str, dict[str, Any], int, int]] = [
    ("biden", {}, 33_908_224 + 6 * 575_363, 135 + 6 * 12),
    ("biden", {"discriminator": True}, 33_908_224 + 6 * 575_363 + 3_030_471, 135 + 6 * 12 + 17),
    ("biden", {"features": 8, "tasks": 3}, 568_345, 171),
    ("wgws", {}, 4_988_895, 340),
    ("wgws", {"base": 20}, 6_158_077, 340),
    ("wgws", {"base": 24}, 8_865_357, 340),
    ("wgws", {"base": 8}, 987_565, 340),
    ("wgws", {"stage": 2}, 7_575_354, 1180),
    ("wgws", {"base": 20, "stage": 2}, 9_351_964, 1180),
    ("wgws", {"stage": 2, "residual_kernel": 3}, 19_772_658, 1180),
    ("wgws", {"base": 20, "stage": 2, "residual_kernel": 3}, 24_409_804, 1180),
]
# fmt: on

# Keys in the notation of a shell: {a,b} is either, {0..2} a number.
BOTH = "{weight,bias}"
WGWS_CONVS = (
    "{{Encoder,Decoder}.{0..2}.layer{1..6}.{conv0.conv,conv1.conv,conv2.conv,LFF},feat_extract.{0,1,2,5},"
    "Convs.{0,1},AFFs.{0..2}.conv{1,2},FAM{1,2}.merge,SCM{1,2}.{layer{1..4},conv}}.layer."
)
KEYS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "biden",
        {"discriminator": True},
        [
            "netE.model1.{{1,4,8}.{weight,bias},{7,11}.filt,{12..20}.conv_block.{1,5}.{weight,bias}}",
            "netE.model2.{{1,4,8,12,15,27}.{weight,bias},{7,11}.filt,{18..26}.conv_block.{1,5}.{weight,bias}}",
            "netE.model3.{{0,13}.{weight,bias},3.filt,{4..12}.conv_block.{1,5}.{weight,bias}}",
            "netH{1..6}.model.{{0,3,7,11,15}.{weight,bias},{6,10}.filt}",
            "netD.{model.{{0,3,7,11}.{weight,bias},{2,6,10}.filt},model2.0.{weight,bias},model3.{0,4}.{weight,bias}}",
        ],
    ),
    ("wgws", {}, [WGWS_CONVS + BOTH, "feat_extract.{3,4}.layer." + BOTH]),
    (
        "wgws",
        {"stage": 2},
        [WGWS_CONVS + "{weight,B{1..3}_{residual,indicator}}", "feat_extract.{3,4}.layer." + BOTH],
    ),
]


@torch.no_grad()
def weakened(model: nn.Module, part: str, factor: float) -> Any:
    for key, parameter in model.named_parameters():
        if part in key:
            parameter.mul_(factor)
    return model


def assert_golden(y: Tensor, numbers: tuple[float, ...]) -> None:
    expected = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(five_numbers(y), expected, rtol=1e-9, atol=1e-9)


def label(row: Row) -> str:
    return "-".join([row.name, *(f"{key}={value}" for key, value in row.fields.items()), "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = weakened(Case(row.name, row.fields).build().eval(), *row.scaled)
    assert_golden(row.run(model, image(*row.shape)), row.numbers)


def meta(name: str, **fields: Any) -> Any:
    """The network without memory behind its tensors."""
    with torch.device("meta"):
        return backbones.build(name, **fields)


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int
) -> None:
    model = meta(name, **fields)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == entries


def expanded(pattern: str) -> Iterator[str]:
    """Every key that a pattern with braces stands for."""
    start = pattern.find("{")
    if start < 0:
        yield pattern
        return
    depth, cuts = 0, [start]
    for place, letter in enumerate(pattern[start:], start):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if (letter == "," and depth == 1) or depth == 0:
            cuts.append(place)
        if depth == 0:
            break
    choices = [pattern[a + 1 : b] for a, b in pairwise(cuts)]
    if len(choices) == 1 and ".." in choices[0]:
        first, last = map(int, choices[0].split(".."))
        choices = [str(number) for number in range(first, last + 1)]
    for choice in choices:
        yield from expanded(pattern[:start] + choice + pattern[cuts[-1] + 1 :])


@pytest.mark.parametrize(("name", "fields", "patterns"), KEYS, ids=lambda value: value if type(value) is str else "")
def test_keys_are_those_of_the_authors(name: str, fields: dict[str, Any], patterns: list[str]) -> None:
    assert set(meta(name, **fields).state_dict()) == {key for pattern in patterns for key in expanded(pattern)}


# ---------------------------------------------------------------------------------------- what one network promises


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
