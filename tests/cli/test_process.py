"""The command line as a process: one code for everything that stopped it, and a sentence where the machine fails."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from cmtl_ir.base.errors import Interrupted, UserError
from cmtl_ir.base.signals import STOPS, Interrupting, answered
from cmtl_ir.cli import commands, main, process

# --------------------------------------------------------------------------------------------------- exit codes


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/quick/table.csv")


def read_only() -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs")


def little_memory() -> None:
    raise RuntimeError("could not create a primitive")


def stopped() -> None:
    raise Interrupted("stopped by SIGTERM at step 7: the same command resumes from this step")


def asked_to_stop() -> None:
    raise KeyboardInterrupt


def mistaken() -> None:
    raise UserError("training.stesp: unknown key")


ENDINGS: dict[str, tuple[Callable[[], None], int, str]] = {
    "a full disk": (
        full_disk,
        2,
        "runs/quick/table.csv: No space left on device; free some space there. Then",
    ),
    "a read-only folder": (read_only, 2, "runs: Permission denied; make it writable, or name another place"),
    "too little memory": (little_memory, 2, "could not create a primitive: too little memory; free some"),
    "a run that was stopped": (stopped, 130, "the same command resumes from this step"),
    "a signal": (asked_to_stop, 130, "interrupted: the same command continues; finished runs are skipped"),
    "a mistake": (mistaken, 2, "training.stesp: unknown key"),
}


@pytest.mark.parametrize(
    "cause",
    [pytest.param(one, marks=pytest.mark.error(f"process: {one}", says=ENDINGS[one][2])) for one in ENDINGS],
)
def test_what_ends_a_command_has_a_code_and_a_sentence(
    cause: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail, code, words = ENDINGS[cause]
    monkeypatch.setattr(commands, "app", lambda args: fail())
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    said = capsys.readouterr().err
    assert ended.value.code == code and words in said and said.count("\n") <= 2


def test_a_fault_of_ours_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: list[str]) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "nowhere")

    monkeypatch.setattr(commands, "app", broken)
    with pytest.raises(FileNotFoundError):
        main(["run"])


# ------------------------------------------------------------------------------------------------------ output


UNREAD = "the output could not be written: Broken pipe; what it lacks is lost"


@pytest.mark.error("process: nobody reads the output", says=UNREAD)
def test_output_that_nobody_reads_ends_with_a_sentence_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        output = process.Output(stream)
        for _ in range(3):
            print("line", file=output, flush=True)  # type: ignore[call-overload]
        monkeypatch.setattr(sys, "stdout", output)
        assert process._code_of(SystemExit(0)) == 2 and process._code_of(SystemExit(130)) == 130
    assert f"error: {UNREAD}" in capsys.readouterr().err


def test_a_command_whose_output_was_closed_from_the_start_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    output = process._careful(None)
    with output.stream:
        print("line", file=output, flush=True)
    assert output.failure is None and capsys.readouterr().out == ""


# ----------------------------------------------------------------------------------------------------- signals


def test_later_signals_are_no_stronger_except_ctrl_c() -> None:
    ended: list[bool] = []
    interrupting = Interrupting(lambda: ended.append(True))
    with answered(interrupting):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        assert ended == []
        signal.raise_signal(signal.SIGINT)
    assert ended == [True]


def test_handlers_come_back_and_what_nohup_ignores_stays_ignored() -> None:
    before = {number: signal.getsignal(number) for number in STOPS}
    heard: list[int] = []
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with answered(lambda number, _: heard.append(number)):
            for number in STOPS:
                signal.raise_signal(number)
    finally:
        signal.signal(signal.SIGHUP, hangup)
    assert heard == [signal.SIGINT, signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in STOPS} == before


WAITING = """
import sys, time
from cmtl_ir.cli import commands, main

class Fragile:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(30)

def app(args):
    if sys.argv[1] == "__del__":
        Fragile()
    print("ready", flush=True)
    time.sleep(30)

commands.app = app
main()
"""


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("work", [signal.SIGTERM, signal.SIGTERM]),
        ("work", [signal.SIGHUP]),
        ("work", [signal.SIGINT] * 5),
        ("__del__", [signal.SIGTERM]),
    ],
    ids=["twice SIGTERM", "SIGHUP", "five times Ctrl-C", "where Python ignores exceptions"],
)
def test_one_exit_code_says_run_again_and_nothing_is_ignored(where: str, numbers: list[signal.Signals]) -> None:
    command = [sys.executable, "-c", WAITING, where]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=Path(__file__).parents[2], **pipes) as waiting:  # type: ignore[call-overload]
        assert waiting.stdout.readline() == "ready\n"
        for number in numbers:
            waiting.send_signal(number)
        _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130, said
    assert "interrupted: the same command continues" in said or "ended at once" in said
    assert "Traceback" not in said and "ignored" not in said


# ------------------------------------------------------------------------------------------------ numeric warnings


def test_warnings_of_numpy_and_scipy_are_hidden_and_all_others_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from scipy import stats

    said: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *more, **options: said.append(str(message)))
    process.hide_numeric_warnings()
    shown = warnings.showwarning
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        np.array([1.0]) / np.array([0.0])
        np.array([]).mean()
        stats.bootstrap(([1.0, 1.0, 1.0],), np.mean, n_resamples=9)
        stats.pearsonr([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
        warnings.warn("step-2 is damaged; taking the one before it", RuntimeWarning, stacklevel=1)
    for one in raised:
        shown(one.message, one.category, one.filename, one.lineno)
    assert len(raised) > 4 and said == ["step-2 is damaged; taking the one before it"]
