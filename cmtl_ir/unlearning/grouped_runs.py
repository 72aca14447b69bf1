"""Unlearning of grouped runs: models that know the task forget it, all other models stay unchanged."""

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
"""Key of the plan that lists the forgotten tasks, which the run no longer offers as tasks."""


def touched_members(folder: Path, forget: Sequence[str], workspace: Workspace) -> list[Origin]:
    """Return the models of the groups that have tasks to forget and tasks to keep.

    A model of forgotten tasks only needs no unlearning and is left out. Raises UserError if a task is not one of the
    run's or if no task would remain.
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
    """Make one grouped run per method that has all its models, and return the folders of these runs.

    `replaced` maps the label of a method and the hash of a model to the hash of the model that replaces it.
    """
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
    """Return the experiment of the grouped run, under the name of the new comparison."""
    raw = yaml.read(file)
    strategies = raw["strategies"]
    raw |= {"name": name, "strategies": {label: strategies.get(label, next(iter(strategies.values())))}}
    raw.pop("unlearning", None)
    return reading.validate(raw, str(file))


def _successor(plan: dict[str, Any], forget: Sequence[str], successors: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the plan with models replaced or left out. `None` if the replacement of a model is missing."""
    gone, groups = {*plan.get(NOTE, ()), *forget}, []
    for group in plan["groups"]:
        if set(group["tasks"]) <= gone:
            continue
        if set(group["tasks"]) & set(forget) and group["run"] not in successors:
            return None
        groups.append({**group, "run": successors.get(group["run"], group["run"])})
    return _plan_of(plan, groups, sorted(gone))


def _plan_of(plan: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], gone: Sequence[str]) -> dict[str, Any]:
    """Return the plan with other groups and the forgotten tasks recorded."""
    served = {task for group in groups for task in group["serves"]}
    return {**plan, "tasks": [t for t in plan["tasks"] if t in served], "groups": list(groups), NOTE: list(gone)}


def _planned(method: str, folder: Path, forget: Sequence[str], plan: dict[str, Any], before: PlannedRun) -> PlannedRun:
    """Plan the grouped run of a reassembled plan. Its hash follows from its models."""
    asked = {"forget": list(forget), "forgotten": plan[NOTE], "parent": folder.name}
    identity = {"meaning": SEMANTICS_VERSION, "groups": plan["groups"], "router": plan["proxy"], "unlearning": asked}
    tags = {"cmtl_ir.forgotten": ",".join(plan[NOTE]), "cmtl_ir.parent": folder.name}
    run = Run(method, before.run.seed, identity, before.run.folder.parent / hash_of(identity), tags)
    tasks = {task: before.tasks[task] for task in plan["tasks"]}
    return replace(before, run=run, tasks=tasks, work="cmtl_ir.unlearning.grouped_runs:score_members")


def score_members(active: ActiveRun) -> None:
    """Do the work of a reassembled grouped run: write its plan and score its models together, without training."""
    run, started = active.run, time.monotonic()
    asked, groups = run.identity["unlearning"], run.identity["groups"]
    parent = read_groups(run.folder.parent / asked["parent"])
    write_groups(run.folder, _plan_of(parent, groups, asked["forgotten"]))
    write_uses(run.folder, [group["run"] for group in groups])
    model = GroupedModel(run.folder, active.planned.device)
    members = [replace(run, folder=run.folder.parent / group["run"]) for group in groups]
    write_results(active, model, members, time.monotonic() - started)
