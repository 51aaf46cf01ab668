"""Gaussian prior from a cohort: in every voxel the mean and the covariance of other subjects.

    -log density = 1/2 sum_v (p - m)^T P (p - m),   P = strength * (spread * C + floor^2 I)^-1

C is the sample covariance of a few subjects: where they agree (background, deep white matter) it
is singular, and between neighbours it is noisy. The mean over a small window steadies it, ``floor``
keeps every precision finite, and ``spread = 1 + 1/n`` accounts for the mean being an estimate too
(the predictive covariance of a new subject).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput


class Statistics(Protocol):
    """Mean and covariance of a cohort; see `bmapest_ray.anatomy.cohort.CohortStatistics`."""

    @property
    def mean(self) -> Tensor:
        """Shape ``(tissue, y, x)``."""
        ...

    @property
    def covariance(self) -> Tensor:
        """Shape ``(tissue, tissue, y, x)``."""
        ...

    @property
    def count(self) -> int:
        """Number of subjects behind it."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """Independent Gaussian in every voxel.

    Parameters
    ----------
    mean
        Shape ``(batch or 1, tissue, y, x)``.
    precision
        Positive definite, ``(batch or 1, tissue, tissue, y, x)``.
    """

    mean: Tensor
    precision: Tensor
    name: str = "cohort"

    def value(self, p: Tensor) -> Tensor:
        """Half the squared Mahalanobis distance to the mean, float64 ``(batch,)``."""
        away = p - self.mean
        return 0.5 * (away * self._apply(away)).double().flatten(1).sum(1)

    def gradient(self, p: Tensor) -> Tensor:
        """Precision times the distance to the mean."""
        return self._apply(p - self.mean)

    def curvature(self, p: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Return the product with the precision, the same at every point."""
        return self._apply

    def blocks(self, p: Tensor) -> Tensor:  # noqa: ARG002
        """Return the precision: it is block diagonal."""
        return self.precision

    def select(self, index: Tensor) -> Self:
        """Return the prior of some batch items."""
        if len(self.mean) == 1:
            return self
        return replace(self, mean=self.mean[index], precision=self.precision[index])

    def perturbation(self, p: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a random vector whose covariance is the precision, shape of `p`."""
        noise = torch.randn(p.shape, generator=generator).to(p)
        return torch.einsum("byxtu,buyx->btyx", torch.linalg.cholesky(_last(self.precision)), noise)

    def _apply(self, p: Tensor) -> Tensor:
        return (self.precision * p.unsqueeze(1)).sum(2)


def gaussian_prior(
    statistics: Statistics, *, strength: float = 1.0, floor: float = 0.02, window: int = 3
) -> GaussianPrior:
    """Return the prior of a cohort's statistics.

    Parameters
    ----------
    strength
        Factor on the precision; 1 takes the cohort at its word.
    floor
        Standard deviation, as a fraction, that every direction of every voxel has at least.
    window
        Side, in voxels and odd, of the window over which covariances are averaged; 1 averages none.

    Raises
    ------
    InvalidInput
        If a setting breaks its rule.
    """
    check_positive("strength", strength)
    covariance = regular_covariance(statistics, floor=floor, window=window)
    precision = invert_blocks(covariance) * strength
    return GaussianPrior(statistics.mean[None], precision[None].to(statistics.mean.dtype))


def regular_covariance(statistics: Statistics, *, floor: float, window: int) -> Tensor:
    """Return a positive definite predictive covariance, float64 ``(tissue, tissue, y, x)``."""
    check_positive("floor", floor)
    check_window(window)
    covariance = statistics.covariance.double() * (1 + 1 / statistics.count)
    identity = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    return window_mean(covariance, window) + floor**2 * identity[:, :, None, None]


def invert_blocks(blocks: Tensor) -> Tensor:
    """Invert symmetric positive definite blocks ``(..., t, t, y, x)``."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_last(blocks)))
    return inverse.movedim((-2, -1), (-4, -3)).contiguous()


def window_mean(values: Tensor, window: int) -> Tensor:
    """Average ``(..., y, x)`` over a square window, inside the image only."""
    if window == 1:
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    mean = torch.nn.functional.avg_pool2d(
        flat, window, stride=1, padding=window // 2, count_include_pad=False
    )
    return mean.reshape(values.shape)


def check_positive(name: str, value: float) -> None:
    """Refuse a setting that is not positive and finite."""
    if not 0 < value < float("inf"):
        msg = f"prior setting {name} must be positive and finite, got {value}; leave it out"
        raise InvalidInput(msg)


def check_window(window: int) -> None:
    """Refuse a window that has no centre."""
    if window < 1 or window % 2 == 0:
        msg = f"prior setting window must be odd and at least 1, got {window}; use 1 or 3"
        raise InvalidInput(msg)


def _last(blocks: Tensor) -> Tensor:
    """Move the block axes of ``(..., t, t, y, x)`` to the end."""
    return blocks.movedim((-4, -3), (-2, -1))
