"""Running again: finished runs are skipped, killed ones go on to the same bits, other experiments are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cmtl_ir.base import files, yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.store import checkpoint, listing
from tests import tiny

STRATEGIES = {
    "joint": {},
    "sequential": {"curriculum": "sequential"},
    "pcgrad": {"surgery": "pcgrad", "weighting": "equal"},
}


def final_weights(comparison: Comparison) -> dict[str, dict[str, torch.Tensor]]:
    return {run.label: safetensors.torch.load_file(run.folder / "weights.safetensors") for run in comparison.runs}


def journal(comparison: Comparison) -> dict[str, list[str]]:
    """Every logged value of every run, without the clock and the cost."""
    lines = {run.label: (run.folder / "metrics.jsonl").read_text().splitlines() for run in comparison.runs}
    return {label: [_without_time(line) for line in listed] for label, listed in lines.items()}


def _without_time(line: str) -> str:
    entry = json.loads(line)
    assert entry["metrics"] and entry["time"]
    metrics = {name: value for name, value in entry["metrics"].items() if not name.startswith("cost/")}
    return json.dumps({"step": entry["step"], "metrics": metrics}, sort_keys=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes below have, whose bits are compared with those of runs in this one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return runs.run(tiny.experiment(STRATEGIES), tmp_path_factory.mktemp("unbroken"), "cpu")


def test_a_finished_run_leaves_what_a_reader_needs(unbroken: Comparison) -> None:
    for run in unbroken.runs:
        for name in ("result.json", "weights.safetensors", "per_image.csv", "curve.csv", "config.yaml", "conflict.csv"):
            assert (run.folder / name).is_file(), f"{run.label} has no {name}"
        assert len(list((run.folder / "restored").glob("*.png"))) == 9
        result = run.result()
        assert set(result["psnr"]) == {"noise", "rain", "haze"} and result["steps"] == 12
        assert [point["step"] for point in result["curve"]][-1] == 12


def test_running_again_skips_finished_runs_and_changes_nothing(unbroken: Comparison) -> None:
    stamps = {run.label: (run.folder / "result.json").stat().st_mtime_ns for run in unbroken.runs}
    again = runs.run(tiny.experiment(STRATEGIES), unbroken.folder.parent, "cpu")
    assert {run.label: (run.folder / "result.json").stat().st_mtime_ns for run in again.runs} == stamps


def test_leftovers_of_killed_processes_are_swept_at_the_next_start(unbroken: Comparison) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    homes = [unbroken.folder, *(run.folder for run in unbroken.runs)]
    left = [home / name for home in homes for name in (f".delivery.json.{dead.pid}", "result.json.writing")]
    left.append(unbroken.runs[0].folder / f".result.json.{files._HOST}-{dead.pid}-1.writing")
    for file in left:
        file.write_text("{")
    assert not runs.run(tiny.experiment(STRATEGIES), unbroken.folder.parent, "cpu").failures
    assert [file for file in left if file.exists()] == []


def test_a_repetition_elsewhere_is_equal_to_the_last_bit(unbroken: Comparison, tmp_path: Path) -> None:
    again = runs.run(tiny.experiment(STRATEGIES), tmp_path, "cpu")
    first, second = final_weights(unbroken), final_weights(again)
    assert all(tiny.same(first[label], second[label]) for label in STRATEGIES)
    assert journal(unbroken) == journal(again)
    assert [run.hash for run in unbroken.runs] == [run.hash for run in again.runs]


def test_labels_and_evaluation_cadence_are_not_part_of_a_run() -> None:
    hashes = []
    for label, every in (("joint", 5), ("renamed", 3)):
        made = tiny.experiment({label: {}}, evaluation={"every": every})
        hashes.append(runs.prepare(made, Path("nowhere"), "cpu").runs[0].hash)
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    "change",
    [{"training": {"steps": 13}}, {"conflict": {"every": 3}}, {"data": {"patch": 24}}, {"backbone": {"width": 6}}],
    ids=["steps", "conflict", "patch", "width"],
)
def test_what_changes_weights_changes_the_hash(change: dict) -> None:
    one, other = (runs.prepare(tiny.experiment(**c), Path("nowhere"), "cpu").runs[0].hash for c in ({}, change))
    assert one != other


@pytest.mark.error("run: another experiment of the same name")
def test_another_experiment_of_the_same_name_is_refused_with_the_way_out(unbroken: Comparison) -> None:
    other = tiny.experiment(STRATEGIES, training={"batch": 9})
    with pytest.raises(UserError, match=r"differs in training.*--set name=NEW"):
        runs.run(other, unbroken.folder.parent, "cpu")


def test_a_folder_is_the_same_experiment_s_whatever_memory_its_data_may_take(unbroken: Comparison) -> None:
    with_less = tiny.experiment(STRATEGIES, data={"gpu_gigabytes": 0.0})
    assert listing.claim_folder(with_less.resolved(), unbroken.folder.parent) == unbroken.folder


def test_fresh_trains_again_and_keeps_the_earlier_run(tmp_path: Path) -> None:
    first = runs.run(tiny.experiment(), tmp_path, "cpu")
    runs.run(tiny.experiment(), tmp_path, "cpu", fresh=True)
    folder = first.runs[0].folder
    assert folder.is_dir() and len(list(folder.parent.glob(f"{folder.name}.before-*"))) == 1


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_flipped_byte_in_the_newest_checkpoint_costs_steps_and_no_bit(
    unbroken: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.experiment({"pcgrad": STRATEGIES["pcgrad"]})

    def save_and_die_at_10(*given: Any, **more: Any) -> Any:
        save(*given, **more)
        if more["step"] == 10:
            raise Killed

    save = checkpoint.save
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "save", save_and_die_at_10)
        runs.run(made, tmp_path, "cpu")
    (file,) = tmp_path.glob("store/*/checkpoints/step-000000010/tensors.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="step-000000010 is damaged.*taking the one before it"):
        again = runs.run(made, tmp_path, "cpu")
    assert tiny.same(final_weights(again)["pcgrad"], final_weights(unbroken)["pcgrad"])
    assert journal(again)["pcgrad"] == journal(unbroken)["pcgrad"]


# ------------------------------------------------------------------------------- real processes, real signals


def command(tmp_path: Path, *more: str) -> list[str]:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.dump({**tiny.RAW, "strategies": STRATEGIES}))
    return [sys.executable, "-m", "cmtl_ir", "run", str(file), "--out", str(tmp_path / "out"), "--device", "cpu", *more]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet)


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Return as soon as any run has logged `step`, or the process is gone."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        logged = [line for file in out.glob("store/*/metrics.jsonl") for line in file.read_text().splitlines()]
        if any(f'"step": {step}' in line or f'"step":{step}' in line for line in logged):
            return
        time.sleep(0.005)


@pytest.fixture
def out(empty_store: Path, tmp_path: Path) -> Path:
    """A folder for results with a new store in it, which takes a process seconds to make."""
    (tmp_path / "out").mkdir()
    shutil.copy(empty_store, tmp_path / "out" / "mlflow.db")
    return tmp_path / "out"


def test_kill_9_and_run_again_gives_the_same_bits(unbroken: Comparison, out: Path, tmp_path: Path) -> None:
    """The whole command with its tracking store; of every family, and at any moment: test_kills.py."""
    process = start(command(tmp_path))
    wait_for_step(out, 5, process)
    process.kill()
    process.communicate()
    again = start(command(tmp_path))
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    resumed = runs.run(tiny.experiment(STRATEGIES), out, "cpu")
    first, second = final_weights(unbroken), final_weights(resumed)
    assert all(tiny.same(first[label], second[label]) for label in STRATEGIES)
    assert journal(unbroken) == journal(resumed)


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(out: Path, tmp_path: Path) -> None:
    process = start(command(tmp_path, "--set", "training.steps=4000", "--set", "name=long"))
    wait_for_step(out, 20, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "the same command resumes from this step" in " ".join(output.split())
    assert "Traceback" not in output


def test_a_nan_loss_stops_the_run_with_step_task_and_checkpoint(tmp_path: Path) -> None:
    made = tiny.experiment(training={"optimizer": {"lr": 1e30}, "clip": None})
    done = runs.run(made, tmp_path, "cpu")
    (reason,) = done.failures.values()
    assert "is not a finite number" in reason and "checkpoint" in reason and "noise" in reason


def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    from filelock import FileLock

    made = tiny.experiment()
    folder = runs.prepare(made, tmp_path, "cpu").runs[0].folder
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        done = runs.run(made, tmp_path, "cpu")
    assert "another process is training this run" in next(iter(done.failures.values()))
