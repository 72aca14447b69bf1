"""Plans into runs: what is finished is skipped, what was killed goes on, what is missing starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import TrainingError
from cmtl_ir.base.ranks import current
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.plan import Ahead, Comparison, Prepared, prepare
from cmtl_ir.runs.recorder import Progress
from cmtl_ir.store.listing import claim_folder, list_runs, set_aside
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.store import Tracking


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
        from cmtl_ir.runs import followers

        followers.check(experiment, ranks, apart)
        if ranks.number > 0:
            return followers.follow(experiment, Path(out), device, Tracking(tracking_uri, Path(out)), ranks)
    prepared = prepare(experiment, Path(out), device)
    folder = claim_folder(experiment.resolved(), prepared.out, fresh)
    tracking = Tracking(tracking_uri, prepared.out)
    parent = tracking.parent(experiment.name, {}, yaml.dump(experiment.resolved()))
    listed = [{"label": one.label, "seed": one.seed, "hash": one.hash} for one in prepared.runs]
    list_runs(folder, listed)
    for one in prepared.runs if fresh else ():
        for folder_of_it in one.folders:
            set_aside(folder_of_it)
    ranks.wait()
    failures = in_turn(prepared, tracking, parent, progress, only_finished=apart)
    if apart:
        failures |= _apart(prepared, tracking, parent, progress, workers, ray)
    return Comparison(experiment, folder, prepared.runs, failures, tracking, parent)


def in_turn(
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Callable[[Run], Progress] | None = None,
    only_finished: bool = False,
    ahead: Ahead | None = None,
) -> dict[str, str]:
    """Bring the runs to their end one after the other, or only list those that are; name of a run -> why it failed.

    `ahead`: trains the groups of a grouped run side by side.
    """
    failures: dict[str, str] = {}
    for one in prepared.runs:
        if only_finished and one.status != "finished":
            continue
        try:
            execute(one, prepared, tracking, parent, progress(one) if progress else None, ahead=ahead)
        except TrainingError as error:
            failures[one.name] = str(error)
    return failures


def _apart(
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Callable[[Run], Progress] | None,
    workers: int,
    ray: str | None,
) -> dict[str, str]:
    """All unfinished runs in processes of their own. Where that leaves workers idle, so are the groups of grouped ones.

    A grouped run whose groups are trained apart is planned and scored here.
    """
    from cmtl_ir.runs.several import several, side_by_side

    def ahead(groups: Sequence[tuple[Run, Prepared]]) -> None:
        if failed := several(groups, tracking, parent, progress, workers, ray):
            raise TrainingError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))

    unfinished = [one for one in prepared.runs if one.status != "finished"]
    here = [one for one in unfinished if one.strategy.grouping is not None and len(unfinished) < workers]
    rest = [one for one in unfinished if one not in here]
    failures = side_by_side(replace(prepared, runs=rest), tracking, parent, progress, workers, ray) if rest else {}
    return failures | in_turn(replace(prepared, runs=here), tracking, parent, progress, ahead=ahead)
