"""The suites `composite`, `order` and `cdd11`: several degradations in one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from cmtl_ir.suites.blocks import COMPOSITE, ZERO_SHOT
from cmtl_ir.suites.line import Line
from cmtl_ir.tasks.config import TaskConfig
from cmtl_ir.tasks.degradations.composition import Composition

COMPOSITES, ORDERS, CDD11 = "composite", "order", "cdd11"
PHYSICAL = (
    *("low_light", "rain_streaks", "rain_veil", "raindrop", "snow", "haze", "defocus_blur", "gaussian_blur"),
    *("motion_blur", "downsampling", "mosaic", "poisson_gaussian_noise", "gaussian_noise", "impulse_noise"),
    *("jpeg", "jpeg_fast", "inpainting_mask"),
)
"""Order of the parts of `composite`: scene (OneRestore's order), lens, sensor, file. Others come last."""
MOST_TASKS_OF_TRIPLES = 4
KINDS = (
    *("low", "haze", "rain", "snow", "low_haze", "low_rain", "low_snow", "haze_rain", "haze_snow"),
    *("low_haze_rain", "low_haze_snow"),
)
"""The eleven kinds of CDD-11 (Guo et al. (OneRestore), ECCV 2024), as the table of results in the authors' repository
lists them: four single, five double, two triple. There is no rain with snow among them."""
PARTS: dict[str, dict[str, Any]] = {
    "low": {"name": "low_light", "gamma": [2.0, 3.0], "gain": [1.0, 1.0], "shot": [0.0, 0.0], "read": [0.03, 0.08]},
    "rain": {"name": "rain_streaks"},
    "snow": {"name": "snow"},
    "haze": {"name": "haze", "beta": [1.0, 2.0], "airlight": [0.6, 0.9]},
}
"""Parts of the synthetic twin of CDD-11, in the order of OneRestore's generator: low light, rain, snow, haze.

The exponent and the noise of low light, beta and the airlight of haze are drawn from OneRestore's ranges. What it draws
from files is made by this package's degradations at their defaults: masks of rain and snow, depth, and the map of light
(`low_light` darkens by I^gamma instead of I / L * L^gamma)."""
SIZES = {1: "single", 2: "double", 3: "triple"}
ROLES = {"low_light": "low", "rain_streaks": "rain", "snow": "snow", "haze": "haze"}


def composite_lines(trained: Mapping[str, TaskConfig]) -> list[Line]:
    """Return each pair of trained tasks in physical order, and each triple where there are at most four tasks."""
    names = _in_order(trained)
    sizes = (2, 3) if len(names) <= MOST_TASKS_OF_TRIPLES else (2,)
    return [_line(COMPOSITES, chosen, SIZES[size], trained) for size in sizes for chosen in combinations(names, size)]


def order_lines(trained: Mapping[str, TaskConfig]) -> list[Line]:
    """Return each pair of trained tasks in both orders and in a random order of each image."""
    made = []
    for first, second in combinations(_in_order(trained), 2):
        made.append(_line(ORDERS, (first, second), f"{first} first", trained))
        made.append(_line(ORDERS, (second, first), f"{second} first", trained))
        made.append(_line(ORDERS, (first, second), "random order", trained, order="random"))
    return made


def cdd11_lines(trained: Mapping[str, TaskConfig]) -> list[Line]:
    """Return the eleven kinds of CDD-11, synthesised. What they look like differs from the published images."""
    by_role = {ROLES[task.degradation.called]: name for name, task in trained.items()
               if task.degradation and task.degradation.called in ROLES}  # fmt: skip
    made = []
    for kind in KINDS:
        roles = [role for role in PARTS if role in kind.split("_")]
        config = _composed([PARTS[role] for role in roles])
        given = next((by_role[role] for role in roles if role in by_role), None)
        made.append(Line(CDD11, kind, SIZES[len(roles)], _block(trained), config, given=given))
    return made


def _in_order(trained: Mapping[str, TaskConfig]) -> list[str]:
    """Return the tasks of one degradation each, in physical order."""
    kinds = {
        name: task.degradation.called
        for name, task in trained.items()
        if task.degradation and not isinstance(task.degradation, Composition)
    }
    places = {kind: place for place, kind in enumerate(PHYSICAL)}
    return sorted(kinds, key=lambda name: places.get(kinds[name], len(places)))


def _line(suite: str, names: Sequence[str], said: str, trained: Mapping[str, TaskConfig], order: str = "given") -> Line:
    parts = [trained[name].degradation for name in names]
    plain = [{"name": part.called, **part.model_dump(mode="json")} for part in parts if part is not None]
    return Line(suite, "_".join(sorted(names)), said if suite == ORDERS else f"{said}: {', '.join(names)}",
                _block(trained), _composed(plain, order), given=names[0])  # fmt: skip


def _composed(parts: Sequence[Mapping[str, Any]], order: str = "given") -> TaskConfig:
    """Return the task of several degradations in sequence. One alone is that degradation, to the bit."""
    if len(parts) == 1:
        return TaskConfig.model_validate(
            {"degradation": parts[0]["name"], **{k: v for k, v in parts[0].items() if k != "name"}}
        )
    return TaskConfig.model_validate({"degradation": "composition", "parts": list(parts), "order": order})


def _block(trained: Mapping[str, TaskConfig]) -> str:
    """Return the regime of a run: trained on composites, or zero-shot."""
    return COMPOSITE if any(isinstance(task.degradation, Composition) for task in trained.values()) else ZERO_SHOT
