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

from bmapest_ray.inversion.gauss_newton import GaussNewton, merge_points
from bmapest_ray.inversion.problem import Point, Problem
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.sign_search import SignSearch, local_responses, window_mean
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

    def run(self, x: Tensor) -> Point:
        """Return the refined point of every batch item."""
        responses = local_responses(self.problem.model, x[:1])
        self.products += 9.0
        point = self.problem.point(x)
        enough = EXPLAINED * self.problem.fidelity.value(torch.zeros_like(point.s))
        for _ in range(ROUNDS):
            index = (point.value > enough).nonzero()[:, 0]
            if not len(index):
                break
            before = point.value.clone()
            rows = self._round(index, _rows(point, index), responses, enough[index])
            point = _scatter(point, rows, index)
            self.moves += 1
            if not bool((point.value[index] < WORTHWHILE * before[index]).any()):
                break
        return point

    def _round(self, index: Tensor, point: Point, responses: Tensor, enough: Tensor) -> Point:
        """One sign search and one emptying per threshold, on some batch items.

        Ends as soon as every objective is low ``enough``.
        """
        problem = self.problem.select(index)
        search = SignSearch(problem, self.signs, responses, self.noise_known)
        moves: list[Callable[[Point], Tensor]] = [search.propose]
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

    def _adapt(self, problem: Problem, x: Tensor) -> Point:
        settings = replace(self.settings, max_iterations=ADAPT)
        solver = GaussNewton(problem, settings, self.noise_known)
        progress = solver.begin(x)
        while bool(progress.open.any()):
            solver.advance(progress)
        self.products += float(progress.extra["products"])
        return problem.point(progress.x)


def _emptied(point: Point, limit: float) -> Tensor:
    return point.x * (point.x.sum(1, keepdim=True) > limit)


def _better(new: Point, old: Point) -> Point:
    return merge_points(new.value < old.value, new, old)


def _rows(point: Point, index: Tensor) -> Point:
    return Point(point.x[index], point.p[index], point.s[index], point.value[index])


def _scatter(point: Point, rows: Point, index: Tensor) -> Point:
    def put(whole: Tensor, part: Tensor) -> Tensor:
        return whole.index_copy(0, index, part)

    return Point(
        x=put(point.x, rows.x),
        p=put(point.p, rows.p),
        s=put(point.s, rows.s),
        value=put(point.value, rows.value),
    )
