"""Conjugate gradients for many right sides at once, each with its own step lengths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bmapest_ray.base.errors import SolveError
from bmapest_ray.inversion.quadratic import dot, scaled

MAX_ITERATIONS = 500


def solve_spd(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float = 1e-4,
) -> Tensor:
    """Solve ``H z = right`` for a symmetric positive definite H, ``(batch, tissue, y, x)``.

    Parameters
    ----------
    product
        ``z -> H z``.
    precondition
        Approximate inverse of H, symmetric positive definite.
    tolerance
        Reduction of the residual in the norm of the preconditioner.

    Raises
    ------
    SolveError
        If the reduction is not reached: H is (nearly) singular.
    """
    answer, residual = torch.zeros_like(right), right
    z = precondition(residual)
    descent, size = z, dot(residual, z)
    goal = tolerance**2 * size
    running = size > goal
    for _ in range(MAX_ITERATIONS):
        if not bool(running.any()):
            return answer
        image = product(descent)
        bend = dot(descent, image)
        step = torch.where(running & (bend > 0), size / bend.clamp_min(1e-300), 0.0)
        answer = answer + scaled(step, descent)
        residual = residual - scaled(step, image)
        z = precondition(residual)
        previous, size = size, dot(residual, z)
        running = running & (size > goal)
        descent = z + scaled(torch.where(running, size / previous.clamp_min(1e-300), 0.0), descent)
    raise SolveError(
        f"the data must determine the fractions, but {MAX_ITERATIONS} conjugate gradient steps did "
        "not invert their information; add contrasts or a prior"
    )
