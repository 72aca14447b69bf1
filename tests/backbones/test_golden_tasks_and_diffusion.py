"""Outputs of the authors' own classes (float64, weights by rule), to the last printed digit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from .cases import Case, image, spread
from .test_golden import five_numbers

Run = Callable[[Any, Tensor], Tensor]


class Row(NamedTuple):
    """A network, what it is shown, and mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1] of its output."""

    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]
    run: Run = lambda model, x: model(x)


def of_task(number: int) -> Run:
    """Restore an image of that task."""
    return lambda model, x: model(x, torch.tensor([number]))


WGWS = {"base": 8, "stage": 2}


def raw_head(number: int) -> Run:
    """The tanh of that head of BIDeN."""
    return lambda model, x: 2 * model(x, torch.tensor([number])) - 1


def at_width(number: int) -> Run:
    """Restore by U-WADN's width of that number."""
    return lambda model, x: model.at_width(x, number)


def alone(model: Any, x: Tensor) -> Tensor:
    """The transformer of ProRes, without prompt and normalization."""
    return model.network(x)


def noisy(x: Tensor) -> Tensor:
    """A state of that size."""
    return image(3, x.shape[2], x.shape[3], key="noise")


def vectors() -> tuple[Tensor, Tensor]:
    """A degradation and a content vector."""
    return spread(16, "degra")[None], spread(16, "content")[None]


def noise_at(t: int) -> Run:
    """What IR-SDE's network finds in a state at time t."""
    return lambda model, x: model.noise(noisy(x), x, torch.tensor([t]).double(), *vectors())


def posterior_means(model: Any, x: Tensor) -> Tensor:
    """The reverse of IR-SDE without noise."""
    return model.sampled(noisy(x), x, *vectors(), keys=None)


def patch_noise(model: Any, x: Tensor) -> Tensor:
    """What WeatherDiff's network finds in a patch at time 500."""
    return model.noise(2 * x - 1, 2 * noisy(x) - 1, torch.tensor([500]))


def unclamped(model: Any, x: Tensor) -> Tensor:
    """What WeatherDiff samples."""
    return (model.sampled(2 * x - 1, 2 * noisy(x) - 1) + 1) / 2


def question(model: Any, x: Tensor) -> Tensor:
    """PromptGIP's answer to image b, of which the input and image a are the example."""
    answer, query = (image(3, x.shape[2], x.shape[3], key=key) for key in ("a", "b"))
    return model(query, example=(x, answer))


PROMPTGIP = {
    "width": 32,
    "depth": 2,
    "heads": 2,
    "decoder_width": 24,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "tasks": 0,
}
UTILITYIR = {"width": 8, "blocks": 1, "degradation": 8}
IR_SDE = {"width": 32, "multipliers": [1, 2, 2, 2], "vector": 16, "content_vector": True}
WEATHER = {"width": 32, "multipliers": [1, 2, 2], "blocks": 1, "patch": 32, "stride": 8, "steps": 5}
IDR = {"width": 16, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}
MSBDN = {"width": 4, "blocks": 2}
PRORES = {"width": 32, "depth": 24, "heads": 2, "image_size": 64, "head_width": 8, "tasks": 0}
BIDEN = {"features": 8, "tasks": 3}

# fmt: off
QUICK = [
    Row("biden", BIDEN, (3, 64, 64), (0.2029524538, 0.4675571523, 0.5972712617, 0.2114052529, -0.4327564092), raw_head(0)),  # noqa: E501
    Row("biden", BIDEN, (3, 64, 96), (0.0747137129, 0.6002960629, -0.8173718384, 0.6108081297, 0.9813771632), raw_head(2)),  # noqa: E501
    Row("idr", IDR, (3, 64, 64), (0.2647995173, 2.4399833996, 0.6465010190, -1.1863953206, -0.0443078229), of_task(0)),
    Row("idr", IDR, (3, 64, 64), (-0.1396952421, 17.0700823949, 0.2066589758, 5.4545701004, 1.2623593375), of_task(2)),
    Row("idr", IDR, (3, 64, 64), (0.2238710718, 1.4520454840, -0.8787892490, -1.8681826994, -0.3128451896), of_task(3)),
    Row("idr", {**IDR, "stage": 2}, (3, 64, 64), (-0.4062172587, 9.3450625913, -0.5815075298, -2.3289877216, -0.3972392262)),  # noqa: E501
    Row("idr", {**IDR, "stage": 2}, (3, 64, 96), (-0.5547316337, 12.4443717606, -2.5141573317, -5.0023305424, -0.2582149357)),  # noqa: E501
    Row("ir_sde", IR_SDE, (3, 64, 64), (-0.0160539207, 0.9472457055, -0.0751925019, 0.1805187924, -0.0068361218), noise_at(50)),  # noqa: E501
    Row("ir_sde", IR_SDE, (3, 61, 50), (0.0906006639, 1.2194751251, -0.2277692843, 1.0581889700, -1.2030994102), noise_at(1)),  # noqa: E501
    Row("ir_sde", {**IR_SDE, "content_vector": False}, (3, 64, 64), (-0.0803698538, 0.7750293435, 0.0104474945, 0.3596115319, -0.0852067079), noise_at(50)),  # noqa: E501
    Row("ir_sde", {**IR_SDE, "steps": 4}, (3, 64, 64), (-3.4910805949, 136.2522800430, 48.6360905328, 5.9429564504, -9.3640838208), posterior_means),  # noqa: E501
    Row("msbdn", MSBDN, (3, 64, 64), (1.4412158683, 73.7136363200, -34.4654723891, -44.1439787402, 17.3033291997)),
    Row("msbdn", MSBDN, (3, 48, 80), (0.3135502936, 64.2713215182, -35.5011215446, -42.0702894000, 36.2286094589)),
    Row("promptgip", PROMPTGIP, (3, 32, 32), (0.0174687483, 0.4911995609, 0.1498574555, -0.3344150514, 0.4780870969), question),  # noqa: E501
    Row("prores", PRORES, (3, 64, 64), (0.0548475789, 0.8267878519, -0.2253842081, 0.1871638689, 0.0771034573), alone),
    Row("prores", PRORES, (3, 96, 64), (0.0547785298, 0.8314754168, -0.6831344381, 0.1488218675, 0.0400503131), alone),
    Row("prores", {**PRORES, "windowed": [0, 1, 3], "window": 3}, (3, 64, 64), (0.0588650658, 0.8150845936, -0.6515354432, -0.1164487127, 0.2317266043), alone),  # noqa: E501
    Row("utilityir", UTILITYIR, (3, 64, 64), (0.0750987047, 0.3495538556, -0.1596628045, -0.4011743691, 0.5046004323)),
    Row("utilityir", UTILITYIR, (3, 48, 80), (0.0746603668, 0.3496148401, -0.1085698370, 0.1717663519, 0.7329475958)),
    Row("weather_diffusion", WEATHER, (3, 32, 32), (0.2034497607, 0.6456216431, -0.6844180876, 0.1753389740, 0.8331077715), patch_noise),  # noqa: E501
    Row("weather_diffusion", WEATHER, (3, 48, 40), (-2.2269173484, 10.2053061907, 10.9624310550, -18.9898400333, -8.1424422946), unclamped),  # noqa: E501
    Row("wgws", {"base": 8}, (3, 64, 64), (22.8277201120, 104.7788803196, 0.8596141587, 14.1547093076, -3.1414299043)),
    Row("wgws", {"base": 8}, (3, 96, 80), (24.7221948232, 111.4879506443, -1.9655882783, 25.5803381134, -9.0761216091)),
    Row("wgws", WGWS, (3, 64, 64), (12.8270991898, 55.0122167095, -1.3289824283, 6.8758864849, -6.8875028742), of_task(0)),  # noqa: E501
    Row("wgws", WGWS, (3, 64, 64), (12.6563289310, 54.8305417226, 0.1045167694, 0.5567824770, -5.1638306823), of_task(1)),  # noqa: E501
    Row("wgws", WGWS, (3, 64, 64), (10.5013491120, 48.7984127588, 0.0433791316, -0.4274573854, -3.5674152305)),
    Row("wgws", {**WGWS, "residual_kernel": 3}, (3, 64, 64), (31.0142042083, 106.7650605741, 3.4153447061, 38.4917936988, -11.2801253143), of_task(2)),  # noqa: E501
]
SLOW = [
    Row("msbdn", {}, (3, 64, 64), (-4.2646390054, 98.7493729006, -102.2054186849, 101.2412966891, -7.3846019548)),
    Row("uwadn", {}, (3, 64, 64), (-12.8036984871, 45.5817264013, -9.5670101844, -30.6182125332, 12.7670753691), at_width(4)),  # noqa: E501
    Row("uwadn", {}, (3, 64, 64), (0.5269565727, 3.1794760458, -1.4248233459, -4.9505540179, 0.2010755269), at_width(1)),  # noqa: E501
    Row("uwadn", {}, (3, 61, 50), (0.5331950341, 3.1882353304, -0.7942325951, -3.6796649458, 0.4589482474), at_width(1)),  # noqa: E501
]

# fmt: on


def assert_golden(y: Tensor, numbers: tuple[float, ...]) -> None:
    expected = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(five_numbers(y), expected, rtol=1e-9, atol=1e-9)


def label(row: Row) -> str:
    return "-".join([row.name, *(f"{key}={value}" for key, value in row.fields.items()), "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).shared()
    assert_golden(row.run(model, image(*row.shape)), row.numbers)
