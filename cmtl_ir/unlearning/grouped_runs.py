"""Grouped runs that forget: the models that know the task forget it, the others stay as they are."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmtl_ir.base import yaml
from cmtl_ir.base.environment import environment
from cmtl_ir.base.errors import UserError
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.grouping.results import leave_results
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.runs.identity import MEANING
from cmtl_ir.runs.plan import Prepared, prepare
from cmtl_ir.store import lookup
from cmtl_ir.store.folder import lock_of, read_groups, write_config, write_groups, write_uses
from cmtl_ir.store.layout import run_folder
from cmtl_ir.store.listing import claim_folder, list_runs
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.unlearning.origin import Origin, label_of, never_had, origin_of

NOTE = "forgotten"
"""Key of the plan: tasks that the run no longer restores as such."""


def touched_members(folder: Path, forget: Sequence[str], out: Path, device: str) -> list[Origin]:
    """The groups' models that have something to forget and something to keep. Raises UserError.

    A model of nothing but forgotten tasks needs no unlearning: it is left out.
    """
    plan, file = read_groups(folder), lookup.experiment_of(folder, out)
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
            found.append(origin_of(folder.parent / group["run"], file, name, seed, called, out, device))
    return found


def put_together(
    folder: Path, forget: Sequence[str], replaced: Mapping[str, Mapping[str, str]], out: Path, tracking: Tracking
) -> list[Path]:
    """A grouped run for each method whose models are all there; `replaced`: label -> model -> its successor."""
    file = lookup.experiment_of(folder, out)
    label, seed = label_of(folder.name, file.parent)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{file.parent.name}.{label}") + f"-without-{'-'.join(forget)}"
    experiment = _experiment(file, label, name)
    home, parent = claim_folder(experiment.resolved(), out), tracking.parent(name, {}, yaml.dump(experiment.resolved()))
    prepared = prepare(experiment.model_copy(update={"seeds": [seed]}), out)
    made = []
    for method, successors in replaced.items():
        plan = _successor(read_groups(folder), forget, successors)
        if plan is not None:
            run = _run(method, folder, forget, plan, prepared)
            _bring_to_end(run, plan, prepared, tracking, parent)
            row = {"label": method, "seed": seed, "hash": run.hash, "parent": folder.name}
            list_runs(home, [row])
            made.append(run.folder)
    return made


def _experiment(file: Path, label: str, name: str) -> Experiment:
    """The grouped run's, under the name of what is made of it."""
    raw = yaml.read(file)
    strategies = raw["strategies"]
    raw |= {"name": name, "strategies": {label: strategies.get(label, next(iter(strategies.values())))}}
    raw.pop("unlearning", None)
    return reading.validate(raw, str(file))


def _successor(plan: dict[str, Any], forget: Sequence[str], successors: Mapping[str, str]) -> dict[str, Any] | None:
    """The plan with its models replaced or left out; None where a successor is missing."""
    gone, groups = {*plan.get(NOTE, ()), *forget}, []
    for group in plan["groups"]:
        if set(group["tasks"]) <= gone:
            continue
        if set(group["tasks"]) & set(forget) and group["run"] not in successors:
            return None
        groups.append({**group, "run": successors.get(group["run"], group["run"])})
    served = {task for group in groups for task in group["serves"]}
    return {**plan, "tasks": [t for t in plan["tasks"] if t in served], "groups": groups, NOTE: sorted(gone)}


def _run(method: str, folder: Path, forget: Sequence[str], plan: dict[str, Any], prepared: Prepared) -> Run:
    """The grouped run that such a plan makes; its name follows from the models in it."""
    before = prepared.runs[0]
    asked = {"forget": list(forget), "forgotten": plan[NOTE], "parent": folder.name}
    identity = {"meaning": MEANING, "groups": plan["groups"], "router": plan["proxy"], "unlearning": asked}
    place = run_folder(prepared.out, hash_of(identity))
    tags = {"cmtl_ir.forgotten": ",".join(plan[NOTE]), "cmtl_ir.parent": folder.name}
    return Run(method, before.seed, before.strategy, identity, place, tags)


def _bring_to_end(run: Run, plan: dict[str, Any], prepared: Prepared, tracking: Tracking, parent: str) -> None:
    """Nothing is trained: the plan is written, its models are scored together."""
    experiment, started = prepared.experiment, time.monotonic()
    run.folder.mkdir(parents=True, exist_ok=True)
    with lock_of(run.folder, wait=True):
        tracker = tracking.run(
            run.hash,
            name=f"{run.label}-seed{run.seed}",
            parent=parent,
            comparison=experiment.name,
            label=run.label,
            params={"tasks": ",".join(plan["tasks"]), "seed": run.seed},
            folder=run.folder,
            tags=run.tags,
        )
        if run.status != "finished":
            write_groups(run.folder, plan)
            write_config(run.folder, run.identity, environment(prepared.device))
            write_uses(run.folder, [group["run"] for group in plan["groups"]])
            tasks = {task: prepared.tasks[run.seed][task] for task in plan["tasks"]}
            model = GroupedModel(run.folder, prepared.device)
            members = [replace(run, folder=run.folder.parent / group["run"]) for group in plan["groups"]]
            own = replace(prepared, tasks={run.seed: tasks})
            leave_results(run, own, model, members, tracker, time.monotonic() - started)
        tracker.finish("FINISHED")
