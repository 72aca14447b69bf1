"""How long commands take to start and to end, in a folder whose tracking store and images exist.

    python -m tests.benchmarks.commands [--rounds 3] [--before PYTHON]

run: from the start of the process to the end of its first step. workers: from the start of `run --workers 2` until both
runs have logged a step. report: a whole `report` of three finished runs. The best of the rounds is printed. Processor
seconds include those of all processes that a command starts, up to the moment at which its time ends.

--before names the Python interpreter of an environment in which an earlier version is installed. Each round then
measures both versions, and the table has both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cmtl_ir.base import yaml
from tests import tiny

STRATEGIES = {"joint": {}, "pcgrad": {"surgery": "pcgrad"}, "art": {"weighting": "art"}}
LONGEST = 300.0
"""Seconds after which a command counts as one that hangs."""
FIRST_STEP = """
import json, os, sys, time
from cmtl_ir.runs.watching import recorder

def first(*_given):
    print(json.dumps([time.time() - float(os.environ["STARTED"]), time.process_time()]), flush=True)
    os._exit(0)

recorder.Recorder.stepped = first
from cmtl_ir.cli import main
main(sys.argv[1:])
"""


class Cost(NamedTuple):
    """What a command took until its time ended."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Version:
    """An installed version, with a folder of its own."""

    python: str
    folder: Path

    def prepare(self) -> None:
        """Train three runs, which leaves a tracking store, packed images and something to report."""
        self.whole(*self.run("first"))

    def run(self, name: str, *more: str) -> list[str]:
        """Return the arguments of `run` for the tiny experiment under a name of its own."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.dump({**tiny.RAW, "name": name, "strategies": STRATEGIES}))
        return ["run", str(file), "--out", str(self.folder / "runs"), "--device", "cpu", *more]

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Python in this version's folder, so that no other version is imported."""
        environment = {**os.environ, "CMTL_IR_CACHE": str(self.folder / "cache"), "STARTED": str(time.time())}
        return subprocess.Popen(
            [self.python, *arguments], cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def first_step(self, number: int) -> Cost:
        """Measure `run` until its first step."""
        arguments = self.run(f"step{number}", "--set", "training.steps=1000")
        process = self.started("-c", FIRST_STEP, *arguments)
        try:
            said, _ = process.communicate(timeout=LONGEST)
        finally:
            process.kill()
        return Cost(*json.loads(said.splitlines()[-1]))

    def two_workers(self, number: int) -> Cost:
        """Measure `run --workers 2` until both runs have logged a step; then stop it."""
        known = set(self.folder.glob("runs/store/*/metrics.jsonl"))
        more = ("--workers", "2", "--strategy", "joint", "--strategy", "pcgrad", "--set", "training.steps=100000")
        start = time.perf_counter()
        process = self.started("-m", "cmtl_ir", *self.run(f"two{number}", *more, "--set", f"seeds=[{number}]"))
        try:
            while (
                sum(1 for log in self.folder.glob("runs/store/*/metrics.jsonl") if log not in known and _full(log)) < 2
            ):
                if process.poll() is not None or time.perf_counter() - start > LONGEST:
                    raise RuntimeError(f"no two runs have started; exit code {process.poll()}")
                time.sleep(0.01)
            return Cost(time.perf_counter() - start, processor_of(process.pid))
        finally:
            process.terminate()
            process.communicate()

    def report(self, number: int) -> Cost:
        """Measure a report of three runs."""
        return self.whole("report", "first", "--out", str(self.folder / "runs"))

    def whole(self, *arguments: str) -> Cost:
        """Measure a command from its start to its end."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = self.started("-m", "cmtl_ir", *arguments)
        process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)} ended with code {process.returncode}")
        after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        return Cost(end - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _full(log: Path) -> bool:
    return log.stat().st_size > 0


def processor_of(pid: int) -> float:
    """Return the processor seconds of a process and of all that it started (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = [one for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]
    except FileNotFoundError:  # it has ended
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(processor_of(int(one)) for one in children)


COMMANDS: dict[str, Callable[[Version, int], Cost]] = {
    "run, to its first step": Version.first_step,
    "run --workers 2, to a step of both": Version.two_workers,
    "report of three runs": Version.report,
}


def main(given: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", metavar="PYTHON")
    options = parser.parse_args(given)
    pythons = {"before": options.before, "after": sys.executable} if options.before else {"": sys.executable}
    with tempfile.TemporaryDirectory() as place:
        versions = [Version(python, Path(place) / f"version{name}") for name, python in pythons.items()]
        for version in versions:
            version.prepare()
        columns = [f"{name} {unit}".strip() for unit in ("s", "processor s") for name in pythons]
        print(f"| command | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}", flush=True)
        for said, measure in COMMANDS.items():
            found = [[measure(version, number) for version in versions] for number in range(options.rounds)]
            of_version = list(zip(*found, strict=True))
            best = [min(cost.seconds for cost in one) for one in of_version]
            best += [min(cost.processor for cost in one) for one in of_version]
            print(f"| {said} | {' | '.join(f'{value:.1f}' for value in best)} |", flush=True)


if __name__ == "__main__":
    main()
