"""How long commands take to start and to end, in a folder whose tracking store and images exist.

    python -m tests.benchmarks.commands [--rounds 3]

run: from the start of the process to the end of its first step. workers: from the start of `run --workers 2` until both
runs have logged a step. report: a whole `report` of three finished runs. The best of the rounds is printed. Processor
seconds include those of all processes that a command starts; those of `workers` end with the runs, so they are not
printed.
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
from pathlib import Path

from cmtl_ir.base import yaml
from tests import tiny

STRATEGIES = {"joint": {}, "pcgrad": {"surgery": "pcgrad"}, "art": {"weighting": "art"}}
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
Cost = tuple[float, float | None]
"""Seconds by the clock, and of the processor."""


def command(folder: Path, name: str, *more: str) -> list[str]:
    """Return the arguments of `run` for the tiny experiment under a name of its own."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.dump({**tiny.RAW, "name": name, "strategies": STRATEGIES}))
    return ["run", str(file), "--out", str(folder / "runs"), "--device", "cpu", *more]


def first_step(folder: Path, name: str) -> Cost:
    """Measure `run` until its first step."""
    environment = {**os.environ, "STARTED": str(time.time())}
    arguments = [sys.executable, "-c", FIRST_STEP, *command(folder, name, "--set", "training.steps=1000")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    clock, processor = json.loads(done.stdout.splitlines()[-1])
    return clock, processor


def two_workers(folder: Path, name: str) -> Cost:
    """Measure `run --workers 2` until both runs have logged a step; then stop it."""
    known = set(folder.glob("runs/store/*/metrics.jsonl"))
    more = ("--workers", "2", "--strategy", "joint", "--strategy", "pcgrad", "--set", "training.steps=100000")
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cmtl_ir", *command(folder, name, *more)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while len(logs := set(folder.glob("runs/store/*/metrics.jsonl")) - known) < 2 or not all(
            log.stat().st_size for log in logs
        ):
            if process.poll() is not None:
                raise RuntimeError(f"the command ended with code {process.returncode}")
            time.sleep(0.01)
        return time.perf_counter() - start, None
    finally:
        process.terminate()
        process.wait()


def whole(*arguments: str) -> Cost:
    """Measure a command from its start to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "cmtl_ir", *arguments], stdout=subprocess.DEVNULL, check=True)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    return end - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best(rounds: int, measure: Callable[[int], Cost]) -> str:
    """Return the cells of a row: the least seconds of all rounds."""
    found = [measure(number) for number in range(rounds)]
    processor = [seconds for _, seconds in found if seconds is not None]
    return f"{min(clock for clock, _ in found):.1f} | {f'{min(processor):.1f}' if processor else ''}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["CMTL_IR_CACHE"] = str(folder / "cache")
        whole(*command(folder, "first"))
        print("| command | s | processor s |\n|---|--:|--:|", flush=True)
        report = ("report", "first", "--out", str(folder / "runs"))
        print(f"| run, to its first step | {best(rounds, lambda n: first_step(folder, f'step{n}'))} |", flush=True)
        print(f"| run --workers 2, to a step of both | {best(rounds, lambda n: two_workers(folder, f'two{n}'))} |")
        print(f"| report of three runs | {best(rounds, lambda n: whole(*report))} |", flush=True)


if __name__ == "__main__":
    main()
