"""The records of `training.optimizer` and `training.schedule`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cmtl_ir.base.record import Record
from cmtl_ir.strategy.data import Schedule

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Record):
    """The optimizer, the same for every strategy unless it has its own settings."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Name of the optimizer."""
    lr: float = Field(1e-3, gt=0)
    """Base learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay rates of the moments (adam, adamw), each at least 0 and below 1."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay: decoupled for adamw, otherwise added to the gradient."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum (sgd)."""


class ScheduleConfig(Record):
    """Learning rate within each stage."""

    name: Literal["cosine", "constant"] = "cosine"
    """Cosine from lr to floor, or constant."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up at the start of a stage."""
    floor: float = Field(0.0, ge=0)
    """Learning rate at the end of a cosine."""
    stretch: float = Field(1.0, ge=1)
    """Length of the cosine, in lengths of the stage; the stage stops before its end. PromptIR plans 150 epochs and
    stops at 120, which is 1.25."""

    def of_stage(self, cycles: int = 1) -> Schedule:
        """Return the schedule of one stage."""
        return Schedule(self.name, self.warmup, cycles, self.floor, self.stretch)
