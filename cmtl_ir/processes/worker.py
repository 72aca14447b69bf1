"""One job in its own process.

The job is read from standard input and its answer is written to standard output. All other output goes to standard
error. A job is JSON whose key `call` names a function as `module:function`. The function is called with the whole job.

Standard input stays open as long as the job is wanted. When it is closed, the launcher is gone, and the job stops as
if by SIGTERM, with a checkpoint.
"""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Entry point: `python -m cmtl_ir.processes.worker < JOB`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # everything that is printed goes to the log
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_when_launcher_ends, daemon=True).start()
    answer = _answer(job)
    sys.stdout.flush()
    json.dump(answer, answers)
    answers.flush()
    os._exit(0)  # the answer is written; no exit handler of a library may change the outcome


def _answer(job: Mapping[str, Any]) -> dict[str, str]:
    from cmtl_ir.base.errors import Interrupted, UserError, unwritable

    try:
        pkgutil.resolve_name(job["call"])(job)
        return {"state": "finished"}
    except Interrupted as stopped:
        return {"state": "stopped", "reason": str(stopped)}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return {"state": "failed", "reason": str(error)}
    except Exception as error:
        if said := unwritable(error):
            return {"state": "failed", "reason": said}
        traceback.print_exc()
        return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def _stop_when_launcher_ends() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
