"""The `tune:` section of an experiment file: every strategy is tuned with the same number of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.own_training import trained_under
from cmtl_ir.search.config import OBJECTIVES, Plan, SearchConfig, StudyConfig
from cmtl_ir.search.design import Dimension, dimensions, points, settings
from cmtl_ir.search.space import assigned

TUNED = "_tuned"
"""Ending of the label of a strategy at its best setting."""


class TuneConfig(StudyConfig):
    """Tuning of several strategies: one study each, of the same length, over the same shared settings.

    The first trial of every study is the default, as in the experiment. Without a sampler, the shared settings of the
    other trials are the same for all strategies, and settings of a strategy's own are drawn at random.
    """

    strategies: list[str] | None = Field(None, min_length=1)
    """Labels of the strategies to tune; null: all but single-task references."""
    trials: int | None = Field(None, gt=0)
    """Number of trials of every strategy, the default included; null: as many as there are shared settings."""
    shared: dict[str, Any] = Field({"training.optimizer.lr": {"times": [1, 0.25, 0.5, 2, 4]}}, min_length=1)
    """Path of a training setting -> range, for every strategy: {times: [...]} (multiples of the strategy's default),
    {choice: [...]}, {float: [low, high], log: true} or {int: [low, high]}."""
    own: dict[str, dict[str, Any]] = Field({})
    """Label -> path below the strategy, as in `weighting.temperature` -> range, in addition to the shared settings."""
    objective: Literal["mean_psnr", "worst_psnr", "forgetting_db"] = "mean_psnr"
    """Score that tuning optimizes, on validation images, as a mean over tasks and `seeds`."""
    seeds: list[int] = Field([1000], min_length=1)
    """Seeds of the trials. The comparison is trained on the `seeds` of the experiment, which must be others."""


@dataclass(frozen=True)
class Study:
    """Tuning of one strategy: its search, its settings, and its default."""

    label: str
    plan: Plan
    space: tuple[Dimension, ...]

    @property
    def default(self) -> dict[str, Any]:
        """Path of every tuned setting -> value in the experiment."""
        return {one.name: one.default for one in self.space}


@dataclass(frozen=True)
class Tuning:
    """A tuned comparison before anything is trained: one study per strategy, and the experiment to train afterwards."""

    experiment: Experiment
    """The comparison under its name and seeds, every strategy at its default."""
    raw: dict[str, Any]
    studies: tuple[Study, ...]
    config: TuneConfig
    trials: int
    """Number of trials of every strategy."""

    def comparison(self, best: Mapping[str, Mapping[str, Any]]) -> Experiment:
        """Return the experiment with every tuned strategy at its default and at its best.

        `best`: label -> path -> value. The default states its settings too: they were given the same attention.
        """
        strategies: dict[str, Any] = {}
        studies = {one.label: one for one in self.studies}
        for label, parts in self.raw["strategies"].items():
            if label not in studies:
                strategies[label] = parts
                continue
            strategies[label] = _with_values(parts, studies[label].default)
            strategies[label + TUNED] = _with_values(parts, best[label])
        return reading.validate({**self.raw, "strategies": strategies}, self.experiment.name)


def load(file: str, overrides: Sequence[str] = (), trials: int | None = None) -> Tuning:
    """Return the tuning of an experiment file. Raise ConfigError with every mistake found.

    The values of the settings are checked by `trials.prepare`, study by study. A file without `tune:` is tuned with the
    defaults. `trials` replaces the number of trials in the file. `None` keeps it.
    """
    path = reading.find(file)
    raw = reading.with_overrides(reading.read_raw(path), overrides)
    if "search" in raw:
        raise ConfigError(f"{path} is a search: `cmtl-ir search {file}` runs it")
    block = raw.pop("tune", None)
    raw["name"] = _name(raw, path.stem, yaml.read(path), overrides)
    raw.pop("unlearning", None)
    if block is not None and not isinstance(block, Mapping):
        raise ConfigError(f"{path}:\n  tune: expected {{trials: ..., shared: ...}}, found {block!r}")
    try:
        config = TuneConfig.model_validate({**(block or {}), **({} if trials is None else {"trials": trials})})
    except ValidationError as error:
        listed = "\n".join(f"  {one}" for one in problems_of(error, TuneConfig, "tune"))
        raise ConfigError(f"{path}:\n{listed}") from None
    return _tuning(raw, config, str(path))


def _name(raw: Mapping[str, Any], stem: str, own: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Return the name of the comparison: the file's own, or one that leaves the untuned comparison alone."""
    if any(one.startswith("name=") for one in overrides) or {"tune", "name"} <= set(own):
        return str(raw["name"])
    return f"{raw.get('name', 'comparison')}-{stem if 'tune' in own else 'tuned'}"


def _tuning(raw: dict[str, Any], config: TuneConfig, source: str) -> Tuning:
    experiment = reading.validate(raw, source)
    labels = _labels(experiment, config)
    if config.strategies is not None:
        kept = {label: raw["strategies"][label] for label in labels}
        raw = {**raw, "strategies": kept}
        experiment = reading.validate(raw, source)
    raw.setdefault("strategies", {"joint": {}})
    problems: list[Problem] = []
    if common := sorted(set(config.seeds) & set(experiment.seeds)):
        said = f"{common} are also seeds of the comparison, which must be fresh: choose others"
        problems.append(Problem("tune.seeds", said))
    for label in set(config.own) - set(labels):
        problems.append(Problem(f"tune.own.{label}", f"no strategy to tune; {suggestion(label, labels)}"))
    spaces = {label: _space(experiment, label, config, problems) for label in labels}
    count = _trials(config, spaces, problems) if not problems else 0
    taken = {f"{label}{TUNED}" for label in labels} & set(experiment.strategies)
    problems += [Problem(f"strategies.{one}", "is the label of a tuned strategy: give it another") for one in taken]
    if problems:
        listed = "\n".join(f"  {one}" for one in dict.fromkeys(map(str, problems)))
        raise ConfigError(f"{source}:\n{listed}")
    studies = tuple(_study(raw, label, spaces[label], config, count) for label in labels)
    return Tuning(experiment, raw, studies, config, count)


def _labels(experiment: Experiment, config: TuneConfig) -> list[str]:
    """Return the strategies to tune. Raise ConfigError for a label that the experiment does not have."""
    known = list(experiment.strategies)
    if config.strategies is None:
        return [label for label in known if experiment.strategies[label].curriculum.called != "single"]
    for label in config.strategies:
        if label not in known:
            raise ConfigError(f"tune.strategies: no strategy {label!r}; {suggestion(label, known)}")
    return config.strategies


def _space(
    experiment: Experiment, label: str, config: TuneConfig, problems: list[Problem]
) -> tuple[list[Dimension], list[Dimension]]:
    """Return the shared settings of a strategy and those of its own."""
    values = _values(experiment, experiment.strategies[label])
    for path in config.shared:
        if not path.startswith("training."):
            said = "shared settings are settings of training; other settings belong to tune.own.LABEL"
            problems.append(Problem(f"tune.shared.{path}", said))
    own = config.own.get(label, {})
    problems += [Problem(f"tune.own.{label}.{path}", "is shared already") for path in own if path in config.shared]
    shared = dimensions(config.shared, values, "tune.shared", label, problems)
    return shared, dimensions(own, values, f"tune.own.{label}", label, problems)


def _values(experiment: Experiment, strategy: Strategy) -> dict[str, Any]:
    """Return training settings and parts of a strategy, with every default."""
    training = trained_under(experiment, strategy)[0].training
    whole = {key: getattr(training, key) for key in type(training).model_fields}
    return {**strategy.resolved(), "training": {**whole, **training.model_dump(mode="json")}}


def _trials(
    config: TuneConfig, spaces: Mapping[str, tuple[list[Dimension], list[Dimension]]], problems: list[Problem]
) -> int:
    """Return the number of trials of every strategy. It must be possible without trying a setting twice."""
    numbers = {label: settings(shared) for label, (shared, _) in spaces.items()}
    finite = [number for number in numbers.values() if number is not None]
    if config.trials is None:
        if not finite:
            problems.append(Problem("tune.trials", "is required: the shared settings are not finite in number"))
        return finite[0] if finite else 0
    if config.sampler is None:
        for label, number in numbers.items():
            if number is not None and number < config.trials and not spaces[label][1]:
                said = f"{config.trials}, but {label} has only {number} settings; all strategies have as many trials"
                problems.append(Problem("tune.trials", said))
    return config.trials


def _study(
    raw: dict[str, Any], label: str, space: tuple[list[Dimension], list[Dimension]], config: TuneConfig, trials: int
) -> Study:
    shared, own = space
    search = {key: getattr(config, key) for key in StudyConfig.model_fields}
    search |= {"sampler": config.sampler or {"name": "RandomSampler"}, "trials": trials}
    search |= {"objectives": {config.objective: OBJECTIVES[config.objective]}}
    search |= {"space": {f"strategy.{one.name}": one.spec for one in [*shared, *own]}}
    base = {key: value for key, value in raw.items() if key != "strategies"} | {"seeds": config.seeds}
    fixed = points(shared, own, 1 if config.sampler is not None else trials, config.seed)
    made = tuple({f"strategy.{name}": value for name, value in point.items()} for point in fixed)
    name = f"{raw['name']}-{label}"
    plan = Plan(name, base, dict(raw["strategies"][label] or {}), SearchConfig.model_validate(search), made)
    return Study(label, plan, (*shared, *own))


def _with_values(parts: Any, values: Mapping[str, Any]) -> Any:
    """Return a strategy of the file with values at their paths."""
    for path, value in values.items():
        parts = assigned(parts, path.split("."), value)
    return parts
