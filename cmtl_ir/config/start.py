"""The record of `start`: the weights that a run begins from, instead of initial weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, model_serializer, model_validator

from cmtl_ir.base.errors import suggestion
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.record import Record

INITIAL = "initial"
"""Value of `from` that stands for initial weights: a strategy that does not take the `start` of its experiment."""

OUTSIDE = "outside"
"""Label of the run of an outside model, and key of its identity with the hash of its weights."""


class StartConfig(Record):
    """The weights that a run begins from. A name or file alone stands for `{from: NAME}`."""

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from", min_length=1)
    """A finished run as COMPARISON/LABEL[/SEED] or hash, or a file of weights. Of a run with several seeds, each seed
    takes the weights of the same seed. `initial` stands for initial weights."""
    stage: int | None = Field(None, ge=1)
    """Number of the stage at whose end the run's weights are taken, from 1; null: the weights of the finished run."""
    allow: tuple[str, ...] = ()
    """Shell patterns of names of tensors that may be missing from the file, or be in the file alone, or have another
    shape there. Such tensors of the network keep their initial values. Empty: all tensors must fit."""
    learned: tuple[str, ...] = ()
    """Tasks of this experiment that the weights already know. They are a finished stage: they are scored before the
    first step, forgetting counts from there, retention protects them, and the curriculum goes on with the other tasks.
    Empty: the weights are only where training begins."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        if not isinstance(given, str | Mapping | StartConfig):
            raise ValueError(f"expected a run, a file or {{from: ..., learned: [...]}}, found {given!r}")
        return {"from": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _initial_weights_know_nothing(self) -> StartConfig:
        if self.is_initial and (self.stage or self.allow or self.learned):
            raise ValueError("`from: initial` means initial weights: leave out stage, allow and learned")
        if len(set(self.learned)) < len(self.learned):
            raise ValueError("learned must name every task once")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        """Return the keys of an experiment file, without those that have their default."""
        given = {"stage": self.stage, "allow": list(self.allow), "learned": list(self.learned)}
        return {"from": self.source, **{key: value for key, value in given.items() if value}}

    @property
    def is_initial(self) -> bool:
        """Whether this stands for initial weights."""
        return self.source == INITIAL

    def check(self, tasks: Sequence[str], path: str) -> None:
        """Raise ValueError if `learned` names an unknown task, or leaves none to learn."""
        unknown = [task for task in self.learned if task not in tasks]
        if unknown:
            raise ValueError(
                f"{path}.learned names the unknown task {unknown[0]!r}; {suggestion(unknown[0], list(tasks))}"
            )
        if self.learned and set(self.learned) == set(tasks):
            raise ValueError(f"{path}.learned names every task, so nothing is left to learn; leave one out, or all")


def start_from(given: Any, path: str, problems: list[Problem]) -> StartConfig | None:
    """Return the start of a strategy. `None` if it has none of its own. Mistakes are added to `problems`."""
    if given is None:
        return None
    try:
        return StartConfig.model_validate(given)
    except ValidationError as error:
        problems += problems_of(error, StartConfig, path)
        return None
