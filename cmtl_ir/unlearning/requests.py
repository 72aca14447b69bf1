"""Unlearning requests of `cmtl-ir unlearn`, from the command to finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cmtl_ir.base.errors import ConfigError, TrainingError, UserError, suggestion
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.unlearning import methods_from
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.plan import PlannedRun, prepare
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.folder import is_finished, is_grouped
from cmtl_ir.store.layout import EXPERIMENT, run_folder
from cmtl_ir.store.listing import list_runs, listed_runs, set_aside
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.unlearning import Rerun, Unlearner
from cmtl_ir.tracking.journal import Delivery
from cmtl_ir.tracking.mlflow_store import shown
from cmtl_ir.unlearning.costs import Cost, of_result, total
from cmtl_ir.unlearning.grouped_runs import reassemble, touched_members
from cmtl_ir.unlearning.jobs import job_of, run_in_processes, runs_of
from cmtl_ir.unlearning.origin import Origin, check_request, find_origin, find_runs
from cmtl_ir.unlearning.planning import Job, claim_request, comparison_name, job_name, refuse_impossible


@dataclass(frozen=True)
class Asked:
    """A request: the runs that are to forget, one per seed, and the job of each method and seed."""

    origins: list[Origin]
    jobs: list[Job]


@dataclass(frozen=True)
class Done:
    """A finished job and its runs."""

    job: Job
    runs: list[PlannedRun]
    """Runs that the job needed. The last one is its result."""

    @property
    def run(self) -> Run:
        """The run that is the result of the job."""
        return self.runs[-1].run


@dataclass(frozen=True)
class Forgetting:
    """A request, its finished jobs, and the folder of its report."""

    name: str
    folder: Path
    forget: tuple[str, ...]
    origins: list[Origin]
    done: list[Done]
    workspace: Workspace
    parent: str
    """Id of the MLflow run that stands for the request."""
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The outcome of an unlearning command."""

    requests: list[Forgetting]
    """One request for an ordinary run, and one per group that knew a forgotten task for a grouped run.

    Empty if nothing has to be trained.
    """
    grouped: list[Path]
    """Folders of the reassembled grouped runs, one per method and seed."""


def methods_named(names: Sequence[str]) -> dict[str, Unlearner]:
    """Return the methods of these names with their defaults. Raise ConfigError for an unknown name."""
    problems: list[Problem] = []
    made = methods_from(dict.fromkeys(names), problems)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return made


def counted(methods: Mapping[str, Unlearner], steps: int | None) -> dict[str, Unlearner]:
    """Return the methods with another number of steps. Raise UserError if no method has a number of steps."""
    if steps is None:
        return dict(methods)
    able = {label for label, method in methods.items() if type(method).with_steps is not Unlearner.with_steps}
    if not able:
        raise UserError(f"--steps: {', '.join(methods)} have no number of steps to choose")
    return {label: method.with_steps(steps) if label in able else method for label, method in methods.items()}


def unlearn(
    run: str | Path,
    forget: Sequence[str],
    methods: Mapping[str, Unlearner] | Sequence[str],
    workspace: Workspace,
    *,
    steps: int | None = None,
    use_retain: bool = True,
    fresh: bool = False,
) -> Answer:
    """Make a finished run forget tasks by each method. Finished results are skipped.

    `run` is its folder, its hash, or COMPARISON/LABEL[/SEED]. Without SEED, the runs of all seeds forget. `use_retain`
    says whether the data of the retained tasks may be read. Raises UserError if a request cannot be fulfilled.
    """
    known = dict(methods) if isinstance(methods, Mapping) else methods_named(methods)
    folders = find_runs(run, workspace.out)
    asked = requests(folders, forget, counted(known, steps), use_retain, workspace)
    return fulfil_all(folders, asked, forget, workspace, fresh)


def requests(
    folders: Sequence[Path],
    forget: Sequence[str],
    methods: Mapping[str, Unlearner],
    use_retain: bool,
    workspace: Workspace,
) -> list[Asked]:
    """Return one request for the runs of all seeds, or for grouped runs one per group that knows a task to forget."""
    if not any(map(is_grouped, folders)):
        origins = [find_origin(folder, workspace.out, workspace.device) for folder in folders]
        return [Asked(origins, prepare_jobs(origins, forget, methods, use_retain))]
    members = [one for folder in folders for one in touched_members(folder, forget, workspace)]
    asked = []
    for label in dict.fromkeys(one.label for one in members):
        origins = [one for one in members if one.label == label]
        own = [task for task in forget if task in origins[0].kept]
        asked.append(Asked(origins, prepare_jobs(origins, own, methods, use_retain)))
    return asked


def fulfil_all(
    folders: Sequence[Path], asked: Sequence[Asked], forget: Sequence[str], workspace: Workspace, fresh: bool = False
) -> Answer:
    """Fulfil all requests, in other processes if the workspace is parallel, and reassemble grouped runs."""
    made = []
    for one in asked:
        failures = run_in_processes(one.jobs, workspace, fresh) if workspace.parallel else {}
        made.append(fulfil(one.origins, one.jobs, workspace, fresh and not workspace.parallel, failures))
    grouped = list[Path]()
    for folder in filter(is_grouped, folders):
        replaced: dict[str, dict[str, str]] = {} if asked else {"deleted": {}}
        for done in (done for one in made for done in one.done):
            replaced.setdefault(done.job.label, {})[done.job.origin.hash] = done.run.hash
        grouped += reassemble(folder, forget, replaced, workspace)
    return Answer(made, grouped)


def prepare_jobs(
    origins: Sequence[Origin],
    forget: Sequence[str],
    methods: Mapping[str, Unlearner],
    use_retain: bool = True,
) -> list[Job]:
    """Return the jobs of a request, the retrained reference first.

    Every mistake that can be found without training is raised here.
    """
    check_request(origins, forget)
    if not use_retain:
        methods = {label: method.without_retain() for label, method in methods.items()}
    jobs = [Job(one, label, method, tuple(forget), use_retain) for label, method in methods.items() for one in origins]
    for job in jobs:
        refuse_impossible(job)
        runs_of(job)
    return sorted(jobs, key=lambda job: not (isinstance(job.method, Rerun) and job.method.is_reference))


def fulfil(
    origins: Sequence[Origin],
    jobs: Sequence[Job],
    workspace: Workspace,
    fresh: bool = False,
    failures: Mapping[str, str] = MappingProxyType({}),
    wait: bool = False,
) -> Forgetting:
    """Run the jobs one after the other, except those that have already failed.

    `failures` maps the name of a failed job to the reason. If `wait` is true, wait for other processes that train the
    same runs.
    """
    forget, first = jobs[0].forget, origins[0]
    name, folder = comparison_name(first, forget), claim_request(origins, forget, workspace.out)
    parent = workspace.tracking.parent(name, {}, (folder / EXPERIMENT).read_text())
    made = Forgetting(name, folder, forget, list(origins), [], workspace, parent, dict(failures))
    for job in (one for one in jobs if one.name not in made.failures):
        try:
            planned = runs_of(job)
            for one in planned:
                if fresh:
                    set_aside(one.run.folder)
                execute(one, workspace, mlflow_parent(made, job), wait=wait)
            made.done.append(Done(job, planned))
            _list_result(made.folder, made.done[-1])
        except TrainingError as error:
            made.failures[job.name] = str(error)
    return made


def _list_result(folder: Path, done: Done) -> None:
    """Add a result to the comparison's list of runs, which the report reads and in which `RUN` is looked up."""
    job, run = done.job, done.run
    row = {"label": job.label, "seed": run.seed, "hash": run.hash, "parent": job.origin.hash}
    list_runs(folder, [row | {"method": job.method.called, **cost(done)._asdict()}])


def cost(done: Done) -> Cost:
    """Return the cost from the original to the result. Parts that are taken over unchanged cost nothing."""
    asked = done.run.identity.get("unlearning", {})
    touched = {one["run"] for one in asked.get("constituents", ()) if one["touched"]}
    return total(
        of_result(planned.run.result(), planned.steps_taken_over)
        for planned in done.runs
        if planned.run is done.run or planned.run.hash in touched
    )


def results_listed(made: Forgetting) -> list[dict[str, Any]]:
    """Return the finished results of a request, including those of earlier commands.

    A result is left out if a newer attempt at it has failed.
    """
    rows = [
        row
        for row in listed_runs(made.folder)
        if "method" in row and job_name(row["label"], row["seed"]) not in made.failures
    ]
    return [row for row in rows if is_finished(run_folder(made.folder.parent, row["hash"]))]


def mlflow_parent(made: Forgetting, job: Job) -> str:
    """Return the MLflow run of the run that is to forget, or that of the comparison if this store has no such run."""
    before = Delivery.read(job.origin.folder)
    if before.run_id and before.uri == shown(made.workspace.tracking.uri):
        return before.run_id
    return made.parent


def finished_runs(experiment: Experiment, file: str, workspace: Workspace) -> list[Path]:
    """Return the folders of the runs that `unlearning:` of an experiment file names.

    Raises UserError if the file has no `unlearning:` or if a run is not finished.
    """
    asked = experiment.unlearning
    if asked is None:
        raise UserError(
            f"{file} has no `unlearning:`; say which run is to forget what: cmtl-ir unlearn RUN --forget TASK"
        )
    one_only = experiment.model_copy(update={"strategies": {asked.run: experiment.strategies[asked.run]}})
    runs = prepare(one_only, workspace.out, workspace.device).runs
    missing = [run for run in runs if run.status != "finished"]
    if missing:
        seeds = " ".join(f"--seed {run.seed}" for run in missing)
        raise UserError(
            f"{missing[0].name} is not finished ({missing[0].status}); train it first: "
            f"cmtl-ir run {file} --strategy {asked.run} {seeds} --out {workspace.out}"
        )
    return [run.folder for run in runs]


def chosen_of(methods: Mapping[str, Unlearner], chosen: Sequence[str]) -> dict[str, Unlearner]:
    """Return the methods of the chosen labels, or all methods if none is chosen. Raise UserError if one is unknown."""
    for label in chosen:
        if label not in methods:
            raise UserError(f"--method {label!r}: {suggestion(label, list(methods))}")
    return {label: method for label, method in methods.items() if label in chosen or not chosen}


def forget(payload: Mapping[str, Any]) -> None:
    """Make a finished run forget by one method. This is the job of a worker.

    Raises TrainingError if the method fails, and RuntimeError if data or method here make another run.
    """
    job = job_of(payload)
    if (found := runs_of(job)[-1].run.hash) != payload["hash"]:
        raise RuntimeError(f"the job is of run {payload['hash']}, but here its data and method make it {found}")
    workspace = Workspace.at(payload["out"], payload["device"], payload["tracking_uri"])
    made = fulfil([job.origin], [job], workspace, wait=True)
    for reason in made.failures.values():
        raise TrainingError(reason)
