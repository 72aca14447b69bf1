"""Execution of a grouped run: probes -> plan -> one ordinary run per group -> router -> scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cmtl_ir.grouping.members import Members
from cmtl_ir.grouping.probe import RunProbe
from cmtl_ir.grouping.results import write_results
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.store.folder import write_groups, write_uses
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.grouping import Group, Grouping, ordered, shared_steps
from cmtl_ir.strategy.making import described

CALIBRATED = 8
"""Training images per task that calibrate the distance beyond which a degradation counts as unknown."""


@dataclass
class _Grouped:
    """A grouped run while it is being trained."""

    planned: PlannedRun
    grouping: Grouping
    members: Members
    probe: RunProbe

    @property
    def steps(self) -> int:
        """Number of training steps of the comparison."""
        return self.planned.experiment.training.steps


def train_groups(active: ActiveRun) -> None:
    """Train a grouped run until it is finished. Its finished runs are skipped and its killed runs are resumed."""
    planned, started = active.planned, time.monotonic()
    grouping = planned.strategy.grouping
    assert grouping is not None
    members = Members(planned, active.workspace, active.parent, active.progress)
    work = _Grouped(planned, grouping, members, RunProbe(members, grouping, planned.strategy))
    try:
        groups = ordered(grouping.plan(list(members.tasks), work.probe), list(members.tasks))
        counts = [0] * len(groups) if grouping.ready else shared_steps(groups, work.steps, grouping.steps)
        _note_steps(work, groups, counts)
        runs = [_member(work, *one) for one in zip(groups, counts, strict=True)]
        trained = [members.train(one) for one in runs] if grouping.ready else members.train_groups(runs)
        model = _write_plan(work, groups, counts, trained)
    finally:
        write_uses(active.run.folder, members.used)
    write_results(active, model, trained, time.monotonic() - started)


def _note_steps(work: _Grouped, groups: Sequence[Group], counts: Sequence[int]) -> None:
    total = work.steps
    if work.grouping.ready:
        work.probe.say(f"the {len(groups)} group(s) have networks that exist, which are not trained")
    elif work.grouping.steps == "equal_total":
        work.probe.say(f"{total} steps in all, shared by {len(groups)} group(s) in proportion to their tasks: {counts}")
    else:
        work.probe.say(
            f"{total} steps for each of {len(groups)} group(s): {sum(counts)} in all, "
            "more than the other strategies get"
        )


def _member(work: _Grouped, group: Group, steps: int) -> PlannedRun:
    """Plan the run of one group: an ordinary run, or that of a network that exists."""
    if work.grouping.ready:
        return work.members.plan_ready(group.tasks, work.grouping.ready[frozenset(group.tasks)])
    strategy = work.planned.strategy.model_copy(update={"grouping": None})
    return work.members.plan(group.tasks, strategy, steps, "groups")


def _write_plan(work: _Grouped, groups: Sequence[Group], counts: Sequence[int], members: Sequence[Run]) -> GroupedModel:
    """Record everything that restoring needs and return the grouped model."""
    folder = work.planned.run.folder
    plan: dict[str, Any] = {
        "grouping": described(work.grouping),
        "tasks": list(work.members.tasks),
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
    write_groups(folder, plan)
    model = GroupedModel(folder, work.planned.device)
    if model.router is not None:
        samples = (sample for task in work.members.tasks.values() for sample in task.train_samples(CALIBRATED))
        plan["threshold"] = model.plan["threshold"] = model.router.threshold(sample.degraded for sample in samples)
        write_groups(folder, plan)
    return model
