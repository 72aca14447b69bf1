"""Signals that ask a process to stop: Ctrl-C, SIGTERM of a cluster, and SIGHUP of a closed terminal or connection."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STOPPED = 130
"""Exit code of a command that was stopped, whenever and by whichever of the signals. The same command continues it."""
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

Handler = Callable[[int, Any], Any]
"""Called with the number of the signal and the current frame."""


@contextmanager
def answered(answer: Handler) -> Iterator[Mapping[int, Any]]:
    """Call `answer` for every signal to stop within this context, and yield the handlers before it.

    Outside of the main thread, the handlers stay as they are. So does SIGHUP or SIGTERM if it is ignored, as under
    `nohup`.
    """
    before: dict[int, Any] = {}
    try:
        for number in STOPS:
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, answer)
    except ValueError:  # not the main thread
        pass
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupting:
    """A handler whose first signal raises KeyboardInterrupt. Later ones do nothing, except that Ctrl-C calls `again`.

    A cluster and a launcher may each send SIGTERM to every process, so a second one is no stronger request.
    """

    def __init__(self, again: Callable[[], None]) -> None:
        self.again, self.raised = again, False

    def __call__(self, number: int, _frame: Any) -> None:
        if not self.raised:
            self.raised = True
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            self.again()
