"""Errors a user can act on.

Every message is one sentence that says what is wrong, where, and what is allowed.  The command line
prints the sentence alone, without a traceback, and exits with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class FedpeftError(Exception):
    """Base class of all errors raised on purpose; a run that fails exits with code 3."""

    exit_code = 3


class InputError(FedpeftError, ValueError):
    """What the user handed in cannot be used; exits with code 2."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key or value is unknown, out of range or contradicts another."""


class DataError(InputError):
    """A data file is missing, malformed or does not hold what was asked of it."""


class ArtifactError(InputError):
    """A run folder, checkpoint or adapter artifact is missing, corrupt or does not fit."""


class MissingExtraError(InputError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""


class CollapseError(FedpeftError):
    """The autoencoder's latents carry no information, so its base embedding would be empty."""


class Interrupted(FedpeftError):
    """A signal asked a run to end; its state was saved first."""

    exit_code = 130


class RunError(FedpeftError):
    """A run could not be carried to its end (for example, the loss became NaN)."""


class RenamedWarning(FutureWarning):
    """Something has another name now; the old one works for one release."""


class PayloadWarning(UserWarning):
    """Something wrote into an adapter's payload before its first use, such as an init loop."""


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function refuse arguments of earlier versions with a `TypeError` that tells the new.

    Parameters
    ----------
    names
        New names by the old ones.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                called = function.__qualname__.removesuffix(".__init__")
                raise TypeError(f"{called}: the argument {old!r} is called {names[old]!r} now")
            return function(*args, **kwargs)

        return checked

    return decorate
