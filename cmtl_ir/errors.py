"""Errors that are answers: what is wrong, where, and the way out. The command line prints them without a traceback."""

from __future__ import annotations


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
