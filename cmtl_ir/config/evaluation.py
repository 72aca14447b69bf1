"""When and how a run is scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cmtl_ir.base.problems import Problem
from cmtl_ir.base.record import OmitIfDefault, Record
from cmtl_ir.strategy.making import part_from


class EvaluationConfig(Record):
    """When and how test images are scored. Nothing is selected on these scores."""

    every: int = Field(0, ge=0)
    """Steps between evaluations; 0: at the end of each stage only."""
    protocol: Literal["promptir", "basicsr_rgb", "basicsr_y", "matlab_y", "mio", "nafnet"] = "promptir"
    """Metric protocol; tables never mix two."""
    metrics: Annotated[tuple[str, ...], OmitIfDefault()] = Field(("psnr", "ssim"), min_length=1)
    """Metrics: names, or `file.py:Class` for a metric of your own. psnr must be one of them: it ranks
    strategies. Not part of a run's identity; a finished run is not scored again for a metric that is added later."""
    tile: int = Field(1024, ge=128)
    """Images with a side above this many pixels are restored in overlapping tiles of this side; at least 128, twice
    the overlap."""
    suites: Annotated[tuple[str, ...], OmitIfDefault()] = ()
    """Suites that finished runs are scored on: severity, unseen, composite, order, mixed_sources, cdd11, or the path of
    a .yaml file with test sets. Not part of a run's identity. Training and ordinary scores do not depend on them."""
    adapt: Annotated[tuple[str, ...], OmitIfDefault()] = ()
    """Adapters, as NAME or NAME:field=value,..., that the suites are scored under in addition. Runs that cannot be used
    with one are scored without it. Not part of a run's identity."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        problems: list[Problem] = []
        for name in names:
            part_from("metric", name, name, problems)
        if problems:
            raise ValueError("; ".join(str(problem) for problem in problems))
        if "psnr" not in names or len(set(names)) < len(names):
            raise ValueError("psnr must be listed, because it ranks strategies, and no metric may be listed twice")
        return names
