"""Many runs at once: what dies is started again and ends with the same bits, what fails is named, a stop is clean."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir import cli
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.cli import commands, display
from cmtl_ir.config.reading import merged
from cmtl_ir.processes import pool, worker
from cmtl_ir.processes.job import Job, LocalProcess, environment_of
from cmtl_ir.runs import comparison, parallel
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.checkpoint import newest_step
from cmtl_ir.store.run import Run
from cmtl_ir.unlearning.origin import find_origin
from cmtl_ir.unlearning.requests import Asked, fulfil_all
from tests import tiny
from tests.runs.test_runs import final_weights, journal
from tests.unlearning import cases

STRATEGIES: dict[str, Any] = {"joint": {}, "pcgrad": {"surgery": "pcgrad"}}
WILD = {"training": {"optimizer": {"lr": 1e25}}}  # its first step is finite, so that the probe passes
OVER: dict[str, Any] = {"training": {"steps": 60}, "evaluation": {"every": 0}, "data": {"test_crop": 24}}

# ------------------------------------------------------------------------------- real processes, real signals


class Killer:
    """The progress of all runs; ends the processes of one strategy, once, when it has logged a step."""

    def __init__(self, label: str, processes: dict[str, list[subprocess.Popen[str]]]) -> None:
        self.label, self.processes, self.done = label, processes, False
        self.seen: dict[str, int] = {}
        self.name = ""

    def of_run(self, run: Run) -> Any:
        killer = self

        class Bar:
            def advanced(self, step: int, losses: dict[str, float]) -> None:
                killer.seen[run.label] = step
                if run.label == killer.label and not killer.done:
                    killer.done = True
                    killer.name = run.name
                    killer.kill()

            def happened(self, step: int | None, what: str) -> None:
                """Nothing is shown."""

        return Bar()

    def kill(self) -> None:
        """Called once."""
        self.processes[self.name][-1].kill()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[subprocess.Popen[str]]]]:
    """Name of a job -> the processes that were started for it."""
    started: dict[str, list[subprocess.Popen[str]]] = {}

    class Known(LocalProcess):
        def __init__(self, one: Job, environment: dict[str, str]) -> None:
            super().__init__(one, environment)
            started.setdefault(one.name, []).append(self.process)

    monkeypatch.setattr(pool, "LocalProcess", Known)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield started
    assert all(process.poll() is not None for listed in started.values() for process in listed)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    with one_thread():
        return comparison.run(tiny.experiment(STRATEGIES, **OVER), tmp_path_factory.mktemp("serial"), "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Here:
    """An attempt at a job that is done in this process: for claims about jobs, not about processes."""

    def __init__(self, job: Job, done: list[str]) -> None:
        done.append(job.name)
        with one_thread():
            self._answer = worker._answer(json.loads(json.dumps(job.payload)))

    def answer(self) -> dict[str, str]:
        return self._answer

    def stop(self, at_once: bool = False) -> None:
        raise AssertionError("the job has ended")


@pytest.fixture
def done_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the jobs, which are done in this process."""
    done: list[str] = []
    monkeypatch.setattr(pool, "LocalProcess", lambda job, environment: Here(job, done))
    return done


def file_of(folder: Path, strategies: dict[str, Any], **over: Any) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.dump({**merged(merged(tiny.RAW, OVER), over), "strategies": strategies}))
    return file


def test_a_killed_worker_is_retried_to_the_same_bits_and_a_failed_run_is_named(
    serial: Comparison,
    tmp_path: Path,
    processes: dict[str, list[subprocess.Popen[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killer, strategies = Killer("joint", processes), {**STRATEGIES, "wild": WILD}
    monkeypatch.setattr(display, "live", lambda *_: contextlib.nullcontext(killer))
    file = file_of(tmp_path, strategies)
    arguments = ["run", str(file), "--out", str(tmp_path), "--device", "cpu", "--workers", "2"]
    assert commands.app(arguments, standalone_mode=False) == 1, "the exit code says that one failed"
    assert killer.done and killer.seen["pcgrad"] == 60, "all runs are seen from here"
    codes = {name: [process.returncode for process in listed] for name, listed in processes.items()}
    assert codes == {"joint, seed 0": [-signal.SIGKILL, 0], "pcgrad, seed 0": [0], "wild, seed 0": [0]}
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"failed: wild, seed 0: step \d+: the loss or gradient of .+ is not a finite number", said), said
    trained = comparison.prepare(tiny.experiment(STRATEGIES, **OVER), tmp_path, "cpu").runs
    done = replace(serial, runs=trained)
    one, two = final_weights(serial), final_weights(done)
    assert all(tiny.same(one[label], two[label]) for label in STRATEGIES)
    assert journal(serial) == journal(done)


def test_a_worker_whose_launcher_is_gone_saves_and_leaves(
    tmp_path: Path, processes: dict[str, list[subprocess.Popen[str]]]
) -> None:
    prepared = comparison.prepare(tiny.experiment(training={"steps": 5000}, evaluation={"every": 0}), tmp_path, "cpu")
    one = parallel.job_of(prepared.planned[0], Workspace.at(tmp_path, "cpu"), "")
    attempt = LocalProcess(one, environment_of(0, 1, []))
    home = prepared.runs[0].folder
    until(lambda: (home / "metrics.jsonl").is_file() and (home / "metrics.jsonl").stat().st_size > 0)
    attempt.process.stdin.close()  # what the system does when the launcher dies
    until(lambda: attempt.process.poll() is not None)
    answer = attempt.answer()
    assert answer is not None and answer["state"] == "stopped" and "stopped by SIGTERM at step" in answer["reason"]
    assert (newest_step(home / "checkpoints") or 0) > 0


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.release
def test_ctrl_c_stops_all_workers_with_a_checkpoint(
    tmp_path: Path,
    processes: dict[str, list[subprocess.Popen[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    heard: None,
) -> None:
    class Impatient(Killer):
        def kill(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(display, "live", lambda: contextlib.nullcontext(Impatient("pcgrad", processes)))
    file = file_of(tmp_path, {**STRATEGIES, "third": {"weighting": "art"}}, training={"steps": 5000})
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(file), "--out", str(tmp_path), "--device", "cpu", "--workers", "2"])
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 130 and "stopped with 2 running and 1 waiting" in said
    assert "the same command resumes" in said and sorted(processes) == ["joint, seed 0", "pcgrad, seed 0"]
    homes = [file.parent for file in (tmp_path / "store").glob("*/metrics.jsonl")]
    assert homes and all(newest_step(home / "checkpoints") is not None for home in homes)


def test_the_groups_of_a_grouped_run_are_jobs_of_their_own(tmp_path: Path, done_here: list[str]) -> None:
    groups = {"name": "manual", "groups": [["noise", "haze"], ["rain"]], "routing": "oracle"}
    made = tiny.experiment({"told": {"grouping": groups}}, **tiny.merged(OVER, {"training": {"steps": 6}}))
    done = comparison.run(made, tmp_path, "cpu", workers=2)
    assert not done.failures and sorted(done_here) == ["told/noise+haze, seed 0", "told/rain, seed 0"]
    with one_thread():
        alone = comparison.run(made, tmp_path / "alone", "cpu")
    one, two = ([folder / "weights.safetensors" for folder in each.runs[0].folders[1:]] for each in (alone, done))
    assert len(one) == 2 and [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_the_methods_of_an_unlearning_table_are_jobs_of_their_own(serial: Comparison, done_here: list[str]) -> None:
    out = serial.folder.parent
    jobs = [cases.job(find_origin("tiny/joint", out, "cpu"), name, **cases.FEW[name]) for name in ("scrub", "ssd")]
    (made,) = fulfil_all([], [Asked([jobs[0].origin], jobs)], ["haze"], Workspace.at(out, "cpu", workers=2)).requests
    assert not made.failures and sorted(done_here) == ["scrub, seed 0", "ssd, seed 0"]
    with one_thread():
        for done in made.done:
            assert tiny.same(cases.weights_in(done.run), tiny.weights(cases.forgotten(done.job)))


# ----------------------------------------------------------------------------------------------------- on Ray


@pytest.fixture(scope="module")
def ray() -> Any:
    return pytest.importorskip("ray", reason="the optional extra [ray]")


def test_a_worker_killed_on_ray_is_retried_to_the_same_bits(serial: Comparison, tmp_path: Path, ray: Any) -> None:
    killed: list[str] = []

    class Bar:
        def advanced(self, step: int, losses: dict[str, float]) -> None:
            if not killed:
                killed.append(_kill_a_worker_of(str(tmp_path)))

        def happened(self, step: int | None, what: str) -> None:
            """Nothing is shown."""

    made = tiny.experiment(STRATEGIES, **OVER)
    done = comparison.run(made, tmp_path, "cpu", progress=lambda run: Bar(), workers=2, ray="local")
    assert killed and not done.failures
    logs = [(run.folder / "log.txt").read_text().count("--- ") for run in done.runs]
    assert sorted(logs) == [1, 2], "one job was started twice"
    one, two = final_weights(serial), final_weights(done)
    assert all(tiny.same(one[label], two[label]) for label in STRATEGIES)


def _kill_a_worker_of(folder: str) -> str:
    """SIGKILL one process of `cmtl_ir.processes.worker` whose log is in this folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and b"cmtl_ir.processes.worker" in (entry / "cmdline").read_bytes():
            log = os.readlink(entry / "fd" / "2")
            if log.startswith(folder):
                os.kill(int(entry.name), signal.SIGKILL)
                return log
    raise AssertionError("no worker is at work")


def test_a_cluster_that_is_not_there_is_an_answer(tmp_path: Path, ray: Any) -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers at 'localhost:1'.*--ray local"):
        comparison.run(tiny.experiment(), tmp_path, "cpu", workers=2, ray="localhost:1")
