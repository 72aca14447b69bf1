"""Plans into runs: what is finished is skipped, what was killed goes on, what is missing starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cmtl_ir import yaml
from cmtl_ir.config import Experiment
from cmtl_ir.distributed import current
from cmtl_ir.errors import TrainingError
from cmtl_ir.execution import execute
from cmtl_ir.plans import Comparison, Prepared, Run, claim_folder, merged_rows, prepare, set_aside
from cmtl_ir.recorder import Progress
from cmtl_ir.tracking import Tracking


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
    """Train every strategy under every seed and score it. Returns the comparison; failed runs are named in it.

    Running again skips finished runs and resumes killed ones; `fresh` moves earlier results of these runs aside.
    `workers`: so many runs at once, each in a process of its own; `ray`: on that Ray cluster, or `local`.
    Under torchrun, within `distributed.joined()`, the ranks make each run's steps together, and rank 0 writes.
    """
    ranks, apart = current(), workers > 1 or ray is not None
    if ranks.count > 1:
        from cmtl_ir import distributed_runs

        distributed_runs.check(experiment, ranks, apart)
        if ranks.number > 0:
            return distributed_runs.follow(experiment, Path(out), device, Tracking(tracking_uri, Path(out)), ranks)
    prepared = prepare(experiment, Path(out), device)
    folder = claim_folder(experiment, prepared.out, fresh)
    tracking = Tracking(tracking_uri, prepared.out)
    parent = tracking.parent(experiment.name, {}, yaml.dump(experiment.resolved()))
    listed = [{"label": one.label, "seed": one.seed, "hash": one.hash} for one in prepared.runs]
    (folder / "runs.json").write_text(json.dumps(merged_rows(folder / "runs.json", listed), indent=1))
    for one in prepared.runs if fresh else ():
        for folder_of_it in one.folders:
            set_aside(folder_of_it)
    ranks.wait()
    failures = in_turn(prepared, tracking, parent, progress, only_finished=apart)
    if apart:
        from cmtl_ir.workers import side_by_side

        failures |= side_by_side(prepared, tracking, parent, progress, workers, ray)
    return Comparison(experiment, folder, prepared.runs, failures, tracking, parent)


def in_turn(
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Callable[[Run], Progress] | None = None,
    only_finished: bool = False,
) -> dict[str, str]:
    """Bring the runs to their end one after the other, or only list those that are; name of a run -> why it failed."""
    failures: dict[str, str] = {}
    for one in prepared.runs:
        if only_finished and one.status != "finished":
            continue
        try:
            execute(one, prepared, tracking, parent, progress(one) if progress else None)
        except TrainingError as error:
            failures[one.name] = str(error)
    return failures
