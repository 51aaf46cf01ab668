"""What a fit of a scan may be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.scan.cohort_prior import FLOOR
from bmapest_ray.scan.nuisances import SPREADS

RULES = 3
"""Raised when the same request gives another answer."""


@dataclass(frozen=True)
class ScanSettings:
    """Knobs of a fit; floor, coupling and sweeps are what `bmapest bench real --part tune` chose.

    Parameters
    ----------
    fixed
        Nuisances that keep their prior mean: scale, bias, offset, t1, t2, pd, b1.
    spreads
        Prior standard deviations that differ from the usual ones.
    coupling
        Of the Markov random field, in units of 1 / fraction^2; 0 leaves neighbours apart.
    sweeps
        Passes over the head that couple neighbours, after the first one without.
    floor
        Standard deviation that the cohort's covariance is widened by.
    sample
        Voxels that the nuisances are fitted to.
    shared_mm3
        Volume in which voxels share what the model leaves out; decides how sure nuisances are.
    lines
        Lines of k-space of the sequences: how long their trains are.
    block
        Voxels per block.
    """

    fixed: tuple[str, ...] = ()
    spreads: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    coupling: float = 48.0
    sweeps: int = 2
    floor: float = FLOOR
    sample: int = 20_000
    shared_mm3: float = 5000.0
    lines: int = 176
    block: int = 131_072

    def __post_init__(self) -> None:
        """Refuse unknown names and numbers without a meaning."""
        for name in (*self.fixed, *self.spreads):
            require_choice("nuisance", name, tuple(SPREADS))
        for key in ("coupling", "floor", "shared_mm3"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise InvalidInput(f"{key} must be at least 0, got {getattr(self, key)}; raise it")
        if self.lines < 16 or self.lines % 2:
            raise InvalidInput(f"lines must be even and at least 16, got {self.lines}; try 176")
        if self.sample < 1000 or self.block < 1000 or self.sweeps < 0:
            raise InvalidInput("sample and block must be at least 1000 and sweeps 0; raise them")
