"""The scale on which the variables of a design move: each in 0..1, long ranges by logarithms."""

import numpy as np

from bmapest_ray.design.objective import DesignProblem
from bmapest_ray.simulate.plan import Floats


class Scale:
    """Variables on a scale where a step means about the same for each."""

    def __init__(self, problem: DesignProblem) -> None:
        self._low, self._high = problem.low, problem.high
        self._log = (problem.low > 0) & (problem.high > 5 * problem.low)
        self.bounds = [(0.0, 1.0)] * len(self._low)

    def inner(self, x: Floats) -> Floats:
        """Return values on the scale."""
        safe = np.where(self._log, np.maximum(x, self._low), 1.0)
        low = np.where(self._log, self._low, 1.0)
        logs = np.log(safe / low) / np.log(np.where(self._log, self._high, np.e) / low)
        plain = (x - self._low) / (self._high - self._low)
        inner: Floats = np.clip(np.where(self._log, logs, plain), 0.0, 1.0)
        return inner

    def outer(self, u: Floats) -> Floats:
        """Return the values of a place on the scale."""
        ratio = np.where(self._log, self._high / np.where(self._log, self._low, 1.0), 1.0)
        outer: Floats = np.where(
            self._log, self._low * ratio**u, self._low + u * (self._high - self._low)
        )
        return np.clip(outer, self._low, self._high)

    def slope(self, u: Floats) -> Floats:
        """Return the derivative of `outer`, element by element."""
        ratio = np.where(self._log, self._high / np.where(self._log, self._low, 1.0), 1.0)
        slope: Floats = np.where(self._log, self.outer(u) * np.log(ratio), self._high - self._low)
        return slope
