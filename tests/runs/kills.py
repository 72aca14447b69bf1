"""Kill -9 at random moments of runs of every family, again and again, until each has come to its end.

    python -m tests.runs.kills [--kills 100] [--seed 0] [--only FAMILY ...]

A run is started, killed when it has made a random number of steps (and, by chance, in the middle of the next step, of
an evaluation or of a checkpoint), and started again by the same call, until it is finished. Its weights, its metrics
and its tables must then equal those of an unbroken run to the last bit. Processes are forked from this one, which has
trained the unbroken run and so has imported everything, and their tracking store is one that forgets: what MLflow
keeps of killed runs is claimed in tests/tracking. Prints a table; exits with 1 where a bit differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

os.environ["OMP_NUM_THREADS"] = "1"  # a forked process would wait for threads that only its parent has

import torch

from cmtl_ir.config.unlearning import methods_from
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.search.config import Plan, SearchConfig
from cmtl_ir.search.trials import search
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult
from cmtl_ir.unlearning.requests import unlearn
from tests import tiny
from tests.unlearning.cases import FEW

SHORT: dict[str, Any] = {
    "training": {"steps": 24, "batch": 6},
    "data": {"test_crop": 24},
    "evaluation": {"every": 7},
    "checkpoint": {"every": 3},
}
SLEEP = 0.06
"""Longest time, in seconds, between the step at which a process is to die and its death: a few steps or a save."""


# ------------------------------------------------------------------------------------------------ the families


def comparison(strategy: dict[str, Any], **over: Any) -> Callable[[Path], None]:
    """`cmtl-ir run` of one strategy."""

    def finish(out: Path) -> None:
        done = runs.run(tiny.experiment({"one": strategy}, **tiny.merged(SHORT, over)), out, "cpu")
        assert not done.failures, done.failures

    return finish


def forgetting(out: Path) -> None:
    """`cmtl-ir unlearn` of a joint run: a program of stages and a one-shot edit."""
    comparison({})(out)
    methods = methods_from({name: FEW[name] | {"steps": 8} for name in ("scrub", "neggrad_plus")}, [])
    methods |= methods_from({"ssd": FEW["ssd"]}, [])
    answer = unlearn("tiny/one", ["haze"], methods, Workspace.at(out, "cpu"))
    assert not answer.requests[0].failures


def searching(out: Path) -> None:
    """`cmtl-ir search` over all settings of a small space."""
    raw = tiny.merged(tiny.RAW, tiny.merged(SHORT, {"data": {"val": 0.2}, "training": {"steps": 10}}))
    space = {"strategy.weighting": {"choice": ["equal", "dwa"]}, "strategy.surgery": {"choice": [None, "mgda"]}}
    block = SearchConfig.model_validate({"space": space, "sampler": "BruteForceSampler", "retries": 99})
    found = search(Plan("study", raw, {}, block), Workspace.at(out, "cpu"))
    complete = [trial for trial in found.study.trials if trial.state.name == "COMPLETE"]
    settings = {str(trial.params): trial.values for trial in complete}
    assert len(complete) == len(settings) == 4, "a setting was lost or done twice"
    (out / "settings.json").write_text(json.dumps(settings, sort_keys=True))


SMALL: dict[str, Any] = {"share": 0.5, "patches": 12, "size": 32, "query": 4}
STAGED: dict[str, Any] = {"curriculum": "sequential"}
FAMILIES: dict[str, Callable[[Path], None]] = {
    "joint": comparison({}),
    "joint, averaged weights": comparison({}, training={"ema": 0.9}),
    "art": comparison({"weighting": "art"}),
    "famo": comparison({"weighting": "famo"}),
    "uncertainty": comparison({"weighting": "uncertainty"}),
    "pcgrad": comparison({"surgery": "pcgrad"}),
    "nash_mtl": comparison({"surgery": "nash_mtl"}),
    "review": comparison({"curriculum": {"name": "review", "entropy_pairs": 4}, "weighting": "gradnorm"}),
    "mixed_matched": comparison({"curriculum": "mixed_matched"}),
    "replay": comparison({**STAGED, "retention": {"name": "replay", "capacity": 9, "policy": "reservoir"}}),
    "ewc": comparison({**STAGED, "retention": {"name": "ewc", "crops": 4}}),
    "gem + cagrad": comparison({**STAGED, "retention": {"name": "gem", "capacity": 9}, "surgery": "cagrad"}),
    "grouped": comparison({"grouping": {"name": "grids", "groups": 2, **SMALL}}, conflict={"every": 0}),
    "unlearning": forgetting,
    "search": searching,
}


# ------------------------------------------------------------------------------------- processes and their end


class Forgetful(MagicMock):
    """A tracking store that takes everything and has nothing."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """See MlflowStore."""
        return contextlib.nullcontext()

    def get(self, run_id: str) -> None:
        """See MlflowStore."""

    find = get

    def create(self, name: str, tags: Any, begun: int) -> str:
        """See MlflowStore."""
        return "nobody"

    def latest(self, run_id: str) -> dict[str, int]:
        """See Store."""
        return {}


class Steps:
    """How many steps a process has made, seen from outside."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8)

    @property
    def made(self) -> int:
        """Since `clear`."""
        return struct.unpack("q", self.memory[:8])[0]

    def set(self, count: int) -> None:
        """Say it."""
        self.memory[:8] = struct.pack("q", count)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Every step that a recorder sees counts, before anything else is done about it."""
        stepped = Recorder.stepped

        def counting(recorder: Recorder, learner: Learner, result: StepResult, rate: float) -> None:
            self.set(self.made + 1)
            stepped(recorder, learner, result, rate)

        with patch.object(Recorder, "stepped", counting):
            yield


def forked(work: Callable[[Path], None], out: Path, steps: Steps) -> int:
    """Id of a process that does the work; it ends with 0, or with 1 and a traceback."""
    steps.set(0)
    if process := os.fork():
        return process
    code = 1
    try:
        with steps.counted():
            work(out)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> bool:
    """True when it came to its end by itself. Raises where it failed."""
    found, status = os.waitpid(process, os.WNOHANG)
    if not found:
        return False
    if status:
        raise AssertionError(f"a process ended with status {status}")
    return True


def killed(process: int, steps: Steps, after: int, pause: float) -> bool:
    """Kill it once it has made `after` steps and has gone on for `pause` seconds. False: it was faster."""
    while steps.made < after:
        if ended(process):
            return False
        time.sleep(0.001)
    time.sleep(pause)
    if ended(process):
        return False
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


# -------------------------------------------------------------------------------------------------- comparing


def left_by(out: Path) -> dict[str, bytes]:
    """Everything that must be the same: name of a file -> its content, without clocks."""
    found = {}
    for home in sorted((out / "store").iterdir()):
        for name in ("weights.safetensors", "curve.csv", "per_image.csv", "conflict.csv", "groups.json"):
            if (home / name).is_file():
                found[f"{home.name}/{name}"] = (home / name).read_bytes()
        if (home / "metrics.jsonl").is_file():
            entries = map(json.loads, (home / "metrics.jsonl").read_text().splitlines())
            lines = [
                [
                    entry["step"],
                    {name: value for name, value in entry["metrics"].items() if not name.startswith("cost/")},
                ]
                for entry in entries
            ]
            found[f"{home.name}/metrics.jsonl"] = json.dumps(lines).encode()
        assert (home / "result.json").is_file(), f"{home} is not finished"
    if (out / "settings.json").is_file():
        found["settings.json"] = (out / "settings.json").read_bytes()
    return found


@dataclass
class Tally:
    """What became of a family."""

    steps: int = 0
    finished: int = 0
    at: list[int] = field(default_factory=list)
    """Steps that each killed process had made."""
    different: list[str] = field(default_factory=list)


def ordeal(work: Callable[[Path], None], folder: Path, kills: int, chance: random.Random) -> Tally:
    """An unbroken run, then runs that are killed until there were so many kills; each is resumed to its end."""
    tally, steps = Tally(), Steps()
    with steps.counted():
        work(folder / "unbroken")
    expected, tally.steps = left_by(folder / "unbroken"), steps.made
    while len(tally.at) < kills:
        out = folder / f"killed-{tally.finished}"
        while True:
            process = forked(work, out, steps)
            left = kills - len(tally.at)
            after = chance.randint(0, max(1, tally.steps // 2)) if left else 1 << 60
            if not killed(process, steps, after, chance.uniform(0.0, SLEEP)):
                break
            tally.at.append(steps.made)
        tally.finished += 1
        found = left_by(out)
        names = sorted(expected.keys() | found.keys())
        tally.different += [f"{out.name}/{name}" for name in names if expected.get(name) != found.get(name)]
    return tally


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all, shared by the families")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    options = parser.parse_args()
    torch.set_num_threads(1)
    Tracking._store = Forgetful()  # type: ignore[method-assign]
    chance, failed, total = random.Random(options.seed), False, 0
    print("| family | steps of a run | kills | after so many steps of its process | runs finished | bits |")
    print("|---|--:|--:|---|--:|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CMTL_IR_CACHE"] = f"{folder}/cache"
        for number, name in enumerate(options.only):
            share = options.kills * (number + 1) // len(options.only) - options.kills * number // len(options.only)
            tally = ordeal(FAMILIES[name], Path(folder) / str(number), share, chance)
            said = "differ: " + ", ".join(tally.different) if tally.different else "equal"
            at = " ".join(map(str, tally.at))
            print(f"| {name} | {tally.steps} | {len(tally.at)} | {at} | {tally.finished} | {said} |", flush=True)
            failed, total = failed or bool(tally.different), total + len(tally.at)
    print(f"\n{total} kills, seed {options.seed}: {'NOT all' if failed else 'all'} bits equal to unbroken runs")
    sys.exit(failed)


if __name__ == "__main__":
    main()
