"""Errors that a user can act on: one sentence with the rule, the value and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class BmapestError(Exception):
    """Base of every expected failure; the command line prints it and exits with `exit_code`."""

    exit_code: int = 2


class InvalidInput(BmapestError, ValueError):  # noqa: N818 - the sentence is the error
    """What was asked for breaks a rule."""


class MissingInput(BmapestError, FileNotFoundError):  # noqa: N818
    """A file or folder that was asked for is not there."""


class SimulationError(BmapestError, RuntimeError):
    """The simulation could not be set up or left its tolerance."""


class SolveError(BmapestError, RuntimeError):
    """An inversion could not be set up or gave no usable result."""


class TrackingError(BmapestError, RuntimeError):
    """The tracking store cannot be reached or refuses what is written."""


def closest(name: str, choices: Iterable[str]) -> str:
    """Give a hint at the most similar choice.

    Returns
    -------
    str
        ``"; did you mean 'x'?"``, or an empty string where nothing is similar.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return f"; did you mean '{by_lower[matches[0]]}'?" if matches else ""


def require_choice(what: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises
    ------
    InvalidInput
        Names all choices and the closest one.
    """
    known = tuple(choices)
    if value in known:
        return value
    listed = ", ".join(known) if known else "(nothing)"
    raise InvalidInput(f"{what} must be one of {listed}, got '{value}'{closest(value, known)}")
