"""Audits of a report in separate processes. The report then reads the finished audits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.processes import pool
from cmtl_ir.processes.job import Job
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.unlearning.audit import Auditor
from cmtl_ir.unlearning.jobs import described_origin, origin_described


def audit_in_processes(asked: Sequence[tuple[Auditor, Sequence[Path]]], workspace: Workspace) -> None:
    """Audit the models in these folders, `workspace.workers` at once. A failed audit is repeated when it is needed."""
    todo = [(auditor, folder) for auditor, folders in asked for folder in folders if auditor.known(folder) is None]
    if not todo:
        return
    # neighbours stay together, so that what the models of a seed share is computed in few processes
    size = math.ceil(len(todo) / workspace.workers)
    device = str(asked[0][0].device)
    jobs = [
        _job_of(number, todo[start : start + size], workspace.out, device)
        for number, start in enumerate(range(0, len(todo), size))
    ]
    with pool.starter(workspace.workers, device, workspace.ray) as start:
        pool.work_off(jobs, workspace.workers, start)


def _job_of(number: int, lot: Sequence[tuple[Auditor, Path]], out: Path, device: str) -> Job:
    folders = dict[Auditor, list[str]]()
    for auditor, folder in lot:
        folders.setdefault(auditor, []).append(str(folder.resolve()))
    payload = {
        "call": "cmtl_ir.unlearning.audit_jobs:audit_all",
        "parts": [
            {
                "origin": described_origin(auditor.origin, out),
                "forget": list(auditor.forget),
                "reference": str(auditor.reference.resolve()) if auditor.reference else None,
                "budget": auditor.budget,
                "home": str(auditor.home.resolve()),
                "folders": own,
            }
            for auditor, own in folders.items()
        ],
        "out": str(out.resolve()),
        "device": device,
    }
    return Job(f"audit {number + 1}", payload, lot[0][0].home / f"log-{number + 1}.txt")


def audit_all(payload: Mapping[str, Any]) -> None:
    """Make all audits of a payload. This is the job of a worker."""
    for part in payload["parts"]:
        origin = origin_described(part["origin"], Path(payload["out"]), payload["device"])
        reference = Path(part["reference"]) if part["reference"] else None
        auditor = Auditor(origin, part["forget"], reference, part["budget"], Path(part["home"]))
        for folder in part["folders"]:
            auditor.audit(Path(folder))
