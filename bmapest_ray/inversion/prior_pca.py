"""PCA prior of a cohort: a Gaussian whose covariance knows which voxels vary together.

    p ~ N(m, S),   S = share * U U^T + (1 - share) * R

U holds the principal components of the other subjects, scaled by their standard deviations, and R
is the regularised voxel-wise covariance, which keeps what few subjects cannot span. The precision
follows from Woodbury's identity, so that a product costs two thin matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.prior_gaussian import (
    GaussianPrior,
    Statistics,
    check_positive,
    invert_blocks,
    regular_covariance,
)


@dataclass(frozen=True, eq=False)
class PcaPrior:
    """Low-rank plus voxel-wise Gaussian; precision ``local - factors factors^T``.

    Parameters
    ----------
    local
        Prior of the voxel-wise part alone.
    components
        Scaled components ``sqrt(share) U``, ``(component, tissue, y, x)``.
    factors
        What the components take from the precision, ``(component, tissue, y, x)``.
    """

    local: GaussianPrior
    components: Tensor
    factors: Tensor
    name: str = "pca"

    def value(self, p: Tensor) -> Tensor:
        """Half the squared Mahalanobis distance to the mean, float64 ``(batch,)``."""
        away = p - self.local.mean
        return 0.5 * (away.double() * self._apply(away).double()).flatten(1).sum(1)

    def gradient(self, p: Tensor) -> Tensor:
        """Precision times the distance to the mean."""
        return self._apply(p - self.local.mean)

    def curvature(self, p: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Return the product with the precision, the same at every point."""
        return self._apply

    def blocks(self, p: Tensor) -> Tensor:
        """Return the diagonal blocks of the precision."""
        return self.local.blocks(p) - torch.einsum("ktyx,kuyx->tuyx", self.factors, self.factors)

    def select(self, index: Tensor) -> Self:
        """Return the prior of some batch items."""
        return replace(self, local=self.local.select(index))

    def perturbation(self, p: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a random vector whose covariance is the precision: precision times a sample."""
        white = self.local.perturbation(p, generator)
        covariance = invert_blocks(self.local.precision.double()).to(p)
        sample = (covariance * white.unsqueeze(1)).sum(2)
        weights = torch.randn((len(p), len(self.components)), generator=generator).to(p)
        return self._apply(sample + torch.einsum("bk,ktyx->btyx", weights, self.components))

    def _apply(self, p: Tensor) -> Tensor:
        weights = torch.einsum("ktyx,btyx->bk", self.factors, p)
        return self.local._apply(p) - torch.einsum("bk,ktyx->btyx", weights, self.factors)


def pca_prior(
    statistics: Statistics,
    subjects: Tensor,
    *,
    components: int = 8,
    share: float = 0.5,
    strength: float = 1.0,
    floor: float = 0.02,
    window: int = 3,
) -> PcaPrior:
    """Return the prior of a cohort's principal components.

    Parameters
    ----------
    statistics
        Mean and covariance of the cohort.
    subjects
        Maps of the cohort, ``(subject, tissue, y, x)``.
    components
        Number of principal components; at most one less than subjects.
    share
        Weight of the components in the covariance, in (0, 1).
    strength, floor, window
        As for the voxel-wise prior.

    Raises
    ------
    InvalidInput
        If a setting breaks its rule.
    """
    check_positive("strength", strength)
    if not 0 < share < 1:
        msg = f"prior setting share must be between 0 and 1, got {share}; use 0.5"
        raise InvalidInput(msg)
    if not 1 <= components < len(subjects):
        msg = (
            f"prior setting components must be from 1 to {len(subjects) - 1} for a cohort of "
            f"{len(subjects)}, got {components}; change it"
        )
        raise InvalidInput(msg)
    local = (1 - share) * regular_covariance(statistics, floor=floor, window=window) / strength
    precision = invert_blocks(local)
    spread = share * (1 + 1 / len(subjects)) / strength
    basis = principal_components(subjects, components) * spread**0.5
    lifted = torch.einsum("tuyx,kuyx->ktyx", precision, basis)
    middle = torch.eye(components, dtype=torch.float64)
    middle = middle + torch.einsum("ktyx,ltyx->kl", basis, lifted)
    half = torch.linalg.solve_triangular(
        torch.linalg.cholesky(middle), lifted.flatten(1), upper=False
    )
    kind = statistics.mean.dtype
    gaussian = GaussianPrior(statistics.mean[None], precision[None].to(kind))
    return PcaPrior(gaussian, basis.to(kind), half.reshape(lifted.shape).to(kind))


def principal_components(subjects: Tensor, count: int) -> Tensor:
    """Return the leading components times their standard deviations, float64.

    Parameters
    ----------
    subjects
        Shape ``(subject, tissue, y, x)``.

    Returns
    -------
    Tensor
        Shape ``(count, tissue, y, x)``.
    """
    stack = subjects.double()
    away = (stack - stack.mean(0)).flatten(1)
    _, deviations, directions = torch.linalg.svd(away, full_matrices=False)
    scaled: Tensor = deviations[:count, None] * directions[:count] / (len(stack) - 1) ** 0.5
    return scaled.reshape(count, *subjects.shape[1:])
