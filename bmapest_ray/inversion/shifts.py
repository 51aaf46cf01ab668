"""Fits to k-space magnitudes that ended a pixel beside the truth.

A shift of the object changes the phases of its k-space alone, so that only fields, constraints and
a prior tell where it lies, and a fit can settle in a minimum one pixel away. The finished maps are
moved by a pixel, the best of the eight ways is fitted on, and what explains the data better stays.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from bmapest_ray.inversion.gauss_newton import iterated
from bmapest_ray.inversion.problem import Point, Problem, feasible, merge_points
from bmapest_ray.inversion.settings import SolverSettings

STEPS = tuple(step for step in product((-1, 0, 1), repeat=2) if step != (0, 0))
ROUNDS = 3
ADAPT = 12
"""Gauss-Newton iterations that a moved fit gets to show that it is better."""
BETTER = 0.999
"""Share of the objective that it must fall below."""


def recentred(
    problem: Problem, settings: SolverSettings, x: Tensor, *, noise_known: bool
) -> tuple[Point, float]:
    """Return the best point of finished fits and of what becomes of them when they are moved.

    Parameters
    ----------
    problem
        Whose unknowns are the fractions of every voxel.
    settings
        Of the Gauss-Newton iterations.
    x
        Finished fits, ``(batch, tissue, y, x)``.
    noise_known
        Whether the fidelity is whitened.

    Returns
    -------
    tuple
        The point, and operator pairs spent.
    """
    point, spent = problem.point(x), 0.0
    for _ in range(ROUNDS):
        moved = torch.stack([feasible(x.roll(step, (-2, -1)), problem) for step in STEPS])
        values = torch.stack([problem.point(one).value for one in moved])
        best = moved[values.argmin(0), torch.arange(len(x), device=x.device)]
        adapted, products = iterated(
            problem, replace(settings, max_iterations=ADAPT), best, noise_known
        )
        spent += products + len(STEPS)
        good = adapted.value < BETTER * point.value
        if not bool(good.any()):
            break
        point = merge_points(good, adapted, point)
        x = point.x
    return point, spent
