"""The cost of an unlearning result: optimizer steps, wall time and CPU time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Cost(NamedTuple):
    """What was spent from the original to a result, scoring included."""

    steps: int
    """Optimizer steps."""
    seconds: float
    """Wall time."""
    cpu_seconds: float | None
    """CPU time of the processes over all their threads. `None` if it was not recorded, or if a GPU did the work."""


def of_result(result: Mapping[str, Any], taken_over: int = 0) -> Cost:
    """Return the cost of a run by its result. `taken_over`: steps of its curve that another run made."""
    on_gpu = result.get("step_cuda_seconds") is not None
    return Cost(result["steps"] - taken_over, result["seconds"], None if on_gpu else result.get("cpu_seconds"))


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs. The CPU time is `None` if it is for one of them."""
    found = list(costs)
    known = [one.cpu_seconds for one in found if one.cpu_seconds is not None]
    cpu_seconds = sum(known) if len(known) == len(found) else None
    return Cost(sum(one.steps for one in found), sum(one.seconds for one in found), cpu_seconds)
