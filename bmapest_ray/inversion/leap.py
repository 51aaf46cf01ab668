"""Gauss-Newton that looks for a better sign pattern as soon as it stagnates.

A noise-free magnitude fit that settles in a local minimum spends most of its iterations there.
Stagnation shows long before convergence: near a solution that explains the data, a step lowers the
objective by orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bmapest_ray.inversion.gauss_newton import GaussNewton
from bmapest_ray.inversion.problem import Problem
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.refine import EXPLAINED, Refinement

STAGNANT = 0.05
"""A step that leaves more than this share of the objective calls for a sign search."""
HELPFUL = 0.1
"""A search that left more than this share of the objective was the last one of its item."""


@dataclass
class LeapingGaussNewton:
    """A solver that takes the steps of another and one sign search in between.

    Parameters
    ----------
    inner
        Takes the steps.
    refinement
        Of the same problem; searches the signs.
    """

    inner: GaussNewton
    refinement: Refinement
    problem: Problem = field(init=False)

    def __post_init__(self) -> None:
        """Solve the problem of the inner solver."""
        self.problem = self.inner.problem

    def begin(self, x: Tensor) -> Progress:
        """Return the state at a feasible start."""
        progress = self.inner.begin(x)
        progress.extra["leapt"] = torch.zeros(len(x), dtype=torch.float64)
        return progress

    def advance(self, progress: Progress) -> None:
        """Take one outer iteration, and the sign search where it was a poor one."""
        index = progress.index
        self.inner.advance(progress)
        due = self._due(progress, index)
        if not len(due):
            return
        before = self.inner.point_of(progress, due)
        spent = self.refinement.products
        after = self.refinement.leap(due, before)
        progress.extra["products"] += self.refinement.products - spent
        progress.extra["leapt"][due] = after.value / before.value
        self.inner.relocate(progress, due, after)

    def _due(self, progress: Progress, index: Tensor) -> Tensor:
        """Return the open items that stagnate, have not leapt yet, and are not explained."""
        value = self.inner.point_of(progress, index).value
        last = torch.tensor([progress.history[i][-1].objective for i in index.tolist()])
        stagnant = value > STAGNANT * last.to(value)
        unexplained = value > EXPLAINED * progress.extra["energy"][index]
        hopeful = progress.extra["leapt"][index] <= HELPFUL  # zero: none yet
        return index[stagnant & unexplained & hopeful & progress.open[index]]
