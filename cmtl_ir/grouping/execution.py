"""A grouped strategy as runs: probes -> plan -> one ordinary run a group -> router -> scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cmtl_ir.base.environment import environment
from cmtl_ir.grouping.members import Crew, Execute
from cmtl_ir.grouping.probe import RunProbe
from cmtl_ir.grouping.results import leave_results
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.runs.plan import Ahead, Prepared
from cmtl_ir.runs.recorder import Progress
from cmtl_ir.store.folder import write_config, write_groups, write_uses
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.grouping import Group, Grouping, ordered, shared_steps
from cmtl_ir.strategy.making import described
from cmtl_ir.tracking.store import RunTracker, Tracking

CALIBRATED = 8
"""Training images a task that set the distance beyond which a degradation counts as unknown."""


@dataclass
class _Grouped:
    """One grouped run under way."""

    run: Run
    prepared: Prepared
    crew: Crew
    probe: RunProbe

    @property
    def grouping(self) -> Grouping:
        grouping = self.run.strategy.grouping
        assert grouping is not None
        return grouping


def train_groups(
    run: Run,
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    tracker: RunTracker,
    progress: Progress | None,
    execute: Execute,
    ahead: Ahead | None = None,
) -> None:
    """Bring a grouped run to its end: what is finished of it is skipped, what was killed goes on.

    `execute`: brings one of its ordinary runs to its end; `ahead`: all of its groups' runs at once, before that.
    """
    assert run.strategy.grouping is not None
    started = time.monotonic()
    crew = Crew(prepared, tracking, parent, run.label, run.seed, execute, progress)
    work = _Grouped(run, prepared, crew, RunProbe(crew, run.strategy.grouping, run.strategy))
    write_config(run.folder, run.identity, environment(prepared.device))
    try:
        groups = ordered(work.grouping.plan(list(crew.tasks), work.probe), list(crew.tasks))
        counts = shared_steps(groups, prepared.experiment.training.steps, work.grouping.steps)
        _say_steps(work, groups, counts)
        planned = [_member(work, group, steps) for group, steps in zip(groups, counts, strict=True)]
        if ahead is not None:
            ahead(planned)
        members = [crew.finished(one, own, counts=True) for one, own in planned]
        model = _leave_plan(work, groups, counts, members)
    finally:
        write_uses(run.folder, crew.used)
    leave_results(run, prepared, model, members, tracker, time.monotonic() - started)


def _say_steps(work: _Grouped, groups: Sequence[Group], counts: Sequence[int]) -> None:
    total = work.prepared.experiment.training.steps
    if work.grouping.steps == "equal_total":
        work.probe.say(f"{total} steps in all, shared by {len(groups)} group(s) in proportion to their tasks: {counts}")
    else:
        work.probe.say(
            f"{total} steps for each of {len(groups)} group(s): {sum(counts)} in all, more than the others get"
        )


def _member(work: _Grouped, group: Group, steps: int) -> tuple[Run, Prepared]:
    """One group's ordinary run."""
    strategy = work.run.strategy.model_copy(update={"grouping": None})
    return work.crew.run(group.tasks, strategy, steps, "groups")


def _leave_plan(work: _Grouped, groups: Sequence[Group], counts: Sequence[int], members: Sequence[Run]) -> GroupedModel:
    """Record all that restoring needs to know."""
    plan: dict[str, Any] = {
        "grouping": described(work.grouping),
        "tasks": list(work.crew.tasks),
        "groups": [
            {"tasks": list(g.tasks), "serves": list(g.serves), "run": m.hash, "steps": steps}
            for g, m, steps in zip(groups, members, counts, strict=True)
        ],
        "proxy": None,
        "threshold": None,
        "notes": work.probe.notes,
    }
    if work.grouping.routes:
        features = work.probe.features_file()
        plan |= {"proxy": features.parent.parent.name, "features": features.name, "side": work.probe.side()}
    write_groups(work.run.folder, plan)
    model = GroupedModel(work.run.folder, work.prepared.device)
    if model.router is not None:
        samples = (sample for task in work.crew.tasks.values() for sample in task.train_samples(CALIBRATED))
        plan["threshold"] = model.plan["threshold"] = model.router.threshold(sample.degraded for sample in samples)
        write_groups(work.run.folder, plan)
    return model
