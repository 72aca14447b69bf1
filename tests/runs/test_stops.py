"""Claims about runs that are stopped, killed, moved or robbed of a file: nothing is lost, and nothing stays stale."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from cmtl_ir.analysis.data import sources
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.base.errors import Interrupted, UserError, unwritable
from cmtl_ir.base.signals import Interrupting, answered
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs import ordinary, results
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.runs.watching.saving import Checkpoints
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.store import deliver, local_uri, read_runs
from cmtl_ir.tracking.tracker import RunTracker
from tests import tiny

SHORT = {
    "tasks": {"haze": None},
    "training": {"steps": 4},
    "evaluation": {"every": 0},
    "conflict": {"every": 2},
    "checkpoint": {"every": 2},
}


def short(**more: Any) -> Experiment:
    return tiny.experiment(**tiny.merged(SHORT, more))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return runs.run(short(), tmp_path_factory.mktemp("unbroken"), "cpu")


def is_like(one: Comparison, other: Comparison) -> bool:
    """Whether the runs of both have the same weights and scores, and their stores say that they are finished."""
    statuses = [*read_runs(local_uri(other.folder.parent), "tiny")["runs"]["status"]]
    files = [made.runs[0].folder / "weights.safetensors" for made in (one, other)]
    weights = [safetensors.torch.load_file(file) for file in files]
    scores = [made.runs[0].result()["psnr"] for made in (one, other)]
    return tiny.same(*weights) and scores[0] == scores[1] and statuses == ["FINISHED"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_training_saves_and_the_same_command_continues(
    number: signal.Signals, unbroken: Comparison, tmp_path: Path
) -> None:
    class Bar:
        def __init__(self, run: Run) -> None:
            pass

        def advanced(self, step: int, losses: dict[str, float]) -> None:
            signal.raise_signal(number)

        def happened(self, step: int | None, what: str) -> None:
            """Nothing is shown."""

    longer = short(training={"steps": 12})
    with pytest.raises(Interrupted, match=f"stopped by {number.name} at step 10: .*the same command resumes"):
        runs.run(longer, tmp_path, "cpu", progress=Bar)
    assert read_runs(local_uri(tmp_path), "tiny")["runs"]["status"].tolist() == ["KILLED"]
    assert runs.run(longer, tmp_path, "cpu").runs[0].result()["steps"] == 12


def stopped_by_signal(*_: Any) -> None:
    signal.raise_signal(signal.SIGTERM)


def full_disk(path: Path, _: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.mark.error("run: a full disk while the pictures are written")
@pytest.mark.parametrize(
    ("failing", "error", "words"),
    [
        (stopped_by_signal, KeyboardInterrupt, ""),
        (full_disk, OSError, "noise.input.png: No space left on device; free some space there"),
    ],
    ids=["SIGTERM", "full disk"],
)
def test_what_stops_the_final_writing_costs_nothing(
    failing: Callable[..., None],
    error: type[BaseException],
    words: str,
    unbroken: Comparison,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched, answered(Interrupting(lambda: None)):
        patched.setattr(results, "write_image", failing)
        with pytest.raises(error) as caught:
            runs.run(short(), tmp_path, "cpu")
    assert words in (unwritable(caught.value) or "")
    assert read_runs(local_uri(tmp_path), "tiny")["runs"]["status"].tolist() == ["KILLED"]
    assert is_like(unbroken, runs.run(short(), tmp_path, "cpu"))


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("by", ["running again", "sync"])
def test_a_result_that_was_written_last_reaches_the_store(
    by: str, unbroken: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_die(*given: Any) -> None:
        write(*given)
        raise Killed

    write = results.write_result
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(results, "write_result", write_and_die)
        patched.setattr(RunTracker, "finish", lambda self, status: self._stop.set())
        runs.run(short(), tmp_path, "cpu")
    if by == "sync":
        assert deliver(tmp_path) == 1
    done = runs.run(short(), tmp_path, "cpu")
    assert is_like(unbroken, done) and deliver(tmp_path) == 0
    (row,) = read_runs(local_uri(tmp_path), "tiny")["runs"].to_dict("records")
    listed = done.tracking._store.client.list_artifacts(row["run_id"])
    assert {"result.json", "weights.safetensors", "curve.csv"} <= {file.path for file in listed}


def test_a_finished_run_without_weights_is_made_again_from_its_last_checkpoint(
    unbroken: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unbroken.folder.parent, tmp_path / "moved")
    (run,) = [one.parent for one in tmp_path.glob("moved/store/*/weights.safetensors")]
    (run / "weights.safetensors").unlink()
    assert Frames.of_folder(tmp_path / "moved" / "tiny").finished, "its scores still count"
    monkeypatch.setattr(Checkpoints, "write", lambda self: pytest.fail("a step was made"))
    assert is_like(unbroken, runs.run(short(), tmp_path / "moved", "cpu"))


NO_MEMORY = "could not create a primitive: too little memory to train; training.micro_batch=1"


@pytest.mark.error("run: too little memory", says=NO_MEMORY)
def test_too_little_memory_fails_that_run_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs_more(*_: Any) -> None:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(ordinary, "train", needs_more)
    (reason,) = runs.run(short(), tmp_path, "cpu").failures.values()
    assert reason.startswith(NO_MEMORY)


def test_a_diverged_run_is_reported_with_its_step(tmp_path: Path) -> None:
    wild = short(training={"optimizer": {"lr": 1e30}, "clip": None})
    (reason,) = runs.run(wild, tmp_path, "cpu").failures.values()
    for source in (sources.of_folder(tmp_path / "tiny"), sources.of_store(local_uri(tmp_path), "tiny")):
        (member,) = source.members
        step = int(member.status.removeprefix("diverged at step "))
        assert f"step {step}: " in reason
    with pytest.raises(UserError) as caught:
        Study.of(Frames.of_folder(tmp_path / "tiny"))
    assert f"no run has scores. Runs without scores (diverged at step {step}: joint (seed 0))" in str(caught.value)
    assert "joint (seed 0) would diverge again: a smaller training.optimizer.lr" in str(caught.value)
