"""Measures of similarity between the tasks of an experiment, from the probes that groupings use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import neutral
from cmtl_ir.grouping.members import Members
from cmtl_ir.grouping.probe import RunProbe
from cmtl_ir.runs import plan
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.strategy.grouping import Group, Grouping, Matrix, ordered
from cmtl_ir.strategy.making import part_from


@dataclass(frozen=True)
class Similarity:
    """The similarity matrices of one experiment and seed."""

    matrices: dict[str, Matrix]
    """Name of the grouping that uses the matrix -> matrix."""
    notes: list[str]
    folder: Path
    """Folder of the comparison."""
    groups: dict[str, list[Group]]
    """Name of the grouping -> its groups. Groupings that train further proxies to decide are left out."""


def similarity(
    experiment: Experiment,
    measures: Sequence[str],
    workspace: Workspace,
    seed: int | None = None,
    share: float | None = None,
) -> Similarity:
    """Measure the relations between all tasks that groupings use. Probes are cached and shared with runs.

    The proxies begin from the weights of `experiment.start`, if it has one.

    A measure takes its fields from the first strategy of the experiment that groups by it. If there is none, it takes
    its defaults. `share` is the share of the budget that proxies get, and `None` keeps that of the measure. `seed` is
    the seed to measure, and `None` takes the first seed of the experiment.
    """
    chosen = experiment.seeds[0] if seed is None else seed
    parts = {name: configured(experiment, name, share) for name in measures}
    start = experiment.start and experiment.start.model_copy(update={"learned": ()})
    plain = {"strategies": {"similarity": neutral()}, "seeds": [chosen], "start": start}
    (planned,) = plan.prepare(experiment.model_copy(update=plain), workspace.out, workspace.device).planned
    parent = workspace.tracking.parent(f"{experiment.name}.probes", {}, yaml.dump(experiment.resolved()))
    members = Members(planned, workspace, parent)
    notes: list[str] = []
    tasks = list(experiment.tasks)
    found: dict[str, Matrix] = {}
    groups: dict[str, list[Group]] = {}
    for name, part in parts.items():
        probe = RunProbe(members, part, neutral(), notes)
        found[name] = part.matrix(tasks, probe)
        if not part.needs_validation:
            groups[name] = ordered(part.plan(tasks, probe), tasks)
    return Similarity(found, list(dict.fromkeys(notes)), workspace.out / experiment.name, groups)


def configured(experiment: Experiment, name: str, share: float | None) -> Grouping:
    """Return the grouping of this name as the experiment configures it, or with its defaults."""
    own = [one.grouping for one in experiment.strategies.values() if one.grouping is not None]
    problems: list[Problem] = []
    part = next((one for one in own if one.called == name), None) or part_from("grouping", name, "measure", problems)
    if not isinstance(part, Grouping):
        raise UserError("; ".join(map(str, problems)))
    return part if share is None else part.model_copy(update={"share": share})
