"""Work of a run whose curriculum stands on short runs of its own: these are trained first, then the run itself."""

from __future__ import annotations

from dataclasses import replace

from cmtl_ir.grouping.members import Members
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.ordinary import train_run
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.store.folder import write_uses
from cmtl_ir.strategy.data import Proxy
from cmtl_ir.strategy.making import part_from


def train_after_proxies(active: ActiveRun) -> None:
    """Train the proxies of a run and then the run. Finished proxies are found again, and killed ones are resumed."""
    planned = active.planned
    members = Members(planned, active.workspace, active.parent)
    coming = [_proxy(members, one) for one in planned.strategy.curriculum.proxies(tuple(planned.tasks))]
    try:
        runs = [members.train(one) for one in coming]
    finally:
        write_uses(active.run.folder, members.used)
    train_run(replace(active, planned=replace(planned, proxies=tuple(run.hash for run in runs))))


def _proxy(members: Members, proxy: Proxy) -> PlannedRun:
    """Plan a proxy: the strategy of the run on a fixed mixture, for a share of the steps."""
    whole = members.whole
    joint = part_from("curriculum", {"name": "joint", "mixture": dict(proxy.mixture)}, "curriculum", [])
    strategy = whole.strategy.model_copy(update={"curriculum": joint})
    steps = max(1, round(proxy.share * whole.experiment.training.steps))
    return members.plan(tuple(whole.tasks), strategy, steps, "probes", conflict=0)
