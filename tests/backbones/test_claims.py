"""Properties of every network, whatever its architecture."""

from __future__ import annotations

import inspect
import re
import typing
from fnmatch import fnmatchcase

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.strategy.output import Output, output_of

from .cases import CASES, COUPLED, Case, image, sampled, task_numbers

some_cases = pytest.mark.parametrize("case", sampled(CASES), indirect=True)
every_name = pytest.mark.parametrize("name", backbones.BACKBONES)
# Which part of U-WADN an image runs through depends on the image. Dynamo cannot trace how samplers draw their noise:
# test_diffusion.py compiles the networks inside them.
UNTRACEABLE = {"uwadn", "ir_sde", "ir_sde_content", "weather_diffusion"}
traceable = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if name not in UNTRACEABLE]
)
uncoupled = pytest.mark.parametrize("case", sampled(name for name in CASES if name not in COUPLED), indirect=True)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def restored(model: nn.Module, x: Tensor) -> Tensor:
    """The restored image, of several outputs the one that the network declares."""
    y = as_list(model(x, task_numbers(len(x))))
    return y[-1 if getattr(model, "restored_output", "first") == "last" else 0]


def mean_of_outputs(model: nn.Module, x: Tensor) -> Tensor:
    """The mean over every pixel of every output."""
    return torch.cat([y.flatten() for y in as_list(model(x, task_numbers(len(x))))]).mean()


def as_list(y: Tensor | list[Tensor]) -> list[Tensor]:
    return y if isinstance(y, list) else [y]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# ------------------------------------------------------------------------------------------------ input and output


SIZES = [(19, 30), (16, 16), (5, 70), (1, 1)]
"""Height and width; each time all of them for what `sampled` names, the first one for every case."""


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        pytest.param(
            *one.values, *size, id=f"{one.id}-{size[0]}x{size[1]}", marks=one.marks if size != SIZES[0] else ()
        )
        for one in sampled(CASES)
        for size in SIZES
    ],
)
def test_output_has_the_size_of_the_input_at_any_size(name: str, height: int, width: int) -> None:
    y = restored(CASES[name].shared(), image(3, height, width, batch=2))
    assert y.shape == (2, 3, height, width)
    assert y.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_swinir_with_shuffling_upsampler_enlarges(scale: int) -> None:
    fields = {**CASES["swinir"].fields, "upsampler": "pixelshuffle", "scale": scale}
    assert Case("swinir", fields).build()(image(3, 9, 14)).shape == (1, 3, 9 * scale, 14 * scale)


@torch.no_grad()
@some_cases
def test_memory_format_changes_nothing(case: Case) -> None:
    x = image(3, 24, 24, batch=2)
    plain = restored(case.shared(), x)
    model = case.build().eval().to(memory_format=torch.channels_last)
    torch.testing.assert_close(restored(model, x.to(memory_format=torch.channels_last)), plain, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@some_cases
def test_bfloat16_autocast_stays_near_float32(case: Case) -> None:
    model = case.build(torch.float32).eval()
    x = image(3, 24, 24, batch=2).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = restored(model, x)
    # The seven stages of DGUNet+ enlarge every difference with the rule's weights.
    assert relative(y.float(), restored(model, x)) < (0.1 if case.name == "dgunet_plus" else 0.05)


@some_cases
def test_bfloat16_autocast_gives_finite_gradients(case: Case) -> None:
    model = case.build(torch.float32).train()
    with torch.autocast("cpu", torch.bfloat16):
        y = restored(model, image(3, 24, 24, batch=2).float())
    y.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


# ----------------------------------------------------------------------------------------- samples and randomness


@torch.no_grad()
@some_cases
def test_in_eval_a_sample_does_not_depend_on_its_batch(case: Case) -> None:
    assert_independent(case.shared())


@torch.no_grad()
@uncoupled
def test_in_training_a_sample_does_not_depend_on_its_batch(case: Case) -> None:
    model = case.build().train()
    assert not model.couples_samples
    assert_independent(model)


def assert_independent(model: nn.Module) -> None:
    x, tasks = image(3, 20, 20, batch=3), task_numbers(3)
    together = as_list(model(x, tasks))
    for number in range(3):
        alone = as_list(model(x[number : number + 1], tasks[number : number + 1]))
        for y, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(y[number : number + 1], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(COUPLED))
def test_a_network_that_couples_samples_says_so(name: str) -> None:
    model = CASES[name].build().train()
    assert model.couples_samples
    x = image(3, 20, 20, batch=3)
    assert not torch.allclose(restored(model, x)[:2], restored(model, x[:2]), atol=1e-6)


@some_cases
def test_forward_and_backward_draw_nothing_from_the_global_generator(case: Case) -> None:
    model = case.build().train()
    before = torch.get_rng_state()
    restored(model, image(3, 16, 16, batch=2)).mean().backward()
    assert torch.equal(torch.get_rng_state(), before)


@some_cases
def test_the_default_generator_alone_decides_the_first_weights(case: Case) -> None:
    def fresh(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return backbones.build(case.name, **case.fields).state_dict()

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


# -------------------------------------------------------------------------------------------------- parameters


@some_cases
def test_exactly_the_unused_parameters_get_no_gradient(case: Case) -> None:
    model = case.build().train()
    # Above 64 pixels a side for TransWeather: below, its decoder has one token and nothing to ask.
    # Two images: BatchNorm over pooled vectors refuses one.
    height, width = (80, 72) if case.name == "transweather" else (24, 20)
    mean_of_outputs(model, image(3, height, width, batch=2)).backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    declared = {key for key, _ in model.named_parameters() if any(fnmatchcase(key, one) for one in model.unused)}
    assert without == declared


@pytest.mark.slow
@uncoupled
def test_row_gradients_come_from_one_joint_pass(case: Case) -> None:
    model = case.build().train().to(memory_format=torch.channels_last)  # as the engine trains it
    x = image(3, 20, 20, batch=4).contiguous(memory_format=torch.channels_last)
    tasks, sizes = task_numbers(4), [1, 2, 1]

    def distance(output: Output, row: int) -> Tensor:
        return torch.stack([(one - row).abs().mean() for one in output.tensors()]).sum()

    def rows(engine: Engine) -> RowGradients:
        def forward(start: int, stop: int) -> Output:
            return output_of(model, model(x[start:stop], tasks[start:stop]))

        found = RowGradients(model, len(sizes), engine)
        found(forward, sizes, distance)
        return found

    grouped = rows("grouped")
    assert grouped.fallback is None
    torch.testing.assert_close(grouped.buffer, rows("stream").buffer, rtol=1e-9, atol=1e-12)


@every_name
def test_fields_are_keyword_only_typed_and_have_defaults(name: str) -> None:
    cls = backbones.backbone_class(name)
    hints = typing.get_type_hints(cls.__init__)
    for field in inspect.signature(cls).parameters.values():
        assert field.kind is inspect.Parameter.KEYWORD_ONLY, field.name
        assert field.default is not inspect.Parameter.empty, field.name
        assert field.name in hints


@every_name
def test_the_docstring_names_its_paper(name: str) -> None:
    documentation = backbones.backbone_class(name).__doc__
    assert documentation is not None
    assert re.search(r"\(.+ 20\d\d\b.*\)", documentation.splitlines()[0]), "first line: title (authors, venue year)"


@pytest.mark.slow
@traceable
def test_compiles_without_a_graph_break(case: Case) -> None:
    model = case.build(torch.float32).train()
    x, tasks = image(3, 32, 32, batch=2).float(), task_numbers(2)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch._dynamo.reset()
    for found, expected in zip(as_list(compiled(x, tasks)), as_list(model(x, tasks)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
