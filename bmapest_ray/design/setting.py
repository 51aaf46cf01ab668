"""What a protocol is judged under: grid, tissues, voxels, one noise level, kind of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.design.voxels import DesignVoxels
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.measurement import Signal
from bmapest_ray.tissue.table import TissueTable

NUISANCES = ("b1", "t1", "t2", "pd", "phase")
"""Unknowns per voxel: B1 scale, the tissues' T1, T2 and density (relative), phase [rad]."""

DESIGN_ACCURACY = StateAccuracy(5000, 1e-3, 1e-3, 2e-3)
"""Coarser than for images: a bound is wanted to a per cent."""


@dataclass(frozen=True, eq=False)
class DesignSetting:
    """The circumstances of a design.

    Parameters
    ----------
    acquisition
        Matrix and field of view.
    table
        Tissues.
    voxels
        Where the bound is evaluated.
    sigma, dwell_s
        Noise standard deviation of real and imaginary part at a dwell time; other dwell times
        have ``sigma sqrt(dwell_s / other)``.
    signal
        Complex or magnitude data.
    nuisances
        Standard deviation known beforehand of each unknown of `NUISANCES`; infinite where
        nothing is known. Every voxel has its own.
    prior
        Precision of the fractions of a voxel, ``(tissue, tissue)``; None is no prior.
    columns
        kx samples per line at which the information is evaluated; even.
    accuracy
        Of the states; None takes each protocol's own.
    """

    acquisition: VoxelGrid
    table: TissueTable
    voxels: DesignVoxels
    sigma: float
    dwell_s: float
    signal: Signal = Signal.COMPLEX
    nuisances: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    prior: Tensor | None = None
    columns: int = 4
    accuracy: StateAccuracy | None = DESIGN_ACCURACY

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in self.nuisances.items():
            require_choice("a nuisance", name, NUISANCES)
            if not value > 0:
                msg = f"the prior sd of nuisance {name} must be positive, got {value}; leave it out"
                raise InvalidInput(msg)
        if not (self.sigma > 0 and self.dwell_s > 0):
            msg = f"sigma and dwell_s must be positive, got {self.sigma} and {self.dwell_s}; set it"
            raise InvalidInput(msg)
        if self.columns % 2 or not 2 <= self.columns <= self.acquisition.matrix:
            msg = (
                f"columns must be even and in 2..{self.acquisition.matrix}, got {self.columns}; "
                "4 is the default"
            )
            raise InvalidInput(msg)
