"""Errors that state what is wrong, where, and how to fix it. The command line prints them without a traceback."""

from __future__ import annotations

import difflib
import errno
import re


class UserError(Exception):
    """An error that the user can fix. The exit code is 2."""


class ConfigError(UserError):
    """A mistake in an experiment file or an override. The message names the file, the key and similar names."""


class TrainingError(UserError):
    """A run that cannot continue. The message names the step, the row and the last good checkpoint."""


class Diverged(TrainingError):
    """A loss or gradient that is not a finite number."""

    def __init__(self, message: str, step: int) -> None:
        """`step` is the number of steps before the one that failed."""
        super().__init__(message)
        self.step = step


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
    """Return an error as one line: the message of the operating system or of the database, if it contains one."""
    text = str(error).strip() or type(error).__name__
    if reason := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return reason[1]
    if reason := re.search(r"\(\w+\.(?:\w+\.)?\w*Error\) ([^\n]+)", text):  # what SQLAlchemy passes on
        return reason[1][:200]
    return text.splitlines()[0][:200]


_WAYS = {
    ("ENOSPC", "EDQUOT"): "free some space there",
    ("EFBIG",): "raise the limit of file sizes (ulimit -f)",
    ("EACCES", "EPERM", "EROFS"): "make it writable, or name another place",
    ("ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"): "name another place",
    ("EMFILE", "ENFILE"): "raise the limit of open files (ulimit -n)",
    ("EIO", "ESTALE"): "check its disk or connection",
}


def unwritable(error: BaseException) -> str | None:
    """Return a sentence on a file that cannot be used, with the way out. `None` for any error of another kind."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    for names, way in _WAYS.items():
        if error.errno in [getattr(errno, name, None) for name in names]:
            return f"{error.filename or 'a file'}: {error.strerror}; {way}"
    return None


_MEMORY = ("out of memory", "could not create a primitive", "allocate memory", "not enough memory", "bad_alloc")


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that the machine or the GPU has too little memory."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY)
