"""Errors that are answers: what is wrong, where, and the way out. The command line prints them without a traceback."""

from __future__ import annotations

import difflib
import re


class UserError(Exception):
    """Something that the user can mend; exit code 2."""


class ConfigError(UserError):
    """A mistake in an experiment file or an override: names file, path in the file and near names."""


class TrainingError(UserError):
    """A run that cannot go on: names step, row and the last good checkpoint."""


class Diverged(TrainingError):
    """A loss or gradient that is not a finite number."""


class Interrupted(UserError):
    """Stopped by the user after saving; exit code 130."""


class Pruned(Interrupted):
    """Stopped after saving because a search gave it up."""


class UnknownName(ValueError):
    """A name that no package offers; the message lists near ones."""


def suggestion(name: str, known: list[str]) -> str:
    """The tail of an error message: near names, else all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"


def brief(error: BaseException) -> str:
    """What went wrong, in a line: of a connection only the system's word."""
    text = str(error).strip() or type(error).__name__
    if reason := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return reason[1]
    return text.splitlines()[0][:200]
