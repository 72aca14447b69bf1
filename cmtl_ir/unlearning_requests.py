"""`cmtl-ir unlearn`: a request to forget, from its words to finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cmtl_ir import yaml
from cmtl_ir.config import Experiment
from cmtl_ir.errors import ConfigError, TrainingError, UserError
from cmtl_ir.journal import Delivery
from cmtl_ir.mlflow_store import shown
from cmtl_ir.parts import Problem
from cmtl_ir.recorder import Progress
from cmtl_ir.runs import Run, claim_folder, execute, merged_rows, set_aside
from cmtl_ir.tracking import Tracking
from cmtl_ir.unlearning import Ensemble, Rerun, Unlearner
from cmtl_ir.unlearning_config import methods_from
from cmtl_ir.unlearning_ensembles import plan_ensemble
from cmtl_ir.unlearning_origin import Origin, check_request, find_origin
from cmtl_ir.unlearning_runs import Job, Planned, comparison_name, plan, refuse_impossible


@dataclass(frozen=True)
class Forgetting:
    """What was asked, what was done, and where its report goes."""

    name: str
    folder: Path
    forget: tuple[str, ...]
    origins: list[Origin]
    jobs: list[Job]
    tracking: Tracking
    parent: str
    """The MLflow run that stands for the request."""
    failures: dict[str, str] = field(default_factory=dict)


def methods_named(names: Sequence[str], steps: int | None = None) -> dict[str, Unlearner]:
    """Name -> method with its defaults, with another number of steps where it has one. Raises ConfigError."""
    problems: list[Problem] = []
    made = methods_from(dict.fromkeys(names), problems)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    if steps is None:
        return made
    counted = {label for label, method in made.items() if type(method).with_steps is not Unlearner.with_steps}
    if not counted:
        raise UserError(f"--steps: {', '.join(made)} have no number of steps to choose")
    return {label: method.with_steps(steps) if label in counted else method for label, method in made.items()}


def unlearn(
    run: str | Path | Sequence[str | Path],
    forget: Sequence[str],
    methods: Mapping[str, Unlearner] | Sequence[str] = ("instance_wise",),
    *,
    steps: int | None = None,
    use_retain: bool = True,
    out: str | Path = "runs",
    device: str = "auto",
    fresh: bool = False,
    tracking_uri: str | None = None,
    progress: Callable[[Run], Progress] | None = None,
) -> Forgetting:
    """Make a finished run (or one a seed) forget tasks by each method; finished results are skipped.

    `use_retain`: False where the retained tasks' data must not be read. Raises UserError for what cannot be done.
    """
    names = [run] if isinstance(run, str | Path) else list(run)
    origins = [find_origin(name, Path(out), device) for name in names]
    asked = prepare_jobs(origins, forget, methods, steps, use_retain)
    return fulfil(origins, asked, Path(out), fresh, tracking_uri, progress)


def prepare_jobs(
    origins: Sequence[Origin],
    forget: Sequence[str],
    methods: Mapping[str, Unlearner] | Sequence[str],
    steps: int | None = None,
    use_retain: bool = True,
) -> list[Job]:
    """Every mistake that needs no training to be found is found here. The retrained reference comes first."""
    check_request(origins, forget)
    known = dict(methods) if isinstance(methods, Mapping) else methods_named(methods, steps)
    jobs = [Job(one, label, method, tuple(forget), use_retain) for label, method in known.items() for one in origins]
    for job in jobs:
        refuse_impossible(job)
    return sorted(jobs, key=lambda job: not (isinstance(job.method, Rerun) and job.method.is_reference))


def runs_of(job: Job) -> list[Planned]:
    """The runs that a job takes; the last is its result."""
    return plan_ensemble(job) if isinstance(job.method, Ensemble) else [plan(job)]


def fulfil(
    origins: Sequence[Origin],
    jobs: Sequence[Job],
    out: Path,
    fresh: bool = False,
    tracking_uri: str | None = None,
    progress: Callable[[Run], Progress] | None = None,
) -> Forgetting:
    """Run the jobs, one after the other."""
    forget, first = jobs[0].forget, origins[0]
    name = comparison_name(first, forget)
    experiment = first.experiment.model_copy(update={"name": name, "seeds": [one.seed for one in origins]})
    folder, tracking = claim_folder(experiment, out), Tracking(tracking_uri, out)
    parent = tracking.parent(name, {}, yaml.dump(experiment.resolved()))
    made = Forgetting(name, folder, forget, list(origins), [], tracking, parent)
    for job in jobs:
        try:
            for one in runs_of(job):
                if fresh:
                    set_aside(one.run.folder)
                execute(one.run, one.prepared, made.tracking, _mlflow_parent(made, job), _shown(one, progress))
            _note(made.folder, job, one.run)
            made.jobs.append(job)
        except TrainingError as error:
            made.failures[f"{job.label}, seed {job.origin.seed}"] = str(error)
    return made


def _shown(one: Planned, progress: Callable[[Run], Progress] | None) -> Progress | None:
    return progress(one.run) if progress is not None else None


def _note(folder: Path, job: Job, run: Run) -> None:
    """The comparison's list of runs: what the report is made of, and what `RUN` may name."""
    row = {"label": job.label, "seed": run.seed, "hash": run.hash, "parent": job.origin.hash}
    file = folder / "runs.json"
    file.write_text(json.dumps(merged_rows(file, [row]), indent=1))


def _mlflow_parent(made: Forgetting, job: Job) -> str:
    """The run that is made to forget, if this store has it; else the comparison."""
    before = Delivery.read(job.origin.folder)
    if before.run_id and before.uri == shown(made.tracking.uri):
        return before.run_id
    return made.parent


def from_experiment(experiment: Experiment, out: Path, device: str = "auto") -> tuple[list[Origin], list[Job]]:
    """Origins and jobs of an experiment file's `unlearning:`. Raises UserError where a run is not finished."""
    from cmtl_ir.runs import prepare

    asked = experiment.unlearning
    if asked is None:
        raise UserError(f"{experiment.name} has no `unlearning:`; say which run is to forget what, by which methods")
    strategy = experiment.strategies[asked.run]
    one_only = experiment.model_copy(update={"strategies": {asked.run: strategy}})
    missing = [run for run in prepare(one_only, out, device).runs if run.status != "finished"]
    if missing:
        seeds = " ".join(f"--seed {run.seed}" for run in missing)
        raise UserError(
            f"{missing[0].name} is not finished ({missing[0].status}); train it first: "
            f"cmtl-ir run FILE --strategy {asked.run} {seeds} --out {out}"
        )
    runs = prepare(one_only, out, device).runs
    origins = [find_origin(run.folder, out, device) for run in runs]
    return origins, prepare_jobs(origins, asked.forget, asked.methods, use_retain=asked.retain)
