"""One job in a process of its own: read from standard input, answered on standard output, all talk on standard error.

The other end of standard input stays open for as long as the job is wanted: when it closes, the launcher is gone and
the job stops as if by SIGTERM, with a checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any


def train_run(job: Mapping[str, Any]) -> None:
    """Bring one run of an experiment to its end."""
    from cmtl_ir import config, execution, plans
    from cmtl_ir.tracking import Tracking

    experiment = config.validate(job["experiment"], "the job")
    prepared = plans.prepare(experiment, Path(job["out"]), job["device"])
    run = replace(prepared.runs[0], label=job["label"])
    if run.hash != job["hash"]:
        raise RuntimeError(f"the job is of run {job['hash']}, but here its data and experiment make it {run.hash}")
    tracking = Tracking(job["tracking_uri"], prepared.out)
    execution.execute(run, prepared, tracking, job["parent"], None, wait=True)  # an attempt before may still be saving


def take_trials(job: Mapping[str, Any]) -> None:
    """Work on the trials of a study until none is left."""
    from cmtl_ir.search import studies
    from cmtl_ir.search.config import Plan

    studies.work(Plan.of(job["plan"]), Path(job["out"]), job["device"], job["tracking_uri"])


def forget(job: Mapping[str, Any]) -> None:
    """Make a finished run forget by one method."""
    from cmtl_ir.unlearning.apart import bring_to_its_end
    from cmtl_ir.unlearning.requests import fulfil, runs_of

    bring_to_its_end(job, runs_of, fulfil)


def audit(job: Mapping[str, Any]) -> None:
    """Measure what models still know of what they were made to forget."""
    from cmtl_ir.unlearning.audits_apart import audit_all

    audit_all(job)


KINDS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "run": train_run,
    "search": take_trials,
    "unlearn": forget,
    "audit": audit,
}


def main() -> None:
    """Entry point: `python -m cmtl_ir.worker < JOB`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints into the log
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_when_alone, daemon=True).start()
    answer = _answer(job)
    sys.stdout.flush()
    json.dump(answer, answers)
    answers.flush()
    os._exit(0)  # the answer is given: nothing that a library does at exit can take it back


def _answer(job: Mapping[str, Any]) -> dict[str, str]:
    from cmtl_ir.errors import Interrupted, UserError

    try:
        KINDS[job["kind"]](job)
        return {"state": "finished"}
    except Interrupted as stopped:
        return {"state": "stopped", "reason": str(stopped)}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return {"state": "failed", "reason": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def _stop_when_alone() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
