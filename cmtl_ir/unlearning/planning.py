"""Runs of unlearning requests: each result of a method is a run in the store, identified by its hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment, Strategy, TrainingConfig
from cmtl_ir.config.reading import merged, neutral
from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.runs.identity import SEMANTICS_VERSION
from cmtl_ir.runs.plan import PlannedRun, Start
from cmtl_ir.runs.watching.watcher import Curve
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import is_finished
from cmtl_ir.store.layout import WEIGHTS, run_folder
from cmtl_ir.store.listing import claim_folder, listed_runs
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.strategy.making import described
from cmtl_ir.strategy.unlearning import Ensemble, Program, Request, Rerun, Unlearner
from cmtl_ir.training.learner import Learner
from cmtl_ir.unlearning.origin import Origin, stages_of

REFERENCE = "retrain"
"""Name of the method whose result is the reference of all others."""


def job_name(label: str, seed: int) -> str:
    """Return the name of a job in messages."""
    return f"{label}, seed {seed}"


@dataclass(frozen=True)
class Job:
    """The work of one method for one seed."""

    origin: Origin
    label: str
    method: Unlearner
    forget: tuple[str, ...]
    use_retain: bool = True
    """Whether the data of the retained tasks may be read."""

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return job_name(self.label, self.origin.seed)

    @property
    def forgotten(self) -> tuple[str, ...]:
        """All tasks that are forgotten when the job is done, in the order of the requests."""
        return (*self.origin.forgotten, *self.forget)

    @property
    def retained(self) -> tuple[str, ...]:
        """Tasks that the run keeps."""
        return tuple(task for task in self.origin.kept if task not in self.forget)


@dataclass(frozen=True)
class FromWeights:
    """A start from the weights of a finished run."""

    file: Path
    step: int = 0

    def __call__(self, learner: Learner) -> Curve:
        """Load the weights. No part of a curve is taken over."""
        learner.model.load_state_dict(checkpoint.load_weights(self.file)[0])
        return []


@dataclass(frozen=True)
class Without:
    """A start at the end of stage number `stage` of the origin, with tasks excluded. Stage 0 is the first step."""

    origin: Origin
    forgotten: tuple[str, ...]
    stage: int = 0

    @property
    def step(self) -> int:
        """Number of steps that are taken over from the origin."""
        return self.origin.stage_end(self.stage).step if self.stage > 0 else 0

    def __call__(self, learner: Learner) -> Curve:
        """Load the end of the stage and return the curve up to it."""
        learner.excluded = frozenset(self.forgotten)
        if self.stage == 0:
            return []
        learner.load_tree(self.origin.stage_end(self.stage).tree)
        return [point for point in self.origin.root_curve() if point["step"] <= learner.step]


def refuse_impossible(job: Job) -> None:
    """Raise UserError if the method needs data that must not be read, or a training that began without the tasks."""
    if isinstance(job.method, Rerun | Ensemble) and OUTSIDE in job.origin.identity:
        raise UserError(
            f"{job.method.called} repeats the training of {job.origin.name}, an outside model whose training is not "
            f"known; choose another method, and give the weights of a model that was trained without "
            f"{', '.join(job.forget)} as --reference FILE"
        )
    if isinstance(job.method, Rerun | Ensemble) and "start" in job.origin.identity:
        raise UserError(
            f"{job.method.called} trains again from where {job.origin.name} began. These are the weights of its "
            f"`start`, which may know {', '.join(job.forget)}, so the result would not be exact; choose another "
            "method, or train a run that begins from initial weights"
        )
    if isinstance(job.method, Ensemble) and job.origin.experiment.training.progressive is not None:
        raise UserError(
            f"{job.method.called} divides the samples of a training with one batch size, but that of {job.origin.name} "
            "has training.progressive; choose another method"
        )
    if not job.use_retain and job.method.wants_retain():
        free = "`retain: false`" if "retain" in type(job.method).model_fields and not job.method.needs_retain else ""
        way = f"set {free}" if free else "the methods `ascent` and `instance_wise` with `retain: false` need none"
        own = f" ({job.label})" if job.label != job.method.called else ""
        raise UserError(
            f"{job.method.called}{own} needs data of the retained tasks ({', '.join(job.retained)}), and none are to "
            f"be read; {way}"
        )


def reference_identity(job: Job) -> dict[str, Any]:
    """Return the identity of the retrained reference, which is the ordinary run without all forgotten tasks.

    It does not depend on the order of the requests.
    """
    return {**job.origin.identity, "without": sorted(job.forgotten)}


def reference_folder(job: Job) -> Path | None:
    """Return the folder of the retrained reference. `None` if it is not finished.

    The reference of an outside model is the one that was given for this request.
    """
    if OUTSIDE in job.origin.identity:
        return given_reference(job.origin, job.forget)
    folder = job.origin.folder.parent / hash_of(reference_identity(job))
    return folder if is_finished(folder) else None


def given_reference(origin: Origin, forget: Sequence[str]) -> Path | None:
    """Return the folder of the model that was given as trained without the tasks. `None` if none was given."""
    out = origin.folder.parent.parent
    for row in listed_runs(out / comparison_name(origin, forget)):
        given = row.get("method") == REFERENCE and row.get("parent") == origin.hash
        if given and is_finished(folder := run_folder(out, row["hash"])):
            return folder
    return None


def plan(job: Job) -> PlannedRun:
    """Plan the run of a job.

    A method that wants a target uses the retrained reference if it is finished at this moment, otherwise the identity.
    """
    refuse_impossible(job)
    if isinstance(job.method, Rerun):
        return _rerun(job, job.method)
    reference = reference_folder(job) if job.method.wants_target() else None
    method = job.method.model_copy(deep=True)
    method.ask(_request(job, reference))
    experiment = experiment_for(job, method.recipe())
    target = (reference.name if reference is not None else "identity") if job.method.wants_target() else None
    identity = identity_for(job, experiment, {"target": target})
    strategy = neutral().model_copy(update={"curriculum": Program.of(method.stages()), "retention": method})
    begin = FromWeights(job.origin.folder / WEIGHTS)
    return planned(job, job.label, experiment, strategy, identity, begin)


def _rerun(job: Job, method: Rerun) -> PlannedRun:
    origin, number = job.origin, 0
    experiment = named(origin.experiment, job)
    if not method.is_reference:
        number = method.starting_stage(stages_of(origin.stage_end().tree), job.forgotten)
    begin, identity = Without(origin, job.forgotten, number), reference_identity(job)
    if number > 0:  # otherwise the run is the retrained reference itself
        identity = identity_for(job, experiment, {"from_step": begin.step})
    return planned(job, job.label, experiment, origin.strategy, identity, begin)


def planned(
    job: Job,
    label: str,
    experiment: Experiment,
    strategy: Strategy,
    identity: dict[str, Any],
    begin: Start | None,
) -> PlannedRun:
    """Return a planned run with its folder in the store and the data of the origin."""
    origin = job.origin
    run = Run(label, origin.seed, identity, origin.folder.parent / hash_of(identity), tags_of(job))
    return PlannedRun(run, experiment, origin.tasks, strategy, origin.device, begin)


def identity_for(job: Job, experiment: Experiment, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that determines the weights: parent run, method with all fields, forgotten tasks and seed."""
    return {
        "meaning": SEMANTICS_VERSION,
        "backbone": experiment.backbone,
        "training": experiment.training.model_dump(mode="json"),
        "protocol": experiment.evaluation.protocol,
        "unlearning": {
            "method": described(job.method),
            "forget": list(job.forget),
            "forgotten": list(job.forgotten),
            "retained": list(job.retained) if job.use_retain else [],
            "parent": job.origin.hash,
            "origin": job.origin.root.name,
            **more,
        },
        "seed": job.origin.seed,
    }


def experiment_for(job: Job, recipe: Mapping[str, Any]) -> Experiment:
    """Return the origin's experiment with the recipe of the method.

    It is scored at stage ends only and logs no conflict statistics. Crops have the side `data.patch`. No weights are
    chosen by validation images: the best ones for all tasks are those that have forgotten least.
    """
    experiment = named(job.origin.experiment, job)
    unselected = experiment.training.model_copy(update={"keep_best": None, "stop_early": None, "progressive": None})
    training = TrainingConfig.model_validate(merged(unselected.model_dump(mode="json"), recipe))
    return experiment.model_copy(
        update={
            "backbone": job.origin.backbone,
            "training": training,
            "evaluation": experiment.evaluation.model_copy(update={"every": 0}),
            "conflict": experiment.conflict.model_copy(update={"every": 0}),
        }
    )


def named(experiment: Experiment, job: Job) -> Experiment:
    """Return the experiment under the name of the unlearning comparison."""
    return experiment.model_copy(update={"name": comparison_name(job.origin, job.forget)})


def comparison_name(origin: Origin, forget: Sequence[str]) -> str:
    """Return COMPARISON.LABEL-without-TASK, the name of the unlearning comparison."""
    return f"{origin.name}-without-{'-'.join(forget)}"


def claim_request(origins: Sequence[Origin], forget: Sequence[str], out: Path) -> Path:
    """Return the folder of the comparison of a request, and write its experiment to it."""
    name, seeds = comparison_name(origins[0], forget), [one.seed for one in origins]
    return claim_folder(origins[0].experiment.model_copy(update={"name": name, "seeds": seeds}).resolved(), out)


def _request(job: Job, reference: Path | None) -> Request:
    weights = reference / WEIGHTS if reference is not None else None
    return Request(job.forget, job.retained if job.use_retain else (), weights)


def tags_of(job: Job) -> dict[str, str]:
    """Return the tags of a run in the tracking store."""
    return {
        "cmtl_ir.unlearning": job.method.called,
        "cmtl_ir.forgotten": ",".join(job.forgotten),
        "cmtl_ir.parent": job.origin.hash,
    }
