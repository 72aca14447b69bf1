"""The `search:` block of an experiment file: what is searched, for what, how, and for how long."""

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
from cmtl_ir.search.space import Choice, Parameter, Trial, assigned, parameter_of

Direction = Literal["maximize", "minimize"]
OBJECTIVES: dict[str, Direction] = {
    "mean_psnr": "maximize",
    "worst_psnr": "maximize",
    "forgetting_db": "minimize",
    "seconds_per_step": "minimize",
}
"""Name -> the direction that is good. All are measured on validation images, never on test images."""
EACH = "*"


class SearchConfig(Record):
    """A search: trials are ordinary runs of the experiment around it."""

    strategy: str | dict[str, Any] = Field({})
    """What is searched: a composition of parts, the label of one in `strategies`, or `*`: a study for each of these."""
    space: dict[str, Any] = Field(min_length=1)
    """Dotted path -> {float: [low, high], log: true}, {int: [low, high]} or {choice: [...]}."""
    objectives: dict[str, Direction] = Field({"mean_psnr": "maximize"}, min_length=1)
    """mean_psnr, worst_psnr, forgetting_db, seconds_per_step; several: a Pareto front. Means over tasks and seeds."""
    sampler: dict[str, Any] | None = None
    """Name and options of an Optuna sampler; null: Optuna's own choice."""
    pruner: dict[str, Any] | None = None
    """Name and options of an Optuna pruner; null: every trial is trained to its end."""
    prune_on: Literal["steps", "seeds"] | None = None
    """What the pruner sees: the validation score at every evaluation, or the final one of every seed; null: seeds for
    WilcoxonPruner, else steps."""
    trials: int = Field(20, gt=0)
    """How many settings are tried, by all processes together."""
    storage: str = "sqlite"
    """sqlite or journal (a file in the search's folder), `journal:FILE`, or the URL of any database Optuna takes."""
    heartbeat: int = Field(60, gt=0)
    """Seconds between signs of life in a database: a trial without any for twice as long is taken up by others."""
    retries: int = Field(3, ge=0)
    """How often a trial whose process died is taken up again."""
    seed: int = 0
    """Of the sampler; each trial's draws depend on it, on the trial's number and on the results known by then."""

    @field_validator("objectives", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        named = given if isinstance(given, Mapping) else dict.fromkeys(given)
        for name, direction in named.items():
            if name not in OBJECTIVES:
                raise ValueError(f"{name!r} is no objective; {suggestion(str(name), list(OBJECTIVES))}")
            if direction not in (None, OBJECTIVES[name]):
                raise ValueError(f"{name}: {OBJECTIVES[name]} is the good direction, not {direction}")
        return {name: OBJECTIVES[name] for name in named}

    @field_validator("sampler", "pruner", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _pruned_by_one_score(self) -> SearchConfig:
        if self.pruner is not None and len(self.objectives) > 1:
            raise ValueError("pruner: a trial is given up by one score; Optuna prunes no search of several objectives")
        if self.pruner is not None and "seconds_per_step" in self.objectives:
            raise ValueError("pruner: seconds_per_step is known at the end only")
        return self

    @property
    def reports(self) -> Literal["steps", "seeds"]:
        """What the pruner sees."""
        by_seed = self.pruner is not None and self.pruner.get("name") == "WilcoxonPruner"
        return self.prune_on or ("seeds" if by_seed else "steps")


@dataclass(frozen=True)
class Plan:
    """One study: a base experiment, what is searched in it, and its name."""

    name: str
    raw: dict[str, Any]
    """The experiment file without `search` and `strategies`."""
    strategy: dict[str, Any]
    search: SearchConfig

    @cached_property
    def space(self) -> dict[str, Parameter]:
        """Dotted path -> parameter."""
        problems: list[Problem] = []
        made = {path: parameter_of(path, given, problems) for path, given in self.search.space.items()}
        for path in made:
            above = [one for one in made if path.startswith(f"{one}.") and isinstance(made[one], Choice)]
            if above:
                inside = f"{{name: ..., {path.removeprefix(above[0] + '.')}: {self.search.space[path]}}}"
                problems.append(Problem(path, f"belongs inside a choice of {above[0]}, as in {inside}"))
        if problems:
            raise ConfigError(f"{self.name}, search.space:\n" + "\n".join(f"  {one}" for one in problems))
        return {path: parameter for path, parameter in made.items() if parameter is not None}

    @property
    def places(self) -> int:
        """How many settings are tried: `trials`, or all there are where the sampler tries each once."""
        sampler = self.search.sampler or {}
        if sampler.get("name") == "GridSampler":
            return min(self.search.trials, math.prod(len(one) for one in sampler.get("search_space", {}).values()))
        whole = math.prod(parameter.count() for parameter in self.space.values())
        return int(min(self.search.trials, whole if sampler.get("name") == "BruteForceSampler" else math.inf))

    def values(self, trial: Trial) -> dict[str, Any]:
        """Dotted path -> value of a trial."""
        return {path: parameter.suggest(trial) for path, parameter in self.space.items()}

    def experiment(self, values: Mapping[str, Any], label: str, name: str = "") -> Experiment:
        """The experiment with these values; its one strategy is called `label`. Raises ConfigError."""
        raw: dict[str, Any] = {**self.raw, "strategy": self.strategy}
        for path, value in values.items():
            raw = assigned(raw, path.split("."), value)
        strategy = raw.pop("strategy")
        return reading.validate({**raw, "name": name or self.name, "strategies": {label: strategy}}, self.name)

    def check(self) -> Experiment:
        """Try both ends of every range and every choice before anything is trained; the first setting."""
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
        """As plain values, for a worker."""
        plain = {"name": self.name, "raw": self.raw, "strategy": self.strategy}
        return {**plain, "search": self.search.model_dump(mode="json")}

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Plan:
        """What `payload` was made of."""
        return cls(payload["name"], payload["raw"], payload["strategy"], SearchConfig(**payload["search"]))


def load(file: str, overrides: Sequence[str] = (), trials: int | None = None) -> list[Plan]:
    """The studies of a search file, checked. Raises ConfigError."""
    path = reading.find(file)
    raw = reading.with_overrides(reading.read_raw(path), overrides)
    block = raw.pop("search", None)
    if block is None:
        raise ConfigError(f"{path}: has no search: block; `cmtl-ir run {file}` trains its strategies")
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
