"""Print one table of what training and evaluation cost on a GPU, within nine minutes.

    python -m tests.benchmarks.gpu [--only SECTION ...] [--minutes 9] [--device cuda] [--tiny]

Each section runs in its own process and prints its rows as soon as they are measured. A section that fails or needs
more than its share of the time is named, and the next one starts. `--tiny --device cpu` runs every line of it within
seconds, with sizes whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

SECTIONS = {
    "throughput": 3.0,
    "data": 1.0,
    "engines": 3.0,
    "resume": 1.0,
    "workers": 1.5,
    "scoring": 1.0,
    "compiled": 4.0,
}
"""Section -> its share of the time. A section is the function `table` of the module of its name."""


def limits(sections: Sequence[str], minutes: float) -> dict[str, float]:
    """Return the seconds that each section may take, so that all of them end within `minutes`."""
    whole = sum(SECTIONS[name] for name in sections)
    return {name: 60 * minutes * SECTIONS[name] / whole for name in sections}


def within(command: Sequence[str], seconds: float) -> str:
    """Run a command with all the processes that it starts, at most for `seconds`. Return what went wrong, or ""."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(seconds)
        return f"failed with exit code {code}" if code else ""
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_section(name: str, device: str, tiny: bool) -> None:
    """Print the heading and the rows of one section."""
    from tests.benchmarks.gpu.cases import Sizes, machine

    sizes = Sizes(device, tiny)
    print(f"\n## {name}\n\n{machine(sizes)}\n", flush=True)
    pkgutil.resolve_name(f"tests.benchmarks.gpu.{name}:table")(sizes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections. Exit with 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes of a test; all sections in this process")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.tiny or options.here:
        for name in options.only:
            run_section(name, options.device, options.tiny)
        return
    wrong, end = {}, time.monotonic() + 60 * options.minutes
    for name, seconds in limits(options.only, options.minutes).items():
        own = [sys.executable, "-m", "tests.benchmarks.gpu", "--here", "--device", options.device, "--only", name]
        if problem := within(own, min(seconds, end - time.monotonic())):
            wrong[name] = problem
            print(f"\n{name}: {problem}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
