"""The Optuna study of a search: its storage, sampler and pruner."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from cmtl_ir.base.errors import ConfigError, UserError, suggestion
from cmtl_ir.base.keyed import name_key
from cmtl_ir.search.config import Plan
from cmtl_ir.search.queue import PLACE
from cmtl_ir.tracking.mlflow_store import shown, sqlite_file, sqlite_uri

logging.getLogger("optuna").setLevel(logging.ERROR)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def open_study(plan: Plan, folder: Path) -> Study:
    """Open the study of a plan, or create it. Raise UserError if it belongs to another search or cannot be stored."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "opening.lock", timeout=300):  # two processes must not create the database together
            study = optuna.create_study(
                storage=_storage(plan, folder),
                study_name=plan.name,
                sampler=sampler_of(plan),
                pruner=pruner_of(plan),
                directions=list(plan.search.objectives.values()),
                load_if_exists=True,
            )
            _check_same_search(study, plan)
    except UserError:
        raise
    except Exception as error:
        where = shown(plan.search.storage)
        raise UserError(f"the study's storage {where} cannot be used ({type(error).__name__}: {error})") from error
    return study


def _check_same_search(study: Study, plan: Plan) -> None:
    """Raise UserError if the study belongs to another search.

    Scores of a study are comparable only if experiment, space and objectives stay the same.
    """
    raw = {key: value for key, value in plan.raw.items() if key not in ("checkpoint", "evaluation")}
    parts = {**raw, "strategy": plan.strategy, "space": plan.search.space, "objectives": plan.search.objectives}
    prints = {key: format(name_key(0, _canonical(value)), "016x") for key, value in parts.items()}
    before = study.user_attrs.get("cmtl_ir")
    if before is None:
        study.set_user_attr("cmtl_ir", prints)
        return
    other = [key for key in {**before, **prints} if before.get(key) != prints.get(key)]
    if other:
        raise UserError(
            f"the study {plan.name!r} in {shown(plan.search.storage)} belongs to another search: it differs in "
            f"{', '.join(sorted(other))}. Give this one its own name (--set name=NEW)"
        )


def _canonical(value: Any) -> str:
    import json

    return json.dumps(value, sort_keys=True, default=str)


# --------------------------------------------------------------------------------------------------- storage


def storage_file(plan: Plan, folder: Path) -> Path | None:
    """Return the file that holds the study. `None` if a database server holds it.

    All processes that share the study also share the folder of the file.
    """
    given = plan.search.storage
    if given in ("sqlite", "journal"):
        return folder / ("study.db" if given == "sqlite" else "study.journal")
    return Path(given.removeprefix("journal:")) if given.startswith("journal:") else sqlite_file(given)


def _storage(plan: Plan, folder: Path) -> optuna.storages.BaseStorage:
    given, file = plan.search.storage, storage_file(plan, folder)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if given.startswith("journal"):
            from optuna.storages.journal import JournalFileBackend

            return optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    elif "://" not in given:
        raise ConfigError(
            f"search.storage: expected sqlite, journal, journal:FILE or a database's URL, found {given!r}"
        )
    url = given if file is None else sqlite_uri(file)
    patience = {} if file is None else {"connect_args": {"timeout": 120}}
    return optuna.storages.RDBStorage(url, engine_kwargs=patience, heartbeat_interval=plan.search.heartbeat)


# ------------------------------------------------------------------------------------------ samplers and pruners


class ByNumber(BaseSampler):
    """A sampler that is created again for each trial, from the seed of the study and the number of the trial.

    Optuna does not store the state of a sampler's generator. With a single seed, a killed study would draw its first
    settings twice. A trial that resumes a dead one counts under the number of its place in the queue.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed
        self._number, self._sampler = -1, make(seed)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            self._number = trial.number
            place = trial.user_attrs.get(PLACE, trial.number)
            self._sampler = self.make(name_key(self.seed, "trial", place) & 0x7FFFFFFF)
        return self._sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Inform the sampler, except about failed trials.

        Trials of dead processes are failed outside of `optimize`, where a sampler has no loop to stop.
        """
        if state != TrialState.FAIL:
            self._of(trial).after_trial(study, trial, state, values)


def sampler_of(plan: Plan) -> BaseSampler:
    """Return the sampler of a search."""
    spec = plan.search.sampler
    if spec is None:
        spec = {"name": "TPESampler"}
    alike = spec.get("name") == "QMCSampler"  # one sequence, and so one seed, for the whole study

    def make(seed: int) -> BaseSampler:
        return _built(spec, optuna.samplers, "search.sampler", plan.search.seed if alike else seed)

    return ByNumber(make, plan.search.seed)


def pruner_of(plan: Plan) -> optuna.pruners.BasePruner:
    """Return the pruner of a search. A search without one prunes nothing."""
    if plan.search.pruner is None:
        return optuna.pruners.NopPruner()
    return _built(plan.search.pruner, optuna.pruners, "search.pruner", None)


def _built(spec: Mapping[str, Any], module: ModuleType, path: str, seed: int | None) -> Any:
    """Create the object that `{name: CLASS, option: value}` describes. An option may be another such mapping."""
    known = [name for name in dir(module) if name.endswith(("Sampler", "Pruner")) and not name.startswith("Base")]
    name = spec.get("name")
    if name not in known:
        raise ConfigError(f"{path}: no {name!r} in Optuna {optuna.__version__}; {suggestion(str(name), known)}")
    cls = getattr(module, name)
    options = {key: value for key, value in spec.items() if key != "name"}
    for key, value in options.items():
        if isinstance(value, Mapping) and "name" in value:
            options[key] = _built(value, module, f"{path}.{key}", seed)
    if seed is not None and "seed" in inspect.signature(cls).parameters:
        options.setdefault("seed", seed)
    try:
        return cls(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{path}: {error}. {name}{inspect.signature(cls)}") from None
