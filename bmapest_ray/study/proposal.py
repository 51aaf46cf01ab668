"""A configuration that a search proposes, and what it costs on the scanner."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bmapest_ray.study.space import Value


@dataclass(frozen=True)
class Proposal:
    """A configuration to try."""

    number: int
    settings: Mapping[str, Value]


@dataclass(frozen=True)
class ScanTime:
    """What a configuration costs on the scanner.

    Parameters
    ----------
    seconds_of
        Scan time of a configuration.
    limit_s
        No configuration may take longer; None is no limit.
    """

    seconds_of: Callable[[Mapping[str, Value]], float]
    limit_s: float | None = None

    def excess_s(self, settings: Mapping[str, Value]) -> float:
        """Return the seconds over the limit; 0 or less is allowed.

        A protocol without any contrast takes infinitely long: it is over every limit.
        """
        seconds = self.seconds_of(settings)
        if self.limit_s is None:
            return seconds if math.isinf(seconds) else -math.inf
        return seconds - self.limit_s
