"""Errors that state what is wrong, where, and how to fix it. The command line prints them without a traceback."""

from __future__ import annotations

import difflib
import re


class UserError(Exception):
    """An error that the user can fix. The exit code is 2."""


class ConfigError(UserError):
    """A mistake in an experiment file or an override. The message names the file, the key and similar names."""


class TrainingError(UserError):
    """A run that cannot continue. The message names the step, the row and the last good checkpoint."""


class Diverged(TrainingError):
    """A loss or gradient that is not a finite number."""


class Interrupted(UserError):
    """A run that the user stopped. Its state was saved; the exit code is 130."""


class Pruned(Interrupted):
    """A run that a search stopped early. Its state was saved."""


class UnknownName(ValueError):
    """A name that no package registers. The message lists similar names."""


def suggestion(name: str, known: list[str]) -> str:
    """Return the end of an error message: similar names, or all known names if none is similar."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"


def brief(error: BaseException) -> str:
    """Return an error as one line. For a failed connection, this is the message of the operating system."""
    text = str(error).strip() or type(error).__name__
    if reason := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return reason[1]
    return text.splitlines()[0][:200]
