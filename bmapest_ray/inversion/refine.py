"""Refinement of noise-free magnitude fits: leave local minima until the data are explained.

Two moves alternate. The sign search gives unexplained voxels their best sign pattern; emptying
removes small fractions, which at the rim of the head are often a wrong explanation of the spill of
bright neighbours. After each move a few Gauss-Newton iterations let the neighbours adapt, then the
old and the new fit are combined: every neighbourhood keeps the one that explains it better. What
results is kept only if its objective is lower, so refinement can only help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from bmapest_ray.inversion.gauss_newton import iterated
from bmapest_ray.inversion.problem import Point, Problem, merge_points
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.sign_search import LARGE, SignSearch, local_responses, window_mean
from bmapest_ray.inversion.signs import SignImages

ROUNDS = 6
EMPTIED = (0.05, 0.02)
"""Sums of fractions below which a voxel is emptied, in turn."""
EXPLAINED = 1e-11
"""Objective relative to that of empty maps at which noise-free data count as explained."""
WORTHWHILE = 0.9
"""A round must lower the objective to this share, or refinement ends."""
ADAPT = 4
"""Gauss-Newton iterations after each move."""
LEAP = 2
"""The same after a leap, enough to see whether it helps."""


@dataclass
class Refinement:
    """Refines the fits of a batch.

    Parameters
    ----------
    problem
        Magnitude problem with voxel-wise fractions.
    settings
        Of the Gauss-Newton iterations in between.
    signs
        Known phases.
    noise_known
        Whether the fidelity is whitened.
    """

    problem: Problem
    settings: SolverSettings
    signs: SignImages
    noise_known: bool
    products: float = 0.0
    moves: int = field(default=0, init=False)
    _responses: Tensor | None = field(default=None, init=False, repr=False)

    def run(self, items: Tensor, x: Tensor) -> Point:
        """Return the refined point of some batch items from their unknowns ``x``."""
        problem = self.problem.select(items)
        point = problem.point(x)
        enough = EXPLAINED * problem.fidelity.value(torch.zeros_like(point.s))
        for _ in range(ROUNDS):
            index = (point.value > enough).nonzero()[:, 0]
            if not len(index):
                break
            before = point.value.clone()
            rows = self._round(problem.select(index), point.rows(index), enough[index])
            point = point.put(index, rows)
            self.moves += 1
            if not bool((point.value[index] < WORTHWHILE * before[index]).any()):
                break
        return point

    def leap(self, items: Tensor, point: Point) -> Point:
        """Return the point after one sign search, or the same where that explains no more."""
        problem = self.problem.select(items)
        changed = replace(self._search(problem, point.x), negligible=LARGE).propose(point)
        return _better(self._adapt(problem, changed, LEAP), point)

    def _search(self, problem: Problem, x: Tensor) -> SignSearch:
        if self._responses is None:
            self._responses = local_responses(self.problem.model, x[:1])
            self.products += 0.0 if hasattr(self.problem.model, "own_responses") else 9.0
        return SignSearch(problem, self.signs, self._responses, self.noise_known)

    def _round(self, problem: Problem, point: Point, enough: Tensor) -> Point:
        """One sign search and one emptying per threshold.

        Ends as soon as every objective is low ``enough``.
        """
        search = self._search(problem, point.x)
        first = replace(search, negligible=LARGE)  # a few voxels, often all that are wrong
        moves: list[Callable[[Point], Tensor]] = [first.propose, search.propose]
        moves += [partial(_emptied, limit=limit) for limit in EMPTIED]
        for move in moves:
            changed = move(point)
            if torch.equal(changed, point.x):
                continue
            adapted = self._adapt(problem, changed)
            better = _better(adapted, point)
            if bool((better.value <= enough).all()):
                return better
            gain = window_mean(search.misfit(point.s) - search.misfit(adapted.s), 5)
            mixed = torch.where((gain > 0)[:, None], adapted.x, point.x)
            settled = self._adapt(problem, mixed)
            self.products += 1.0
            point = _better(settled, better)
        return point

    def _adapt(self, problem: Problem, x: Tensor, iterations: int = ADAPT) -> Point:
        settings = replace(self.settings, max_iterations=iterations)
        point, products = iterated(problem, settings, x, self.noise_known)
        self.products += products
        return point


def _emptied(point: Point, limit: float) -> Tensor:
    return point.x * (point.x.sum(1, keepdim=True) > limit)


def _better(new: Point, old: Point) -> Point:
    return merge_points(new.value < old.value, new, old)
