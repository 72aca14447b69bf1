"""`cmtl-ir unlearn`: a request to forget, from its words to finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, TrainingError, UserError, suggestion
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.unlearning import methods_from
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.plan import prepare
from cmtl_ir.runs.recorder import Progress
from cmtl_ir.store.folder import is_finished, is_grouped
from cmtl_ir.store.layout import run_folder
from cmtl_ir.store.listing import claim_folder, list_runs, listed_runs, set_aside
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.unlearning import Ensemble, Rerun, Unlearner
from cmtl_ir.tracking.journal import Delivery
from cmtl_ir.tracking.mlflow_store import shown
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.unlearning.ensembles import FromStage, plan_ensemble
from cmtl_ir.unlearning.grouped_runs import put_together, touched_members
from cmtl_ir.unlearning.jobs import job_of, side_by_side
from cmtl_ir.unlearning.origin import Origin, check_request, find_origin, find_runs
from cmtl_ir.unlearning.planning import Job, Planned, Without, comparison_name, job_name, plan, refuse_impossible


@dataclass(frozen=True)
class Asked:
    """A request: what is to be forgotten by which runs, one a seed, in which ways."""

    origins: list[Origin]
    jobs: list[Job]


@dataclass(frozen=True)
class Done:
    """A job that was brought to its end."""

    job: Job
    runs: list[Planned]
    """Those that it took; the last is its result."""

    @property
    def run(self) -> Run:
        """The result."""
        return self.runs[-1].run


@dataclass(frozen=True)
class Forgetting:
    """What was asked, what was done, and where its report goes."""

    name: str
    folder: Path
    forget: tuple[str, ...]
    origins: list[Origin]
    done: list[Done]
    tracking: Tracking
    parent: str
    """The MLflow run that stands for the request."""
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of all that was asked."""

    requests: list[Forgetting]
    """One; of a grouped run one for each group that knew what is forgotten, and none where nothing is to be trained."""
    grouped: list[Path]
    """Folders of the grouped runs that were put together again, one for each method and seed."""


def methods_named(names: Sequence[str]) -> dict[str, Unlearner]:
    """Name -> method with its defaults. Raises ConfigError."""
    problems: list[Problem] = []
    made = methods_from(dict.fromkeys(names), problems)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return made


def counted(methods: Mapping[str, Unlearner], steps: int | None) -> dict[str, Unlearner]:
    """The same with another number of steps where a method has one. Raises UserError where none has."""
    if steps is None:
        return dict(methods)
    able = {label for label, method in methods.items() if type(method).with_steps is not Unlearner.with_steps}
    if not able:
        raise UserError(f"--steps: {', '.join(methods)} have no number of steps to choose")
    return {label: method.with_steps(steps) if label in able else method for label, method in methods.items()}


def unlearn(
    run: str | Path,
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
) -> Answer:
    """Make a finished run forget tasks by each method; finished results are skipped.

    `run`: its folder, its hash, or COMPARISON/LABEL[/SEED]; without SEED the run of every seed.
    `use_retain`: False where the retained tasks' data must not be read. Raises UserError for what cannot be done.
    """
    out, known = Path(out), dict(methods) if isinstance(methods, Mapping) else methods_named(methods)
    folders = find_runs(run, out)
    asked = requests(folders, forget, counted(known, steps), use_retain, out, device)
    return fulfil_all(folders, asked, forget, out, fresh, tracking_uri, progress)


def requests(
    folders: Sequence[Path],
    forget: Sequence[str],
    methods: Mapping[str, Unlearner],
    use_retain: bool,
    out: Path,
    device: str = "auto",
) -> list[Asked]:
    """One request for the runs of all seeds; of grouped runs one for each group that knows what is to be forgotten."""
    if not any(map(is_grouped, folders)):
        origins = [find_origin(folder, out, device) for folder in folders]
        return [Asked(origins, prepare_jobs(origins, forget, methods, use_retain))]
    members = [one for folder in folders for one in touched_members(folder, forget, out, device)]
    asked = []
    for label in dict.fromkeys(one.label for one in members):
        origins = [one for one in members if one.label == label]
        own = [task for task in forget if task in origins[0].kept]
        asked.append(Asked(origins, prepare_jobs(origins, own, methods, use_retain)))
    return asked


def fulfil_all(
    folders: Sequence[Path],
    asked: Sequence[Asked],
    forget: Sequence[str],
    out: Path,
    fresh: bool = False,
    tracking_uri: str | None = None,
    progress: Callable[[Run], Progress] | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> Answer:
    """Fulfil every request, with `workers` methods at once or on a Ray cluster; put grouped runs together again."""
    made, apart = [], workers > 1 or ray is not None
    for one in asked:
        failures: dict[str, str] = {}
        if apart:
            failures = side_by_side(one.jobs, runs_of, out, fresh, tracking_uri, progress, workers, ray)
        made.append(fulfil(one.origins, one.jobs, out, fresh and not apart, tracking_uri, progress, failures))
    grouped = list[Path]()
    for folder in filter(is_grouped, folders):
        replaced: dict[str, dict[str, str]] = {} if asked else {"deleted": {}}
        for done in (done for one in made for done in one.done):
            replaced.setdefault(done.job.label, {})[done.job.origin.hash] = done.run.hash
        grouped += put_together(folder, forget, replaced, out, Tracking(tracking_uri, out))
    return Answer(made, grouped)


def prepare_jobs(
    origins: Sequence[Origin],
    forget: Sequence[str],
    methods: Mapping[str, Unlearner],
    use_retain: bool = True,
) -> list[Job]:
    """Every mistake that needs no training to be found is found here. The retrained reference comes first."""
    check_request(origins, forget)
    if not use_retain:
        methods = {label: method.without_retain() for label, method in methods.items()}
    jobs = [Job(one, label, method, tuple(forget), use_retain) for label, method in methods.items() for one in origins]
    for job in jobs:
        refuse_impossible(job)
        runs_of(job)
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
    failures: Mapping[str, str] | None = None,
    wait: bool = False,
) -> Forgetting:
    """Run the jobs, one after the other, but those that have failed: `job.name` -> why. `wait` for other processes."""
    forget, first = jobs[0].forget, origins[0]
    name = comparison_name(first, forget)
    experiment = first.experiment.model_copy(update={"name": name, "seeds": [one.seed for one in origins]})
    folder, tracking = claim_folder(experiment.resolved(), out), Tracking(tracking_uri, out)
    parent = tracking.parent(name, {}, yaml.dump(experiment.resolved()))
    made = Forgetting(name, folder, forget, list(origins), [], tracking, parent, dict(failures or {}))
    for job in (one for one in jobs if one.name not in made.failures):
        try:
            planned = runs_of(job)
            for one in planned:
                if fresh:
                    set_aside(one.run.folder)
                bar = _shown(one, progress)
                execute(one.run, one.prepared, made.tracking, mlflow_parent(made, job), bar, wait=wait)
            made.done.append(Done(job, planned))
            _note(made.folder, made.done[-1])
        except TrainingError as error:
            made.failures[job.name] = str(error)
    return made


def _shown(one: Planned, progress: Callable[[Run], Progress] | None) -> Progress | None:
    return progress(one.run) if progress is not None else None


def _note(folder: Path, done: Done) -> None:
    """The comparison's list of runs: what the report is made of, and what `RUN` may name."""
    job, run = done.job, done.run
    steps, seconds = cost(done)
    row = {"label": job.label, "seed": run.seed, "hash": run.hash, "parent": job.origin.hash}
    list_runs(folder, [row | {"method": job.method.called, "steps": steps, "seconds": seconds}])


def cost(done: Done) -> tuple[int, float]:
    """(steps, seconds) from the original to the result. What was taken over as it was costs nothing."""
    asked = done.run.identity.get("unlearning", {})
    touched = {one["run"] for one in asked.get("constituents", ()) if one["touched"]}
    steps, seconds = 0, 0.0
    for run in (planned.run for planned in done.runs):
        if run is done.run or run.hash in touched:
            ready = run.begin.step if isinstance(run.begin, Without | FromStage) else 0
            steps, seconds = steps + run.result()["steps"] - ready, seconds + run.result()["seconds"]
    return steps, seconds


def results_listed(made: Forgetting) -> list[dict[str, Any]]:
    """The finished results of a request, those of earlier commands too, but not where a newer attempt failed."""
    rows = [
        row
        for row in listed_runs(made.folder)
        if "method" in row and job_name(row["label"], row["seed"]) not in made.failures
    ]
    return [row for row in rows if is_finished(run_folder(made.folder.parent, row["hash"]))]


def mlflow_parent(made: Forgetting, job: Job) -> str:
    """The run that is made to forget, if this store has it; else the comparison."""
    before = Delivery.read(job.origin.folder)
    if before.run_id and before.uri == shown(made.tracking.uri):
        return before.run_id
    return made.parent


def finished_runs(experiment: Experiment, file: str, out: Path, device: str = "auto") -> list[Path]:
    """The runs that an experiment file's `unlearning:` is about. Raises UserError where one is not finished."""
    asked = experiment.unlearning
    if asked is None:
        raise UserError(
            f"{file} has no `unlearning:`; say which run is to forget what: cmtl-ir unlearn RUN --forget TASK"
        )
    one_only = experiment.model_copy(update={"strategies": {asked.run: experiment.strategies[asked.run]}})
    runs = prepare(one_only, out, device).runs
    missing = [run for run in runs if run.status != "finished"]
    if missing:
        seeds = " ".join(f"--seed {run.seed}" for run in missing)
        raise UserError(
            f"{missing[0].name} is not finished ({missing[0].status}); train it first: "
            f"cmtl-ir run {file} --strategy {asked.run} {seeds} --out {out}"
        )
    return [run.folder for run in runs]


def chosen_of(methods: Mapping[str, Unlearner], chosen: Sequence[str]) -> dict[str, Unlearner]:
    """The methods of these labels; all where none is chosen."""
    for label in chosen:
        if label not in methods:
            raise UserError(f"--method {label!r}: {suggestion(label, list(methods))}")
    return {label: method for label, method in methods.items() if label in chosen or not chosen}


def forget(payload: Mapping[str, Any]) -> None:
    """Make a finished run forget by one method: the job of a worker. Raise TrainingError where the method failed."""
    job = job_of(payload)
    if (found := runs_of(job)[-1].run.hash) != payload["hash"]:
        raise RuntimeError(f"the job is of run {payload['hash']}, but here its data and method make it {found}")
    made = fulfil([job.origin], [job], Path(payload["out"]), tracking_uri=payload["tracking_uri"], wait=True)
    for reason in made.failures.values():
        raise TrainingError(reason)
