"""Errors that speak to the user.

Everything that a user can cause derives from :class:`UserError`; the command line prints such an
error as one message without a traceback. A traceback therefore always means a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right; the message says what, where, and what would be right."""


class DataError(UserError):
    """A data file or dataset is unreadable, malformed, or does not fit the model."""


class ConfigError(UserError):
    """An option, configuration key or value is unknown or out of range."""


class ModelError(UserError):
    """A model folder is missing, broken, or not safe to load."""


class CheckpointError(UserError):
    """A run folder or checkpoint cannot be written, read or resumed."""


class RecipeError(UserError):
    """A recipe (or a user's reward) broke its contract: wrong length, NaN, wrong type."""


class TrainingError(UserError):
    """Training itself went wrong: numbers that are not finite, or a policy that ran away from its samples."""


class LabelAccessError(RecipeError):
    """A recipe that declares fewer labels read an answer."""


class UnavailableError(UserError):
    """What a signal needs is not there: a model, a template, another view, an answer."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest valid name, or a list when none is close."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Valid names: {', '.join(options)}." if options else ""
