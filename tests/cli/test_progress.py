"""Progress where there is no terminal: a line per event, flushed, with speed and time left."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_json
from cmtl_ir.cli import display
from cmtl_ir.cli.display import search as display_search
from cmtl_ir.cli.options import loudness_of
from cmtl_ir.cli.terminal import LineRuns, Loudness, RunLines, Terminal, duration
from cmtl_ir.processes.job import Job
from cmtl_ir.processes.pool import _take
from cmtl_ir.runs import comparison
from cmtl_ir.runs.follow import JournalFollower
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.journal import Journal
from tests import tiny

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


class Stream(io.StringIO):
    """Output that is no terminal, and counts how often it was flushed."""

    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Stream:
    console = Terminal()
    console.file = stream = Stream()
    for module in (display, display_search):
        monkeypatch.setattr(module, "console", console)
    return stream


def run_at(folder: Path, steps: int = 100) -> Run:
    folder.mkdir(exist_ok=True)
    return Run("joint", 0, {"training": {"steps": steps}}, folder)


def test_every_event_of_a_run_is_a_flushed_line(tmp_path: Path, output: Stream) -> None:
    overrides = {"training": {"steps": 6}, "evaluation": {"every": 3}, "conflict": {"every": 0}, "seeds": [0]}
    experiment = tiny.experiment({"joint": {}, "bad": {}}, **overrides, checkpoint={"every": 4})
    wrong = experiment.strategies["bad"].model_copy(update={"training": {"optimizer": {"lr": 1e30}}})
    experiment = experiment.model_copy(update={"strategies": {**experiment.strategies, "bad": wrong}})
    with display.live() as shown:
        made = comparison.train_all(experiment, Workspace.at(tmp_path, "cpu", progress=shown.of_run))
    assert list(made.failures) == ["bad, seed 0"]
    lines = output.getvalue().splitlines()
    events = [re.sub(rf"{STAMP}|\d+\.\d\d(?!\d)| \([^)]*left\)| \([\d.]+ steps/s\)", "", line) for line in lines]
    folder = made.runs[0].folder
    assert events[:5] == [
        f"joint (seed 0): started, 6 steps, {folder}",
        "joint (seed 0): step 3/6: PSNR noise , rain , haze  dB",
        "joint (seed 0): step 4/6: checkpoint written",
        "joint (seed 0): step 6/6: PSNR noise , rain , haze  dB",
        "joint (seed 0): step 6/6: checkpoint written",
    ]
    assert events[5] == "joint (seed 0): finished" and events[6].startswith("bad (seed 0): started")
    assert re.search(r"bad \(seed 0\): failed: step \d+: the loss or gradient of", lines[-1])
    assert re.search(r"steps/s, 0:00:\d\d left\)$", lines[2]) and re.search(r"steps/s\)$", lines[5])
    assert all(re.match(STAMP, line) for line in lines) and output.flushed >= len(lines)


def test_a_finished_run_is_said_to_be_skipped_and_quiet_says_nothing(tmp_path: Path, output: Stream) -> None:
    run = run_at(tmp_path / "run")
    write_json(run.folder / "result.json", {})
    (run.folder / "weights.safetensors").touch()
    with display.live() as shown:
        shown.of_run(run).happened(None, "finished")
    (line,) = output.getvalue().splitlines()
    assert line.endswith(f"joint (seed 0): finished before: skipped, 100 steps, {run.folder}")
    with display.live(Loudness.QUIET) as shown:
        shown.of_run(run_at(tmp_path / "new")).happened(None, "finished")
    assert len(output.getvalue().splitlines()) == 1


def test_verbose_adds_losses_and_a_terminal_has_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("cmtl_ir.cli.terminal.LOSSES_EVERY", 0.0)
    for loudness in (Loudness.NORMAL, Loudness.VERBOSE):
        lines = RunLines(run_at(tmp_path), said.append, loudness)
        lines.advanced(10, {"rain": 0.25})
    assert len(said) == 1 and "joint (seed 0): step 10/100: loss rain 0.2500 (" in said[0]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(display, "console", terminal)
    with display.live() as shown:
        assert isinstance(shown, display.LiveRuns) and shown.lines is None
    with display.live(Loudness.VERBOSE) as shown:
        assert isinstance(shown, display.LiveRuns) and isinstance(shown.lines, LineRuns)
    with pytest.raises(UserError, match="give one of them"):
        loudness_of(verbose=True, quiet=True)


def test_a_search_says_when_trials_have_ended(monkeypatch: pytest.MonkeyPatch, output: Stream) -> None:
    states = iter([(0, "1 at work"), (0, "1 at work"), (1, "0 at work  best: trial 0, mean_psnr 20")])
    monkeypatch.setattr(display_search, "_state", lambda study, plan: next(states))
    plan = SimpleNamespace(name="art", places=4)
    with display_search.live() as shown:
        for _ in range(3):
            shown.of_study(cast(display_search.Study, None), cast(display_search.Plan, plan))
    lines = [re.sub(STAMP, "", line) for line in output.getvalue().splitlines()]
    assert lines == ["art: 0/4 trials, 1 at work", "art: 1/4 trials, 0 at work  best: trial 0, mean_psnr 20"]


def test_a_run_in_another_process_is_followed_in_its_journal(tmp_path: Path) -> None:
    said: list[str] = []
    run, runs = run_at(tmp_path / "run"), LineRuns(said.append, Loudness.NORMAL)
    job = Job("joint, seed 0", {}, tmp_path / "log.txt")
    JournalFollower(run, runs.of_run).follow(job)
    journal = Journal(run.folder)
    journal.append(5, {"loss/rain": 0.5})
    job.look()
    journal.append(10, {"psnr/rain": 20.0, "psnr/haze": 15.5})
    job.look()
    (run.folder / "checkpoints" / "step-000000010").mkdir(parents=True)
    job.look()
    write_json(run.folder / "result.json", {})
    job.look()
    job.look()
    words = [re.sub(rf"{STAMP}joint \(seed 0\): | \(.*", "", line) for line in said[1:]]
    assert words == ["step 10/100: PSNR rain 20.00, haze 15.50 dB", "step 10/100: checkpoint written", "finished"]
    _take(job, {"state": "failed", "reason": "no space"}, [], {})
    assert "joint (seed 0): failed: no space" in said[-1]


def test_seconds_as_hours_minutes_and_seconds() -> None:
    assert [duration(seconds) for seconds in (0.4, 61, 7325)] == ["0:00:00", "0:01:01", "2:02:05"]
