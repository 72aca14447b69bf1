"""The command line as a process: signals, exit codes, and output that nobody reads any more.

Exit codes: 0 done, 1 some runs failed, 2 an error that the user can fix, 130 stopped by a signal.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, NoReturn, TextIO

from cmtl_ir.base.signals import STOPPED, STOPS, Interrupting

FIXABLE = 2
"""Exit code of an error that the user can fix."""
AGAIN = "the same command continues; finished runs are skipped"
INTERRUPTED = f"\ninterrupted: {AGAIN}"


FLOATING = re.compile(r"encountered in |[Mm]ean of empty slice|Degrees of freedom <= 0|All-NaN")
"""Texts of numpy's warnings, which are reported where our code calls it."""


class Output:
    """A standard stream that never fails. If it is closed or its disk is full, everything after that is discarded."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None
        """Why the stream failed. `None` if it did not."""

    def write(self, text: str) -> int:
        """Write a text, or discard it after a failure."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard what it holds after a failure."""
        try:
            self.stream.flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        self.failure = self.failure or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with its code. No mistake of the user and no fault of the machine is a traceback.

    `None` takes the arguments of the process, whose signals and output streams then belong to the command line.
    """
    if arguments is not None:
        return _run(arguments)
    _take_over_signals()
    hide_numeric_warnings()
    sys.stdout, sys.stderr = _careful(sys.stdout), _careful(sys.stderr)
    try:
        _run(None)
    except SystemExit as ended:
        for number in STOPS:  # the work is over and the code is known: nothing is left to stop
            signal.signal(number, signal.SIG_IGN)
        sys.exit(_code_of(ended))


def hide_numeric_warnings() -> None:
    """Let no warning of numpy or SciPy reach the user, who cannot act on it: what is not a number is said in tables."""
    usual = warnings.showwarning

    def shown(message: Warning | str, category: type[Warning], filename: str, *more: Any, **options: Any) -> None:
        if not _is_numeric(message, category, filename):
            usual(message, category, filename, *more, **options)

    warnings.showwarning = shown


def _is_numeric(message: Warning | str, category: type[Warning], filename: str) -> bool:
    libraries = ("numpy", "scipy")
    if category.__module__.split(".")[0] in libraries or set(libraries) & set(Path(filename).parts):
        return True
    return issubclass(category, RuntimeWarning) and FLOATING.search(str(message)) is not None


def _run(arguments: list[str] | None) -> Any:
    try:
        from cmtl_ir.cli.commands import app

        return app(args=arguments)
    except KeyboardInterrupt:  # while the commands were imported
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(STOPPED)
    except SystemExit as ended:
        if ended.code == STOPPED:  # what Typer makes of KeyboardInterrupt
            print(INTERRUPTED, file=sys.stderr)
        raise
    except Exception as error:
        from cmtl_ir.base.errors import Interrupted, UserError, brief, lacks_memory, unwritable
        from cmtl_ir.base.escaping import printable

        if isinstance(error, Interrupted):
            print(f"\n{error}", file=sys.stderr)
            sys.exit(STOPPED)
        if isinstance(error, UserError):
            said = str(error)
        elif lacks_memory(error):
            said = f"{brief(error)}: too little memory; free some, or give a smaller tile or batch"
        elif (found := unwritable(error)) is not None:
            said = f"{found}. Then {AGAIN}"
        else:
            raise
        print(f"error: {printable(said)}", file=sys.stderr)
        sys.exit(FIXABLE)


def _code_of(ended: SystemExit) -> int:
    """Return the exit code of the process, after a last word on why it is not 0."""
    code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is not None:
        print(f"error: the output could not be written: {failure.strerror}; what it lacks is lost", file=sys.stderr)
    return code or (FIXABLE if failure is not None else 0)


def _careful(stream: TextIO | None) -> Any:
    """Return the stream as one that never fails. A stream that was closed from the start discards everything."""
    return Output(open(os.devnull, "w") if stream is None else stream)


# ----------------------------------------------------------------------------------------------------- signals


def _take_over_signals() -> None:
    """Let the first signal raise KeyboardInterrupt, in whatever the process does, and a further Ctrl-C end it."""
    interrupting = Interrupting(_end_at_once)
    for number in STOPS:
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupting)
    usual = sys.unraisablehook

    def raised_where_nobody_hears(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            usual(unraisable)
            return
        interrupting.raised = False
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()  # again, where it is heard

    sys.unraisablehook = raised_where_nobody_hears


def _end_at_once() -> NoReturn:
    """End the process as a kill would, which every file on the disk outlives. No exit handler is run."""
    shows_cursor = b"\x1b[?25h" if sys.stdout.isatty() else b""
    for descriptor, text in ((1, shows_cursor), (2, b"\nended at once\n")):
        try:
            os.write(descriptor, text)
        except OSError:
            continue  # nobody reads it any more
    os._exit(STOPPED)
