"""What a design may lose in a second case, kept at every step of its optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bmapest_ray.design.objective import DesignProblem, LinearDesign
from bmapest_ray.design.scale import Scale
from bmapest_ray.simulate.plan import Floats


@dataclass(frozen=True, eq=False)
class Guard:
    """A second objective that may not exceed a value: what a robust design may lose nominally."""

    problem: DesignProblem
    most: float

    def at(self, values: Floats) -> LinearGuard:
        """Return the guard on a linearisation."""
        return LinearGuard(self.problem.linearised(values), self.most)


@dataclass(frozen=True, eq=False)
class LinearGuard:
    """A guard near some values."""

    design: LinearDesign
    most: float

    def constraint(self, scale: Scale) -> dict[str, object]:
        """Return the constraint that the objective stays below its bound."""
        return {
            "type": "ineq",
            "fun": lambda u: self.most - self.design.value(scale.outer(u)),
            "jac": lambda u: -self.design.evaluate(scale.outer(u))[1] * scale.slope(u),
        }

    def kept(self, before: Floats, moved: Floats) -> Floats:
        """Return where a step ends that keeps the guard, which steps that are cut short may not."""
        if self.design.value(moved) <= self.most:
            return moved
        return between(before, moved, lambda x: self.design.value(x) <= self.most)


def between(short: Floats, long: Floats, fits: Callable[[Floats], bool]) -> Floats:
    """Return the point nearest to `long` on the way from `short` that fits."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(short + middle * (long - short)) else (low, middle)
    point: Floats = short + low * (long - short)
    return point
