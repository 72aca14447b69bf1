"""Training settings of a single strategy: `strategies.LABEL.training`, merged over those of the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.yaml import merged
from cmtl_ir.config.experiment import Experiment, Strategy, TrainingConfig

BY_NAME = ("optimizer", "schedule")
"""Settings that may be given as a name alone."""


def own_training(shared: Any, given: Any, path: str, problems: list[Problem]) -> dict[str, Any] | None:
    """Return the settings that a strategy states, checked and as plain data. `None` if it states none.

    `shared`: raw `training` of the experiment. Mistakes are added to `problems` under `path`. A setting is kept even
    if it equals that of the experiment, because it was set for this strategy.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        problems.append(Problem(path, f"expected settings such as {{optimizer: {{lr: 1e-3}}}}, found {given!r}"))
        return None
    if "auxiliary" in given:
        problems.append(Problem(f"{path}.auxiliary", "belongs one level higher: `auxiliary` is a key of the strategy"))
        return None
    named = {
        key: {"name": value} if key in BY_NAME and isinstance(value, str) else value for key, value in given.items()
    }
    try:
        whole = _over(_checked(shared), named)
    except ValidationError as error:
        problems += problems_of(error, TrainingConfig, path)
        return None
    return _stated(named, whole.model_dump(mode="json"))


def trained_under(experiment: Experiment, strategy: Strategy) -> tuple[Experiment, Strategy]:
    """Return the experiment with the training settings of a strategy, and the strategy without settings of its own."""
    if strategy.training is None:
        return experiment, strategy
    update = {"training": _over(experiment.training, strategy.training)}
    return experiment.model_copy(update=update), strategy.model_copy(update={"training": None})


def with_steps(strategy: Strategy, steps: int) -> Strategy:
    """Return a strategy that trains for `steps` steps, like an experiment whose number of steps is replaced."""
    if strategy.training is None or "steps" not in strategy.training:
        return strategy
    return strategy.model_copy(update={"training": {**strategy.training, "steps": steps}})


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return dotted path -> value of nested settings."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inside = isinstance(value, Mapping)
        found |= flat(value, f"{above}{key}.") if inside else {f"{above}{key}": value}
    return found


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings as one line, such as `optimizer.lr 0.002, clip 1.0`."""
    return ", ".join(f"{path} {value}" for path, value in flat(settings).items())


def _checked(shared: Any) -> TrainingConfig:
    """Return the settings of the experiment, or the defaults if they are wrong: their mistakes are listed elsewhere."""
    try:
        return TrainingConfig.model_validate(shared)
    except ValidationError:
        return TrainingConfig()


def _over(shared: TrainingConfig, own: Mapping[str, Any]) -> TrainingConfig:
    """Merge settings over those of an experiment. A loss that states its name replaces the whole loss."""
    beneath = shared.model_dump(mode="json")
    loss = own.get("loss")
    if isinstance(loss, Mapping):
        before = beneath["loss"]
        fields = {"name": before} if isinstance(before, str) else before
        beneath["loss"] = {} if "name" in loss else fields
    return TrainingConfig.model_validate(merged(beneath, own))


def _stated(given: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked values of the keys that are given. Defaults are filled in where a whole block was reset."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        checked = whole.get(key)
        if isinstance(value, Mapping) and isinstance(checked, Mapping) and key != "loss":
            checked = _stated(value, checked)
        found[key] = checked
    return found
