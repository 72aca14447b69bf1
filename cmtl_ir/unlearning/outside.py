"""Unlearning of an outside model: the checkpoint, and the checkpoint of a model that was trained without the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs.begin.outside import OutsideModel, take_in
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.listing import list_runs
from cmtl_ir.unlearning.origin import Origin, check_request, find_origin
from cmtl_ir.unlearning.planning import REFERENCE, claim_request
from cmtl_ir.unlearning.report import RETRAINED


def outside_origin(
    experiment: Experiment,
    model: OutsideModel,
    forget: Sequence[str],
    workspace: Workspace,
    reference: OutsideModel | None = None,
) -> Path:
    """Take an outside model into the store and return the folder of the run that is to forget.

    `reference` is a model that was trained without the tasks; `None` leaves the request without a reference. Raises
    UserError if the request cannot be fulfilled or if the reference is no other network of the same kind.
    """
    run = take_in(experiment, model, workspace)
    origin = find_origin(run.folder, workspace.out, workspace.device)
    check_request([origin], forget)
    if reference is not None:
        _refer_to(origin, forget, take_in(experiment, reference, workspace).folder, workspace)
    return run.folder


def _refer_to(origin: Origin, forget: Sequence[str], reference: Path, workspace: Workspace) -> None:
    """List a model as the reference of a request."""
    if reference == origin.folder:
        raise UserError(
            "--reference has the weights of the model that is to forget; give those of a model that was trained "
            f"without {', '.join(forget)}"
        )
    folder = claim_request([origin], forget, workspace.out)
    row = {"label": RETRAINED, "seed": origin.seed, "hash": reference.name, "parent": origin.hash}
    list_runs(folder, [row | {"method": REFERENCE, "steps": 0, "seconds": 0.0, "cpu_seconds": 0.0}])
