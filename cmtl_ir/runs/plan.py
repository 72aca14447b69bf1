"""Planning of runs before training: their hashes, their data, and the work that trains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from cmtl_ir.backbones.building import pick_device
from cmtl_ir.backbones.fields import name_as_trained
from cmtl_ir.base.errors import ConfigError, UserError, suggestion
from cmtl_ir.base.ranks import ALONE, Ranks
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.own_training import flat, trained_under, with_steps
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.metric import smallest_side
from cmtl_ir.runs.begin.weights import (
    StartWeights,
    source_digest,
    start_identity,
    start_weights,
    weights_of_named_runs,
)
from cmtl_ir.runs.identity import apart_from_seed, identity_of
from cmtl_ir.runs.teachers import FinishedRuns, SingleTaskTeachers, proxy_losses
from cmtl_ir.runs.watching.watcher import Curve
from cmtl_ir.store.folder import has_config, read_identity
from cmtl_ir.store.layout import run_folder
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.strategy.families import KEYS
from cmtl_ir.strategy.making import described
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.training.learner import Learner

TRAINING = "cmtl_ir.runs.ordinary:train_run"
"""The work of an ordinary run."""
AFTER_PROXIES = "cmtl_ir.grouping.proxies:train_after_proxies"
"""The work of a run whose curriculum has proxies."""


class Start(Protocol):
    """The start of a run that does not start from initial weights."""

    @property
    def step(self) -> int:
        """Number of steps that are taken over from another run."""

    def __call__(self, learner: Learner) -> Curve:
        """Bring a fresh learner to the start and return the part of the curve that is taken over.

        Also called before a run is resumed from its checkpoint.
        """


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run and everything that is needed to train it."""

    run: Run
    experiment: Experiment
    """Experiment of the run, with the training settings of its strategy. Its `name` is the comparison to which the run
    belongs."""
    tasks: dict[str, Task]
    """Tasks with their data, under the seed of the run."""
    strategy: Strategy
    device: torch.device
    begin: Start | None = None
    """Start of the run. `None` starts from initial weights."""
    work: str = TRAINING
    """Function that trains the run, as `module:function`. It takes an `execution.ActiveRun`."""
    declared: Experiment | None = None
    """Experiment whose strategy of this label has training settings of its own. `None` if it has none."""
    weights: StartWeights | None = None
    """Weights that the learner begins from. `None` stands for initial weights."""
    proxies: tuple[str, ...] = ()
    """Hashes of the finished runs that the curriculum stands on (`Curriculum.proxies`)."""
    rescorable: bool = True
    """Whether the run may take over the weights of a finished run with the same training. `--fresh` trains it."""

    def at_seed(self, seed: int, out: Path) -> Run:
        """Return the run of another seed. Under `data.holdout: rotate` its images are still those of this run.

        If the weights that it begins from are not found, their hash is `None`.
        """
        identity = {**self.run.identity, "seed": seed}
        if self.weights is not None:
            identity["start"] = {**self.weights.identity, "weights": None}
            with suppress(UserError):
                identity["start"] = start_identity(self.experiment, self.strategy, seed, out)
        return replace(self.run, seed=seed, identity=identity)

    @property
    def steps_taken_over(self) -> int:
        """Number of steps of the run's curve that another run made."""
        return self.begin.step if self.begin is not None else 0

    def learner(self, ranks: Ranks = ALONE) -> Learner:
        """Return a learner with the weights that the run begins from."""
        learner = Learner(self.experiment, self.strategy, self.tasks, self.run.seed, self.device, ranks)
        learner.teachers = self.teachers()
        learner.finished_runs = FinishedRuns(self.run.folder.parent.parent, self.device)
        if self.proxies:
            learner.proxies = partial(proxy_losses, learner, learner.finished_runs, self.proxies)
        if self.weights is not None:
            self.weights(learner)
        return learner

    def teachers(self) -> SingleTaskTeachers:
        """Return the networks of the single-task runs of this experiment and seed."""
        shared = self.declared or self.experiment
        return SingleTaskTeachers(shared, self.run.seed, self.tasks, self.run.folder.parent, self.device)

    @property
    def needs_teachers(self) -> bool:
        """Whether the single-task runs must be finished before this run."""
        strategy = self.strategy
        return strategy.curriculum.needs_teachers or any("teacher:single" in one.needs for one in strategy.auxiliary)

    def started(self, learner: Learner) -> Curve:
        """Bring a fresh learner to where the run starts and return the part of the curve that is taken over."""
        return self.begin(learner) if self.begin is not None else []

    def evaluator(self) -> Evaluator:
        """Return the evaluator that scores the run on its test images."""
        evaluation = self.experiment.evaluation
        return Evaluator(self.tasks, evaluation.protocol, evaluation.tile, self.device, metrics=evaluation.metrics)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the run for the tracking store."""
        parts = self.strategy.names()
        training = self.experiment.training
        auxiliary = {objective.called for objective in self.strategy.auxiliary}
        return {
            **parts,
            **_hyper_parameters(self.strategy),
            **{f"backbone.{key}": value for key, value in self.experiment.backbone.items() if key != "name"},
            **{key: value for key, value in self.run.tags.items() if key.startswith("search.")},
            "seed": self.run.seed,
            "backbone": name_as_trained(self.experiment.backbone["name"], auxiliary),
            "steps": training.steps,
            "batch": training.batch,
            "lr": training.optimizer.lr,
            "tasks": ",".join(self.tasks),
        }


def _hyper_parameters(strategy: Strategy) -> dict[str, Any]:
    """Return every field of every part under its path, as in `weighting.temperature`. A list numbers its parts."""
    found: dict[str, Any] = {}
    for key, family in KEYS.items():
        for place, part in enumerate(strategy.parts_of(key)):
            above = f"{key}.{place}" if family.many else key
            fields = described(part) or {}
            found |= {path: value for path, value in flat(fields, f"{above}.").items() if path != f"{above}.name"}
    return found


@dataclass(frozen=True)
class Comparison:
    """The runs of one experiment, and the folder of its tables and figures."""

    experiment: Experiment
    folder: Path
    runs: list[Run]
    failures: dict[str, str]
    tracking: Tracking
    parent: str
    """MLflow run that stands for the comparison, as `Tracking.publish` takes it; `Tracking.settled` gives its id."""

    def results(self) -> list[dict[str, Any]]:
        """Return the results of the finished runs, each with its label."""
        return [{"label": run.label, **run.result()} for run in self.runs if run.status == "finished"]


@dataclass(frozen=True)
class Prepared:
    """An experiment with its data found and its runs planned, before anything is trained."""

    experiment: Experiment
    tasks: dict[int, dict[str, Task]]
    """Seed -> name -> task."""
    planned: list[PlannedRun]
    out: Path
    device: torch.device

    @property
    def runs(self) -> list[Run]:
        """The planned runs, without the objects needed to train them."""
        return [one.run for one in self.planned]

    def is_stale(self, row: Mapping[str, Any]) -> bool:
        """Return whether a listed run belongs to another definition of a strategy of this plan.

        Rows of strategies that this plan lacks are not judged.
        """
        one = next((one for one in self.planned if one.run.label == row["label"]), None)
        if one is None:
            return False
        own = one.at_seed(row["seed"], self.out)
        if own.hash == row["hash"]:
            return False
        folder = own.folder.parent / row["hash"]
        start = own.identity.get("start", {})
        lost = "weights" in start and start["weights"] is None
        if not has_config(folder):  # not started; under `rotate`, its hash is not known here
            return own.identity.get("holdout") != "rotate" and not lost
        found, wanted = apart_from_seed(read_identity(folder)), apart_from_seed(own.identity)
        if lost and "start" in found:
            wanted["start"] = {**start, "weights": found["start"]["weights"]}
        return found != wanted


def prepare(experiment: Experiment, out: Path, device: str = "auto") -> Prepared:
    """Find the data and plan the runs. Every mistake that can be found without training is raised here."""
    chosen = pick_device(device)
    smallest = smallest_side(experiment.evaluation.protocol, experiment.evaluation.metrics)
    tasks = {
        seed: build_tasks(experiment.tasks, experiment.data, seed, chosen, smallest=smallest)
        for seed in experiment.seeds
    }
    planned = []
    for label, strategy in experiment.strategies.items():
        if strategy.grouping is not None:
            _check_grouping(label, strategy, tasks[experiment.seeds[0]])
        runs = weights_of_named_runs(strategy, out)
        work = _work_of(strategy, tasks[experiment.seeds[0]])
        own, trained = trained_under(experiment, strategy)
        declared = experiment if strategy.training is not None else None
        for seed in experiment.seeds:
            weights = _start(label, own, trained, seed, out)
            begun = weights.identity if weights is not None else None
            identity = identity_of(own, trained, seed, tasks[seed], begun, runs)
            identity = _with_models(label, identity, trained, seed, out)
            run = Run(label, seed, identity, run_folder(out, hash_of(identity)))
            one = PlannedRun(run, own, tasks[seed], trained, chosen, work=work, declared=declared, weights=weights)
            planned.append(one)
    return Prepared(experiment, tasks, planned, out, chosen)


def _start(label: str, experiment: Experiment, strategy: Strategy, seed: int, out: Path) -> StartWeights | None:
    """Return the weights that a strategy begins from. Raise ConfigError with its key if there are none such."""
    key = "start" if strategy.start is None else f"strategies.{label}.start"
    try:
        weights = start_weights(experiment, strategy, seed, out)
    except UserError as error:
        raise ConfigError(f"{key}: {error}") from error
    if weights is not None and strategy.grouping is not None:
        raise ConfigError(
            f"{key}: the groups of {label} train networks of their own, which cannot begin from the weights of one; "
            f"set strategies.{label}.start to `initial`"
        )
    if weights is not None and strategy.curriculum.proxies(tuple(experiment.tasks)):
        raise ConfigError(
            f"{key}: the short runs that {strategy.curriculum.called} stands on begin from initial weights, and so "
            f"must {label}; set strategies.{label}.start to `initial`"
        )
    return weights


def _with_models(label: str, identity: dict[str, Any], strategy: Strategy, seed: int, out: Path) -> dict[str, Any]:
    """Return an identity with the hashes of the networks that a grouping is given, in place of their names."""
    grouping = strategy.grouping
    if grouping is None or not grouping.ready:
        return identity
    try:
        digests = [source_digest(source, seed, out) for source in grouping.ready.values()]
    except UserError as error:
        raise ConfigError(f"strategies.{label}.grouping.models: {error}") from error
    part = {**identity["strategy"]["grouping"], "models": digests}
    return {**identity, "strategy": {**identity["strategy"], "grouping": part}}


def _work_of(strategy: Strategy, tasks: Mapping[str, Task]) -> str:
    if strategy.grouping is not None:
        return strategy.grouping.work
    return AFTER_PROXIES if strategy.curriculum.proxies(tuple(tasks)) else TRAINING


def _check_grouping(label: str, strategy: Strategy, tasks: Mapping[str, Task]) -> None:
    """Raise ConfigError if a grouping is invalid for these tasks."""
    grouping = strategy.grouping
    assert grouping is not None
    try:
        grouping.check(list(tasks))
    except UserError as error:
        raise ConfigError(f"strategies.{label}.{error}") from None
    missing = [name for name, task in tasks.items() if task.splits.val is None]
    if grouping.needs_validation and missing:
        raise ConfigError(
            f"strategies.{label}.grouping: {grouping.called} chooses on validation images, which {', '.join(missing)} "
            "do(es) not have: set data.val to a share of the training images (--set data.val=0.2) or to a folder"
        )


def narrowed_to(experiment: Experiment, chosen: Sequence[str], seeds: Sequence[int], steps: int | None) -> Experiment:
    """Return the experiment with the chosen strategies, seeds and number of steps.

    An empty `chosen` or `seeds` keeps all. `steps=None` keeps the number of steps. Raises UserError for an unknown
    strategy.
    """
    for label in chosen:
        if label not in experiment.strategies:
            raise UserError(f"--strategy {label!r}: {suggestion(label, list(experiment.strategies))}")
    if len(set(seeds)) < len(seeds) or any(abs(seed) >= 2**63 for seed in seeds):
        raise UserError(f"--seed {list(seeds)}: expected each seed once, between -2^63 and 2^63 - 1")
    update: dict[str, Any] = {}
    if chosen:
        update["strategies"] = {label: experiment.strategies[label] for label in chosen}
    if seeds:
        update["seeds"] = list(seeds)
    if steps is not None:
        update["training"] = experiment.training.model_copy(update={"steps": steps})
        kept = update.get("strategies", experiment.strategies)
        update["strategies"] = {label: with_steps(one, steps) for label, one in kept.items()}
    return experiment.model_copy(update=update)
