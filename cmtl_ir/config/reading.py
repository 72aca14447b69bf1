"""Read experiments: find the file, merge `extends:`, apply overrides, validate, and list all mistakes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cmtl_ir.backbones.fields import backbone_fields, published_auxiliary
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.yaml import merged
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.own_training import own_training
from cmtl_ir.config.start import start_from
from cmtl_ir.config.unlearning import unlearning_from
from cmtl_ir.strategy.families import KEYS, Family
from cmtl_ir.strategy.making import auxiliary_objective, part_from
from cmtl_ir.strategy.objective import Objective, labelled

SEES = ("restoration", "total")
"""Values of the key `weighting_sees` of a strategy."""

NAMED = frozenset({"backbone", "loss", "sampler", "pruner", *KEYS})
"""Keys of an experiment file whose fields depend on their `name`."""

log = logging.getLogger("cmtl_ir")


def neutral() -> Strategy:
    """Return the strategy whose parts are all neutral: joint training."""
    return _strategy({}, "neutral", [])


def find(name: str) -> Path:
    """Return the file of a path or of a shipped experiment. Raise ConfigError with similar names."""
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if path.is_file():
            return path
        raise ConfigError(f"{name}: no such file{_shipped_hint(path.stem)}")
    shipped = shipped_experiments()
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"no experiment {name!r}: {suggestion(name, list(shipped))} (or give a path ending in .yaml)")


def _shipped_hint(stem: str) -> str:
    return (
        f"; the shipped experiment of that name runs as `cmtl-ir run {stem}`" if stem in shipped_experiments() else ""
    )


def shipped_experiments() -> dict[str, Path]:
    """Return the file of every experiment that is installed with the package, by name."""
    home = Path(str(resources.files("cmtl_ir.experiments")))
    return {str(path.relative_to(home).with_suffix("")): path for path in sorted(home.rglob("*.yaml"))}


def read_raw(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the mapping in a file, merged over the files that it extends. Raise ConfigError for a cycle."""
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: extends itself: {' -> '.join(str(one) for one in (*seen, path))}")
    content = yaml.read(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    beneath = path.parent / str(base)
    return merged(read_raw(beneath if beneath.is_file() else find(str(base)), (*seen, path)), content, NAMED)


def with_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `path=value` overrides, whose values are YAML; null removes a key. Raise ConfigError without `=`."""
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise ConfigError(f"--set {override!r}: expected path=value, as in training.steps=300")
        nested: Any = yaml.parse(text)
        for key in reversed(dotted.split(".")):
            nested = {key: nested}
        raw = merged(raw, nested, NAMED)
    return raw


def load(name: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a file or of a shipped name. Raise ConfigError with every mistake found."""
    path = find(str(name))
    raw = with_overrides(read_raw(path), overrides)
    if "search" in raw:
        raise ConfigError(f"{path} is a search: `cmtl-ir search {name}` runs it")
    if "tune" in raw:
        raise ConfigError(f"{path} tunes its strategies before it compares them: `cmtl-ir tune {name}` does both")
    experiment = validate(raw, str(name))
    for label, strategy in experiment.strategies.items():
        if strategy.surgery is not None and strategy.idle_weighting:
            log.warning(
                "strategies.%s: where the tasks' gradients are independent, the direction of %s does not depend on "
                "task weights; %s changes the length of its steps alone",
                *(label, strategy.surgery.called, strategy.weighting.called),
            )
    return experiment


def validate(raw: Mapping[str, Any], source: str) -> Experiment:
    """Return the experiment of raw keys and values. Raise ConfigError with all mistakes and their paths."""
    problems: list[Problem] = []
    content = dict(raw)
    strategies = content.pop("strategies", {"joint": {}})
    content["backbone"] = backbone_fields(content.get("backbone", {"name": "nafnet"}), problems)
    content["training"], shared = _without_auxiliary(content.get("training", {}), problems)
    if shared is None:
        strategies = _with_published(strategies, published_auxiliary(content["backbone"]["name"]))
    content["strategies"] = _strategies(strategies, shared or [], content["training"], problems)
    content["unlearning"] = unlearning_from(
        content.get("unlearning"), _names_of(content.get("tasks")), list(content["strategies"]), problems
    )
    experiment = None
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        problems += problems_of(error, Experiment)
    if problems or experiment is None:
        listed = "\n".join(f"  {problem}" for problem in dict.fromkeys(str(one) for one in problems))
        raise ConfigError(f"{source}:\n{listed}")
    experiment._plain = _plain(content["backbone"]["name"], shared)
    return experiment


def _plain(backbone: str, shared: list[Any] | None) -> Strategy:
    """Return the strategy that `strategies: {LABEL: {}}` would stand for."""
    own = {} if shared is not None else {"auxiliary": published_auxiliary(backbone)}
    return _strategy(own, "neutral", [], shared)


def plain_of(experiment: Experiment) -> Strategy:
    """Return a strategy that names nothing under an experiment: neutral parts, with the objectives that all share."""
    return experiment._plain if experiment._plain is not None else _plain(experiment.backbone["name"], None)


def _names_of(tasks: Any) -> list[str]:
    return [str(name) for name in tasks] if isinstance(tasks, Mapping) else []


def _with_published(strategies: Any, published: list[Any]) -> Any:
    """Return the strategies with the objectives of the backbone's published training where they name none."""
    if not published or not isinstance(strategies, Mapping):
        return strategies
    return {
        label: {"auxiliary": published, **(raw or {})} if isinstance(raw, Mapping | None) else raw
        for label, raw in strategies.items()
    }


def _without_auxiliary(training: Any, problems: list[Problem]) -> tuple[Any, list[Any] | None]:
    """Return `training` without its key `auxiliary`, and the list of that key, which every strategy gets.

    The list is `None` if the key is missing.
    """
    if not isinstance(training, Mapping) or "auxiliary" not in training:
        return training, None
    given = training["auxiliary"]
    if not isinstance(given, list | None):
        problems.append(Problem("training.auxiliary", f"expected a list of objectives, found {given!r}"))
    rest = {key: value for key, value in training.items() if key != "auxiliary"}
    return rest, given if isinstance(given, list) else []


def _strategies(raw: Any, shared: list[Any], training: Any, problems: list[Problem]) -> Any:
    if not isinstance(raw, Mapping) or not raw:
        problems.append(Problem("strategies", "expected label: {curriculum: ..., weighting: ..., surgery: ...}"))
        return {"joint": _strategy({}, "strategies.joint", [])}
    return {
        str(label): _strategy(parts, f"strategies.{label}", problems, shared, training) for label, parts in raw.items()
    }


def _strategy(
    raw: Any, path: str, problems: list[Problem], shared: list[Any] | None = None, training: Any = None
) -> Strategy:
    """Return the strategy that a file describes.

    `shared` are the auxiliary objectives, and `training` the training settings, of every strategy.
    """
    parts = raw if isinstance(raw, Mapping) else {}
    if raw is not None and not isinstance(raw, Mapping):
        problems.append(Problem(path, f"expected parts such as {{surgery: pcgrad}}, found {raw!r}"))
    for key in parts:
        if key not in (known := [*KEYS, "weighting_sees", "training", "start"]):
            problems.append(Problem(f"{path}.{key}", f"unknown part; {suggestion(str(key), known)}"))
    made: dict[str, Any] = {}
    for key, family in KEYS.items():
        read = _parts if family.many else _part
        made[key] = read(family, parts.get(key), f"{path}.{key}", problems) if key != "auxiliary" else ()
    made["auxiliary"] = _auxiliary(parts.get("auxiliary"), path, shared or [], problems)
    made["weighting_sees"] = parts.get("weighting_sees", SEES[0])
    if made["weighting_sees"] not in SEES:
        said = f"expected {' or '.join(SEES)}, found {made['weighting_sees']!r}"
        problems.append(Problem(f"{path}.weighting_sees", said))
    made["training"] = own_training(training, parts.get("training"), f"{path}.training", problems)
    made["start"] = start_from(parts.get("start"), f"{path}.start", problems)
    return Strategy.model_construct(**made)


def _part(family: Family, given: Any, path: str, problems: list[Problem]) -> Any:
    """Return the part of a key, or the neutral part if the key is absent."""
    part = part_from(family.name, given, path, problems) if given is not None else None
    if isinstance(part, family.base()) or family.neutral is None:
        return part
    return part_from(family.name, family.neutral, path, [])


def _parts(family: Family, given: Any, path: str, problems: list[Problem]) -> tuple[Any, ...]:
    given = [] if given is None else given
    if not isinstance(given, list):
        problems.append(Problem(path, f"expected a list of names or {{name: ..., field: value}}, found {given!r}"))
        return ()
    made = [part_from(family.name, one, f"{path}[{place}]", problems) for place, one in enumerate(given)]
    return tuple(part for part in made if part is not None)


def _auxiliary(given: Any, path: str, shared: list[Any], problems: list[Problem]) -> tuple[Objective, ...]:
    """Return the auxiliary objectives that ever act: those of `training`, then those of the strategy."""
    own = given if isinstance(given, list) else [] if given is None else [given]
    places = [f"training.auxiliary.{number}" for number in range(len(shared))]
    places += [
        f"{path}.auxiliary.{number}" if isinstance(given, list) else f"{path}.auxiliary" for number in range(len(own))
    ]
    made = [auxiliary_objective(one, place, problems) for one, place in zip([*shared, *own], places, strict=True)]
    return labelled([one for one in made if one is not None and one.acts])
