"""Prior of the cohort's own voxels: what fractions occur around a place, not just their mean.

    p(v) ~ mean over samples s of N(p_s, kernel^2 I),   s: voxels of all subjects within a window

Half of a brain's voxels hold one tissue alone and most others lie between two, which no Gaussian
knows. The mixture has many modes, so it is not minimised: a fit with the cohort's Gaussian comes
first; the mixture, weighed by what the data say of each voxel there, has a mean and a covariance in
closed form; and the Gaussian that gives the same ones takes the mixture's place in a second fit.
This is one step of expectation propagation [Minka, UAI 2001] for the sites of the voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.prior_gaussian import (
    GaussianPrior,
    Statistics,
    check_positive,
    check_window,
    gaussian_prior,
)
from bmapest_ray.inversion.problem import Problem, feasible

_VALUES_AT_ONCE = 2**22
"""Numbers in one temporary array."""
_WEAKEST = 1.0
"""Least precision of a matched Gaussian, per squared fraction: what the data say may be more
certain than what they leave of the mixture."""


@runtime_checkable
class AdaptivePrior(Protocol):
    """A prior that a first fit makes more specific."""

    def adapted(self, p: Tensor, gradient: Tensor, blocks: Tensor, /) -> GaussianPrior:
        """Return the prior of a second fit.

        Parameters
        ----------
        p
            Maps of the first fit, ``(batch, tissue, y, x)``.
        gradient, blocks
            Of the data's misfit there: slope, and curvature of every voxel alone, ``(batch,
            tissue, y, x)`` and ``(batch or 1, tissue, tissue, y, x)``.
        """
        ...


@dataclass(frozen=True, eq=False)
class NeighbourPrior:
    """The cohort's Gaussian until it is `adapted` to the mixture.

    Parameters
    ----------
    first
        Prior of the first fit.
    samples
        Fractions that occur around each voxel, ``(sample, tissue, y, x)``.
    kernel
        Standard deviation of a sample's surroundings, as a fraction.
    """

    first: GaussianPrior
    samples: Tensor
    kernel: float
    name: str = "neighbours"

    def value(self, p: Tensor) -> Tensor:
        """Value of the first fit's prior."""
        return self.first.value(p)

    def gradient(self, p: Tensor) -> Tensor:
        """Gradient of the first fit's prior."""
        return self.first.gradient(p)

    def curvature(self, p: Tensor) -> Callable[[Tensor], Tensor]:
        """Curvature of the first fit's prior."""
        return self.first.curvature(p)

    def blocks(self, p: Tensor) -> Tensor:
        """Blocks of the first fit's prior."""
        return self.first.blocks(p)

    def perturbation(self, p: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a random vector whose covariance is the first fit's precision."""
        return self.first.perturbation(p, generator)

    def select(self, index: Tensor) -> Self:
        """Return the prior of some batch items."""
        return replace(self, first=self.first.select(index))

    def adapted(self, p: Tensor, gradient: Tensor, blocks: Tensor) -> GaussianPrior:
        """Return the Gaussian of the moments that mixture and data give together."""
        items = [
            self._matched(one, slope, blocks[min(number, len(blocks) - 1)])
            for number, (one, slope) in enumerate(zip(p, gradient, strict=True))
        ]
        means, precisions = (torch.stack(part).to(p.dtype) for part in zip(*items, strict=True))
        return GaussianPrior(means, precisions, self.name)

    def _matched(self, p: Tensor, gradient: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Match one item; mean ``(tissue, y, x)`` and precision ``(tissue, tissue, y, x)``."""
        tissues, size = len(p), p[0].numel()
        voxels = p.double().reshape(tissues, size).T
        slopes = gradient.double().reshape(tissues, size).T
        data = blocks.double().reshape(tissues, tissues, size).movedim(-1, 0)
        samples = self.samples.reshape(*self.samples.shape[:2], size)
        mean, precision = torch.empty_like(voxels), torch.empty_like(data)
        step = max(1, _VALUES_AT_ONCE // (len(samples) * tissues))
        for start in range(0, size, step):
            part = slice(start, start + step)
            near = samples[..., part].permute(2, 0, 1).double()
            mean[part], precision[part] = _site(
                near - voxels[part, None], slopes[part], data[part], self.kernel
            )
        site_mean = (voxels + mean).T.reshape(p.shape)
        return site_mean, precision.movedim(0, -1).reshape(tissues, tissues, *p.shape[1:])


def adapted(problem: Problem, prior: AdaptivePrior, maps: Tensor) -> Problem:
    """Return a problem with its prior adapted to what the data say at maps.

    Parameters
    ----------
    problem
        Batch of problems.
    prior
        Their prior.
    maps
        Of the first fits, ``(batch, tissue, y, x)``.

    Raises
    ------
    InvalidInput
        If the model has no voxel blocks.
    """
    x = feasible(problem.parametrisation.inverse(maps), problem)
    point = problem.point(x, tangent=True)
    evidence = problem.evidence(point)
    if evidence is None:
        msg = (
            "prior 'neighbours' needs a model with voxel blocks, got one without; name a linear "
            "preconditioner or use prior 'cohort'"
        )
        raise InvalidInput(msg)
    return replace(problem, prior=prior.adapted(point.p, *evidence))


def _site(samples: Tensor, slope: Tensor, data: Tensor, kernel: float) -> tuple[Tensor, Tensor]:
    """Return mean and precision of the Gaussian sites, relative to the maps of the first fit.

    The data's misfit around the maps is ``q(d) = g.d + 1/2 d^T H d``. Beside it each sample gives a
    Gaussian of covariance ``A = (H + I / kernel^2)^-1`` around ``s - A (g + H s)``, whose weight is
    ``exp(-q)`` there times the kernel's density.

    Parameters
    ----------
    samples
        Fractions less the maps, ``(voxel, sample, tissue)``.
    slope, data
        g ``(voxel, tissue)`` and H ``(voxel, tissue, tissue)``.
    """
    identity = torch.eye(data.shape[-1], dtype=data.dtype, device=data.device)
    spread = torch.linalg.inv(data + identity / kernel**2)
    shift = -(slope[:, None] + samples @ data) @ spread
    centre = samples + shift
    misfit = (centre * (slope[:, None] + 0.5 * centre @ data)).sum(-1)
    weight = torch.softmax(-misfit - shift.square().sum(-1) / (2 * kernel**2), dim=-1)
    mean = torch.einsum("vs,vst->vt", weight, centre)
    apart = centre - mean[:, None]
    covariance = torch.einsum("vs,vst,vsu->vtu", weight, apart, apart) + spread
    site = torch.linalg.inv(covariance) - data
    sizes, axes = torch.linalg.eigh((site + site.mT) / 2)
    sizes = sizes.clamp(_WEAKEST, 1 / kernel**2)
    precision = (axes * sizes[:, None]) @ axes.mT
    pull = ((data + precision) @ mean[..., None])[..., 0] + slope
    return torch.linalg.solve(precision, pull), precision


def neighbour_prior(
    statistics: Statistics,
    subjects: Tensor,
    *,
    kernel: float = 0.03,
    strength: float = 0.5,
    floor: float = 0.02,
    window: int = 3,
    mirrored: int = 1,
) -> NeighbourPrior:
    """Return the prior of a cohort's voxels.

    Parameters
    ----------
    statistics
        Mean and covariance of the cohort, for the first fit.
    subjects
        Its maps, ``(subject, tissue, y, x)``.
    kernel
        Standard deviation of a sample's surroundings, as a fraction.
    strength, floor
        Of the Gaussian of the first fit; see `gaussian_prior`.
    window
        Side of the neighbourhood, in voxels and odd.
    mirrored
        1 adds the left-right mirror images of the subjects, 0 does not.

    Raises
    ------
    InvalidInput
        If a setting breaks its rule.
    """
    check_positive("kernel", kernel)
    check_window(window)
    if mirrored not in (0, 1):
        msg = f"prior setting mirrored must be 0 or 1, got {mirrored}; 1 adds mirror images"
        raise InvalidInput(msg)
    maps = torch.cat([subjects, subjects.flip(-1)]) if mirrored else subjects
    first = gaussian_prior(statistics, strength=strength, floor=floor)
    return NeighbourPrior(first, _around(maps, window), kernel)


def _around(maps: Tensor, window: int) -> Tensor:
    """Return the voxels of all maps within a window, ``(map * place, tissue, y, x)``."""
    height, width = maps.shape[-2:]
    margin = window // 2
    wide = torch.nn.functional.pad(maps, (margin,) * 4)
    return torch.cat(
        [
            wide[..., row : row + height, column : column + width]
            for row in range(window)
            for column in range(window)
        ]
    )
