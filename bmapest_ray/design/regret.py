"""Regret of a design: how far it is from the optimum that is found again for each scenario.

A design that averages over scenarios (robust) is held against one for the nominal case. Scenarios
may be known to the inversion (fields and tissues measured) or unknown to it: then B1 and the
tissues' T1 and T2 are unknowns of every voxel, about which no more is known than their ranges, and
what they cost is part of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmapest_ray.design.guard import Guard
from bmapest_ray.design.job import DesignJob
from bmapest_ray.design.objective import DesignProblem
from bmapest_ray.design.optimise import Optimised, optimise, starting_points
from bmapest_ray.design.robust import Ranges, corners, only, robust
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.voxels import Scenario
from bmapest_ray.simulate.plan import Floats

Values = Sequence[float]

HALF = (0, 3, 5, 6)
"""Corners of a half fraction: every pair of factors is balanced."""


@dataclass(frozen=True, eq=False)
class RegretStudy:
    """Designs of one protocol under scenarios.

    Parameters
    ----------
    job
        What is varied, within what, with which effort and criterion.
    setting
        Nominal circumstances.
    ranges
        Half widths of T1, T2 and B1.
    unknown
        Whether the inversion does not know the scenario.
    starts
        Of the nominal design.
    most_loss
        How much log variance the robust design may lose in the nominal case; None is any.
    """

    job: DesignJob
    setting: DesignSetting
    ranges: Ranges
    unknown: bool = False
    starts: int = 3
    most_loss: float | None = None

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """A balanced half of the corners of the ranges."""
        every = corners(self.ranges, len(self.setting.table.names))
        return tuple(every[place] for place in HALF)

    @property
    def judged(self) -> DesignSetting:
        """The setting of the scenarios, with what is unknown."""
        if not self.unknown:
            return self.setting
        wide = {"b1": self.ranges.b1, "t1": self.ranges.t1, "t2": self.ranges.t2}
        return replace(self.setting, nuisances=wide)

    def problem(self, setting: DesignSetting) -> DesignProblem:
        """Return the problem under a setting."""
        return replace(self.job, ranges=None).problem(setting)

    def nominal(self) -> Optimised:
        """Return the best design of several starts for the nominal case."""
        problem = self.problem(self.setting)
        return self._best(problem, starting_points(problem, self.job.limits, self.starts, seed=0))

    def robust(self, nominal: Values, objective: float) -> Optimised:
        """Return the design whose mean log variance over nominal case and scenarios is least."""
        guard = None
        if self.most_loss is not None:
            guard = Guard(self.problem(self.setting), objective + self.most_loss)
        problem = self.problem(robust(self.judged, self.scenarios))
        return self._best(problem, [np.array(nominal)], guard)

    def value(self, values: Values, scenario: Scenario | None = None) -> float:
        """Return the log variance of a design under a scenario; None is the nominal case."""
        setting = self.setting if scenario is None else only(self.judged, scenario)
        point = np.array(values)
        return self.problem(setting).linearised(point).value(point)

    def compare(self, scenario: Scenario, designs: Sequence[Values]) -> tuple[list[float], float]:
        """Return the log variances of designs under a scenario, and of its own optimum."""
        reached = [self.value(values, scenario) for values in designs]
        best = designs[int(np.argmin(reached))]
        again = self._best(self.problem(only(self.judged, scenario)), [np.array(best)])
        return reached, min(again.objective, *reached)

    def _best(
        self, problem: DesignProblem, starts: Sequence[Floats], guard: Guard | None = None
    ) -> Optimised:
        job = self.job
        found = [optimise(problem, x, job.limits, job.effort, guard=guard) for x in starts]
        return min(found, key=lambda one: one.objective)
