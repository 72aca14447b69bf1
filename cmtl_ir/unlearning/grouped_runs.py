"""Grouped runs that forget: the models that know the task forget it, the others stay as they are."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.grouping.results import write_results
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.runs.execution import ActiveRun, execute
from cmtl_ir.runs.identity import SEMANTICS_VERSION
from cmtl_ir.runs.plan import PlannedRun, prepare
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store import lookup
from cmtl_ir.store.folder import read_groups, write_groups, write_uses
from cmtl_ir.store.listing import claim_folder, list_runs
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.unlearning.origin import Origin, label_of, never_had, origin_of

NOTE = "forgotten"
"""Key of the plan: tasks that the run no longer restores as such."""


def touched_members(folder: Path, forget: Sequence[str], workspace: Workspace) -> list[Origin]:
    """The groups' models that have something to forget and something to keep. Raises UserError.

    A model of nothing but forgotten tasks needs no unlearning: it is left out.
    """
    plan, file = read_groups(folder), lookup.experiment_of(folder, workspace.out)
    label, seed = label_of(folder.name, file.parent)
    known = [task for task in plan["tasks"] if task not in plan.get(NOTE, ())]
    for task in forget:
        if task not in known:
            if task in plan.get(NOTE, ()):
                raise UserError(f"the run {label} has forgotten {task!r} already; it has {', '.join(known)}")
            raise never_had(label, task, known)
    if set(known) <= set(forget):
        raise UserError(f"{', '.join(forget)} is all that the run {label} has: forgetting it leaves nothing to keep")
    found = []
    for group in plan["groups"]:
        kept = [task for task in group["tasks"] if task in known]
        if set(kept) & set(forget) and not set(kept) <= set(forget):
            name, called = f"{label}.{'_'.join(group['tasks'])}", f"{file.parent.name}/{label}"
            found.append(
                origin_of(folder.parent / group["run"], file, name, seed, called, workspace.out, workspace.device)
            )
    return found


def reassemble(
    folder: Path, forget: Sequence[str], replaced: Mapping[str, Mapping[str, str]], workspace: Workspace
) -> list[Path]:
    """A grouped run for each method whose models are all there; `replaced`: label -> model -> its successor."""
    out, file = workspace.out, lookup.experiment_of(folder, workspace.out)
    label, seed = label_of(folder.name, file.parent)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{file.parent.name}.{label}") + f"-without-{'-'.join(forget)}"
    experiment = _experiment(file, label, name)
    home = claim_folder(experiment.resolved(), out)
    parent = workspace.tracking.parent(name, {}, yaml.dump(experiment.resolved()))
    (before,) = prepare(experiment.model_copy(update={"seeds": [seed]}), out, workspace.device).planned
    made = []
    for method, successors in replaced.items():
        plan = _successor(read_groups(folder), forget, successors)
        if plan is not None:
            planned = _planned(method, folder, forget, plan, before)
            execute(planned, workspace, parent, wait=True)
            list_runs(home, [{"label": method, "seed": seed, "hash": planned.run.hash, "parent": folder.name}])
            made.append(planned.run.folder)
    return made


def _experiment(file: Path, label: str, name: str) -> Experiment:
    """The grouped run's, under the name of what is made of it."""
    raw = yaml.read(file)
    strategies = raw["strategies"]
    raw |= {"name": name, "strategies": {label: strategies.get(label, next(iter(strategies.values())))}}
    raw.pop("unlearning", None)
    return reading.validate(raw, str(file))


def _successor(plan: dict[str, Any], forget: Sequence[str], successors: Mapping[str, str]) -> dict[str, Any] | None:
    """The plan with its models replaced or left out; `None` where a successor is missing."""
    gone, groups = {*plan.get(NOTE, ()), *forget}, []
    for group in plan["groups"]:
        if set(group["tasks"]) <= gone:
            continue
        if set(group["tasks"]) & set(forget) and group["run"] not in successors:
            return None
        groups.append({**group, "run": successors.get(group["run"], group["run"])})
    return _plan_of(plan, groups, sorted(gone))


def _plan_of(plan: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], gone: Sequence[str]) -> dict[str, Any]:
    """The plan with these groups."""
    served = {task for group in groups for task in group["serves"]}
    return {**plan, "tasks": [t for t in plan["tasks"] if t in served], "groups": list(groups), NOTE: list(gone)}


def _planned(method: str, folder: Path, forget: Sequence[str], plan: dict[str, Any], before: PlannedRun) -> PlannedRun:
    """The grouped run that such a plan makes; its hash follows from the models in it."""
    asked = {"forget": list(forget), "forgotten": plan[NOTE], "parent": folder.name}
    identity = {"meaning": SEMANTICS_VERSION, "groups": plan["groups"], "router": plan["proxy"], "unlearning": asked}
    tags = {"cmtl_ir.forgotten": ",".join(plan[NOTE]), "cmtl_ir.parent": folder.name}
    run = Run(method, before.run.seed, identity, before.run.folder.parent / hash_of(identity), tags)
    tasks = {task: before.tasks[task] for task in plan["tasks"]}
    return replace(before, run=run, tasks=tasks, work="cmtl_ir.unlearning.grouped_runs:score_members")


def score_members(active: ActiveRun) -> None:
    """The work of a reassembled grouped run. Nothing is trained: its plan is written, its models scored together."""
    run, started = active.run, time.monotonic()
    asked, groups = run.identity["unlearning"], run.identity["groups"]
    parent = read_groups(run.folder.parent / asked["parent"])
    write_groups(run.folder, _plan_of(parent, groups, asked["forgotten"]))
    write_uses(run.folder, [group["run"] for group in groups])
    model = GroupedModel(run.folder, active.planned.device)
    members = [replace(run, folder=run.folder.parent / group["run"]) for group in groups]
    write_results(active, model, members, time.monotonic() - started)
