"""Voxels ready for a fit, and how far their intensities may be off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from bmapest_ray.scan.components import Components
from bmapest_ray.scan.nuisances import SignalModel
from bmapest_ray.scan.posterior import Moments, Observed, posterior


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels of a head with all that is known of them before the fit.

    Parameters
    ----------
    intensity
        Shape `(voxel, contrast)`.
    where
        Coordinates in [-1, 1], `(voxel, 3)`.
    b1
        Given B1, `(voxel,)`.
    log_prior, log_other
        As in `Observed`.
    """

    intensity: Tensor
    where: Tensor
    b1: Tensor
    log_prior: Tensor
    log_other: Tensor

    def __getitem__(self, index: slice | Tensor) -> Voxels:
        """Return some of the voxels."""
        return Voxels(
            self.intensity[index],
            self.where[index],
            self.b1[index],
            self.log_prior[index],
            self.log_other[index],
        )

    def __len__(self) -> int:
        """Return the number of voxels."""
        return len(self.intensity)

    def blocks(self, size: int) -> Iterator[Voxels]:
        """Yield consecutive blocks."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """Standard deviation of an intensity: measured noise and what is relative to the signal.

    Parameters
    ----------
    noise
        Of the scanner, `(contrast,)`.
    relative
        Of tissue that is not uniform and of physics left out, `(contrast,)`.
    """

    noise: Tensor
    relative: Tensor

    def variance(self, intensity: Tensor) -> Tensor:
        """Return the variance at intensities `(voxel, contrast)`."""
        return self.noise.square() + (self.relative * intensity).square()


def moments_of(
    block: Voxels, model: SignalModel, vector: Tensor, level: NoiseLevel, parts: Components
) -> Moments:
    """Return the posterior of the fractions of some voxels, the nuisances given."""
    signal = model.signals(vector, block.where, block.b1).value
    variance = level.variance(block.intensity)
    seen = Observed(block.intensity, variance, block.log_prior, block.log_other, model.signed)
    return posterior(seen, signal, parts)
