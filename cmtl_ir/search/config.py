"""The `search:` block of an experiment file: strategy, space, objectives, sampler, pruner and number of trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.record import Record
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.own_training import flat
from cmtl_ir.search.space import Choice, Parameter, Trial, assigned, parameter_of

Direction = Literal["maximize", "minimize"]
OBJECTIVES: dict[str, Direction] = {
    "mean_psnr": "maximize",
    "worst_psnr": "maximize",
    "forgetting_db": "minimize",
    "seconds_per_step": "minimize",
}
"""Name -> direction of improvement. All objectives are measured on validation images, never on test images."""
EACH = "*"


class StudyConfig(Record):
    """How an Optuna study draws, prunes and stores its trials."""

    sampler: dict[str, Any] | None = None
    """Name and options of an Optuna sampler. null takes TPESampler."""
    pruner: dict[str, Any] | None = None
    """Name and options of an Optuna pruner. null trains every trial until it is finished."""
    prune_on: Literal["steps", "seeds"] | None = None
    """Scores that the pruner sees: the validation score at every evaluation (steps) or the final one per seed (seeds).
    null takes seeds for WilcoxonPruner and steps for any other pruner."""
    storage: str = "sqlite"
    """sqlite or journal (a file in the folder of the search), `journal:FILE`, or the URL of a database for Optuna."""
    heartbeat: int = Field(60, gt=0)
    """Seconds between heartbeats in a database. A trial without one for twice as long is resumed by other processes."""
    retries: int = Field(3, ge=0)
    """Number of times that a trial whose process died is resumed."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the sampler. The draws of a trial also depend on its number and on the results known at its start."""

    @field_validator("sampler", "pruner", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class SearchConfig(StudyConfig):
    """A hyperparameter search. Its trials are ordinary runs of the experiment that contains it."""

    strategy: str | dict[str, Any] = Field({})
    """Strategy to search: a composition of parts, a label of `strategies`, or `*` for one study per strategy in it."""
    space: dict[str, Any] = Field(min_length=1)
    """Dotted path -> {float: [low, high], log: true}, {int: [low, high]} or {choice: [...]}."""
    objectives: dict[str, Direction] = Field(
        {"mean_psnr": "maximize"}, min_length=1, json_schema_extra={"propertyNames": {"enum": [*OBJECTIVES]}}
    )
    """mean_psnr, worst_psnr, forgetting_db, seconds_per_step, as means over tasks and seeds.

    seconds_per_step is the time of an optimizer step: between CUDA events on a GPU, and CPU time elsewhere.
    Several objectives form a Pareto front.
    """
    trials: int = Field(20, gt=0)
    """Number of settings to try, by all processes together."""

    @field_validator("objectives", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        named = given if isinstance(given, Mapping) else dict.fromkeys(given)
        for name, direction in named.items():
            if name not in OBJECTIVES:
                raise ValueError(f"{name!r} is not an objective; {suggestion(str(name), list(OBJECTIVES))}")
            if direction not in (None, OBJECTIVES[name]):
                raise ValueError(f"{name}: the direction is {OBJECTIVES[name]}, not {direction}")
        return {name: OBJECTIVES[name] for name in named}

    @model_validator(mode="after")
    def _pruned_by_one_score(self) -> SearchConfig:
        if self.pruner is not None and len(self.objectives) > 1:
            raise ValueError("pruner: Optuna prunes by a single score, not in a search with several objectives")
        if self.pruner is not None and "seconds_per_step" in self.objectives:
            raise ValueError("pruner: seconds_per_step is known at the end only")
        return self

    @property
    def reports(self) -> Literal["steps", "seeds"]:
        """Scores that the pruner sees: those of `steps` or of `seeds`."""
        by_seed = self.pruner is not None and self.pruner.get("name") == "WilcoxonPruner"
        return self.prune_on or ("seeds" if by_seed else "steps")


@dataclass(frozen=True)
class Plan:
    """The plan of one study: its name, the base experiment, the strategy and the search."""

    name: str
    raw: dict[str, Any]
    """The experiment file without `search` and `strategies`."""
    strategy: dict[str, Any]
    search: SearchConfig
    points: tuple[dict[str, Any], ...] = ()
    """Values fixed in advance, by parameter, of the first settings to be tried. The sampler draws all others."""

    @cached_property
    def space(self) -> dict[str, Parameter]:
        """Dotted path -> parameter. Raises ConfigError if the space is invalid."""
        problems: list[Problem] = []
        made = {path: parameter_of(path, given, problems) for path, given in self.search.space.items()}
        for path in made:
            above = [one for one in made if path.startswith(f"{one}.") and isinstance(made[one], Choice)]
            if above:
                inside = f"{{name: ..., {path.removeprefix(above[0] + '.')}: {self.search.space[path]}}}"
                problems.append(Problem(path, f"belongs inside a choice of {above[0]}, as in {inside}"))
        problems += [
            Problem(path, f"this strategy has its own setting, which outranks it: search strategy.{path} instead")
            for path in made
            if path in {f"training.{own}" for own in flat(self.strategy.get("training") or {})}
        ]
        if problems:
            raise ConfigError(f"{self.name}, search.space:\n" + "\n".join(f"  {one}" for one in problems))
        return {path: parameter for path, parameter in made.items() if parameter is not None}

    @property
    def places(self) -> int:
        """Number of settings to try: `trials`, or fewer if the sampler tries each setting of a smaller space once."""
        sampler = self.search.sampler or {}
        if sampler.get("name") == "GridSampler":
            return min(self.search.trials, math.prod(len(one) for one in sampler.get("search_space", {}).values()))
        whole = math.prod(parameter.count() for parameter in self.space.values())
        return int(min(self.search.trials, whole if sampler.get("name") == "BruteForceSampler" else math.inf))

    def values(self, trial: Trial) -> dict[str, Any]:
        """Return the values of a trial by dotted path."""
        return {path: parameter.suggest(trial) for path, parameter in self.space.items()}

    def experiment(self, values: Mapping[str, Any], label: str, name: str = "") -> Experiment:
        """Return the experiment with these values and one strategy called `label`. Raise ConfigError if invalid."""
        raw: dict[str, Any] = {**self.raw, "strategy": self.strategy}
        for path, value in values.items():
            raw = assigned(raw, path.split("."), value)
        strategy = raw.pop("strategy")
        return reading.validate({**raw, "name": name or self.name, "strategies": {label: strategy}}, self.name)

    def check(self) -> Experiment:
        """Check both ends of every range and every choice before training. Return the first setting's experiment."""
        samples = {path: list(parameter.samples()) for path, parameter in self.space.items()}
        first = {path: values[0] for path, values in samples.items()}
        experiment = self.experiment(first, "trial")
        for path, value in ((path, value) for path, values in samples.items() for value in values[1:]):
            try:
                self.experiment({**first, path: value}, "trial")
            except ConfigError as error:
                raise ConfigError(f"search.space, {path} = {value!r}: {error}") from None
        return experiment

    def payload(self) -> dict[str, Any]:
        """Return the plan as plain values, for a worker."""
        plain = {"name": self.name, "raw": self.raw, "strategy": self.strategy, "points": list(self.points)}
        return {**plain, "search": self.search.model_dump(mode="json")}

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Plan:
        """Return the plan that `payload` describes."""
        search, points = SearchConfig(**payload["search"]), tuple(payload["points"])
        return cls(payload["name"], payload["raw"], payload["strategy"], search, points)


def load(file: str, overrides: Sequence[str] = (), trials: int | None = None) -> list[Plan]:
    """Return the checked plans of the studies in a search file. Raise ConfigError if it is invalid.

    `trials` replaces the number of trials in the file. `None` keeps it.
    """
    path = reading.find(file)
    raw = reading.with_overrides(reading.read_raw(path), overrides)
    block = raw.pop("search", None)
    if block is None:
        raise ConfigError(f"{path} has no `search:` block; `cmtl-ir run {file}` trains its strategies")
    own = yaml.read(path).get("name") or any(one.startswith("name=") for one in overrides)
    raw["name"] = raw["name"] if own else f"{raw.get('name', 'search')}-{path.stem}"
    more = {} if trials is None else {"trials": trials}
    try:
        search = SearchConfig.model_validate({**block, **more} if isinstance(block, Mapping) else block)
    except ValidationError as error:
        listed = "\n".join(f"  {one}" for one in problems_of(error, SearchConfig, "search"))
        raise ConfigError(f"{path}:\n{listed}") from None
    plans = list(_plans(raw, search))
    for plan in plans:
        plan.check()
    return plans


def _plans(raw: dict[str, Any], search: SearchConfig) -> Iterator[Plan]:
    strategies = raw.pop("strategies", {})
    labels = list(strategies) if search.strategy == EACH else [search.strategy]
    if not labels:
        raise ConfigError("search.strategy: '*' means each of `strategies`, and there are none")
    for label in labels:
        if not isinstance(label, str):
            yield Plan(raw["name"], raw, label, search)
        elif label in strategies:
            name = f"{raw['name']}-{label}" if search.strategy == EACH else raw["name"]
            yield Plan(name, raw, dict(strategies[label] or {}), search)
        else:
            raise ConfigError(f"search.strategy: no strategy {label!r}; {suggestion(label, list(strategies))}")
