"""Maps to start from: names, and those that need no other subject."""

from __future__ import annotations

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput

SIMPLE_STARTS = ("uniform", "ellipse", "constant:VALUE")
STARTS = ("cohort", "cohort:BRAINS", *SIMPLE_STARTS, "truth")
"""All but folders of maps."""
_HALF_AXES = (0.45, 0.36)
"""Of the ellipse, along y and x, as parts of the field of view: a head's proportions."""


def cohort_brains(name: str) -> int | None:
    """Return how many brains a start from the cohort's mean wants at least; None for others.

    ``cohort`` takes the other subjects as they are, 0; ``cohort:19`` adds mirror images of them
    until there are 19.

    Raises
    ------
    InvalidInput
        If the number is none.
    """
    kind, colon, text = name.partition(":")
    if kind != "cohort":
        return None
    if colon and not (text.isdecimal() and int(text) > 0):
        msg = f"a start from a cohort must say how many brains, got '{name}'; try cohort:19"
        raise InvalidInput(msg)
    return int(text or 0)


def is_simple_start(name: str) -> bool:
    """Whether `simple_start` makes a start of this name."""
    return name in SIMPLE_STARTS[:2] or name.startswith("constant:")


def simple_start(name: str, matrix: int, tissues: int = 3) -> Tensor:
    """Return the maps of a named start, ``(tissue, y, x)``.

    Parameters
    ----------
    name
        ``uniform``: all tissues and the background alike; ``constant:VALUE``: every tissue at
        VALUE; ``ellipse``: all tissues alike in an ellipse of a head's proportions, none outside.
    matrix
        Pixels along each axis.
    tissues
        Number of maps.

    Raises
    ------
    InvalidInput
        For a value with which the fractions do not lie in [0, 1] or sum to more than 1.
    """
    shape = (tissues, matrix, matrix)
    if name == "uniform":
        return torch.full(shape, 1 / (tissues + 1))
    if name == "ellipse":
        axis = (torch.arange(matrix) + 0.5) / matrix - 0.5
        y, x = (axis / half for half in _HALF_AXES)
        inside = y[:, None].square() + x.square() <= 1
        return (inside / tissues).expand(shape).clone()
    text = name.removeprefix("constant:")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1 / tissues + 1e-6:
        msg = f"a constant start must lie in [0, {1 / tissues:.3g}], got '{text}'; try constant:0.2"
        raise InvalidInput(msg)
    return torch.full(shape, value)
