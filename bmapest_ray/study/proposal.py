"""A configuration that a search proposes, and what it costs on the scanner."""

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
        """Return the seconds over the limit; 0 or less is allowed."""
        return float("-inf") if self.limit_s is None else self.seconds_of(settings) - self.limit_s
