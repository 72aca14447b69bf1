"""Training of all runs of an experiment. Finished runs are skipped, killed runs resumed, and missing runs started."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import TrainingError
from cmtl_ir.base.ranks import current
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs import followers
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.parallel import run_in_processes
from cmtl_ir.runs.plan import Comparison, PlannedRun, Prepared, prepare
from cmtl_ir.runs.probes import probe
from cmtl_ir.runs.tracked import figures_of, repeating
from cmtl_ir.runs.workspace import Progress, Workspace
from cmtl_ir.store.listing import claim_folder, list_runs, set_aside, stale_runs
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.store import NOTE

STALE_RUN = (
    "of an earlier version of this experiment, so it no longer counts; run the experiment with this seed to train it "
    "again"
)
"""What is said of a stale run."""
log = logging.getLogger("cmtl_ir")


def run(
    experiment: Experiment,
    out: str | Path = "runs",
    device: str = "auto",
    fresh: bool = False,
    tracking_uri: str | None = None,
    progress: Callable[[Run], Progress] | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> Comparison:
    """Train and score every strategy with every seed, and return the comparison, which names failed runs.

    Running again skips finished runs and resumes killed ones. If `fresh` is true, earlier results of these runs are set
    aside. At most `workers` runs are trained at once, each in its own process if there are several. `ray` is the
    address of a Ray cluster, or `local`. `None` trains on this machine. Under torchrun, within `distributed.joined()`,
    all ranks share the steps of each run, and rank 0 writes.
    """
    return train_all(experiment, Workspace.at(out, device, tracking_uri, workers, ray, progress), fresh)


def train_all(experiment: Experiment, workspace: Workspace, fresh: bool = False) -> Comparison:
    """Train every strategy with every seed in a workspace. See `run`."""
    ranks = current()
    if ranks.count > 1:
        followers.check(experiment, ranks, workspace.parallel)
        if ranks.number > 0:
            return followers.follow(experiment, workspace, ranks)
    return train_prepared(prepare(experiment, workspace.out, workspace.device), workspace, fresh)


def train_prepared(prepared: Prepared, workspace: Workspace, fresh: bool = False) -> Comparison:
    """Train the runs of a plan, after one probe batch of each strategy. See `run`."""
    ranks, experiment = current(), prepared.experiment
    probe(prepared)
    refuse_missing_teachers(prepared)
    folder = claim_folder(experiment.resolved(), workspace.out, fresh)
    note = f"{len(prepared.runs)} runs.\n\n    {repeating(experiment.name, workspace.out)}"
    parent = workspace.tracking.parent_later(experiment.name, {NOTE: note}, yaml.dump(experiment.resolved()))
    rows = [{"label": one.label, "seed": one.seed, "hash": one.hash} for one in prepared.runs]
    list_runs(folder, rows, prepared.is_stale, fresh=fresh)
    for row in stale_runs(folder):
        log.warning("%s, seed %s: %s", row["label"], row["seed"], STALE_RUN)
    if fresh:
        prepared = replace(prepared, planned=[replace(one, rescorable=False) for one in prepared.planned])
        for earlier in [earlier for one in prepared.runs for earlier in one.folders]:
            set_aside(earlier)
    ranks.wait()
    waiting = any(run.status != "finished" for run in prepared.runs)
    failures: dict[str, str] = {}
    for wave in _waves(prepared.planned):
        failures |= (_in_processes if workspace.parallel else _in_turn)(wave, workspace, parent)
    made = Comparison(experiment, folder, prepared.runs, failures, workspace.tracking, parent)
    workspace.tracking.conclude(parent, *figures_of(made.results()), ended=waiting)
    return made


def refuse_missing_teachers(prepared: Prepared) -> None:
    """Raise UserError, with the training command, for a teacher that is neither finished nor planned."""
    coming = {one.hash for one in prepared.runs}
    for one in prepared.planned:
        for task in one.tasks if one.needs_teachers and one.run.status != "finished" else ():
            one.teachers().refuse_missing(task, coming)


def _waves(planned: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Return the runs that need no teachers, and then those that do."""
    waves = [[one for one in planned if one.needs_teachers == late] for late in (False, True)]
    return [wave for wave in waves if wave]


def _in_turn(planned: Sequence[PlannedRun], workspace: Workspace, parent: str) -> dict[str, str]:
    """Train the runs one after the other, and return the reason of each failure by the name of the run."""
    failures: dict[str, str] = {}
    for one in planned:
        try:
            execute(one, workspace, parent)
        except TrainingError as error:
            failures[one.run.name] = str(error)
    return failures


def _in_processes(planned: Sequence[PlannedRun], workspace: Workspace, parent: str) -> dict[str, str]:
    """Train all unfinished runs in their own processes.

    If this would leave workers idle, a grouped run is planned and scored in this process, and its groups are trained in
    the other processes.
    """
    finished = [one for one in planned if one.run.status == "finished"]
    rest = [one for one in planned if one not in finished]
    here = [one for one in rest if one.strategy.grouping is not None and len(rest) < workspace.workers]
    failures = _in_turn(finished, workspace, parent)
    failures |= run_in_processes([one for one in rest if one not in here], workspace, parent)
    return failures | _in_turn(here, workspace, parent)
