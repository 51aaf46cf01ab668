"""What the other subjects say about one subject, with that subject provably left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.anatomy.catalog import Anatomy, load_slice
from bmapest_ray.anatomy.maps import TissueMaps, subject_name
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput, require_choice


@dataclass(frozen=True, eq=False)
class CohortStatistics:
    """Mean and covariance of tissue fractions over the other subjects, per pixel."""

    mean: Tensor
    """Shape `(tissue, y, x)`, in [0, 1]."""
    covariance: Tensor
    """Shape `(tissue, tissue, y, x)`, unbiased; singular where all subjects agree."""
    count: int
    """Number of subjects behind it."""


def cohort_mean(others: Sequence[TissueMaps], subject: str, brains: int = 0) -> Tensor:
    """Return the mean of other subjects, shape `(tissue, y, x)`.

    Parameters
    ----------
    subject
        The subject under test, which must not be among `others`.
    brains
        How many brains the mean is of at least: left-right mirror images of the first subjects
        are added until there are as many. A mean of few brains is less smooth.

    Raises
    ------
    InvalidInput
        If `others` is empty, contains the subject, its grids differ, or there are fewer than half
        of `brains`.
    """
    stack = _stack(others, subject)
    lacking = max(0, brains - len(stack))
    if lacking > len(stack):
        raise InvalidInput(
            f"a mean of {brains} brains needs at least {(brains + 1) // 2} other subjects, got "
            f"{len(stack)}; ask for fewer brains"
        )
    return torch.cat([stack, stack[:lacking].flip(-1)]).mean(0).to(torch.float32)


def cohort_statistics(others: Sequence[TissueMaps], subject: str) -> CohortStatistics:
    """Return mean and covariance of at least two other subjects.

    Raises
    ------
    InvalidInput
        As `cohort_mean`, and for fewer than two others.
    """
    stack = _stack(others, subject)
    if len(others) < 2:
        raise InvalidInput(
            f"a covariance needs at least 2 other subjects, got {len(others)}; add subjects"
        )
    deviation = stack - stack.mean(0)
    covariance = torch.einsum("styx,suyx->tuyx", deviation, deviation) / (len(others) - 1)
    return CohortStatistics(
        stack.mean(0).to(torch.float32), covariance.to(torch.float32), len(others)
    )


def leave_one_out(
    anatomy: Anatomy,
    subject: str,
    where: SliceSpec,
    matrix: int = 64,
    fov_mm: float = 216.0,
    among: Sequence[str] | None = None,
) -> tuple[TissueMaps, ...]:
    """Return the same slice of every other subject.

    Parameters
    ----------
    among
        Subjects that may be used, all of the anatomy if not given.

    Raises
    ------
    InvalidInput
        If no other subject is left.
    """
    names = anatomy.subjects if among is None else tuple(subject_name(name) for name in among)
    known = [require_choice(f"a subject of {anatomy.spec}", n, anatomy.subjects) for n in names]
    others = [name for name in dict.fromkeys(known) if name != subject_name(subject)]
    if not others:
        raise InvalidInput(
            f"a cohort needs subjects other than {subject_name(subject)}, {anatomy.spec} offers "
            "none; use another start or another anatomy"
        )
    return tuple(load_slice(anatomy, name, where, matrix, fov_mm) for name in others)


def _stack(others: Sequence[TissueMaps], subject: str) -> Tensor:
    """Return the maps as float64, shape `(subject, tissue, y, x)`, after checking the cohort."""
    if not others:
        raise InvalidInput("a cohort must not be empty; use another start or add subjects")
    if any(maps.subject == subject_name(subject) for maps in others):
        raise InvalidInput(
            f"a cohort must not contain the subject under test, got {subject}; leave it out"
        )
    first = others[0]
    for maps in others:
        same = maps.matrix == first.matrix and np.isclose(maps.fov_mm, first.fov_mm)
        if not same:
            raise InvalidInput(
                f"the slices of a cohort must share matrix and field of view, subject "
                f"{maps.subject} has {maps.matrix} pixels in {maps.fov_mm:g} mm, subject "
                f"{first.subject} {first.matrix} in {first.fov_mm:g} mm; extract them alike"
            )
    return torch.stack([maps.fraction for maps in others]).to(torch.float64)
