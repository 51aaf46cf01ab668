"""How sure a fit is: the Gaussian around a solution (Laplace), without constraints.

    covariance = H^-1,   H = J^T W J + L

J is the derivative of the images, W what each sample tells (`information`), L the precision of the
prior; without prior it is the Cramer-Rao bound. A standard deviation is the root of the
**diagonal of the inverse**. Small problems are inverted whole. Else ``H z = e`` is solved for
probes ``e`` that are +1 or -1 on voxels far apart: the point spread is local, so what other
voxels of a probe add is small, and random signs make it average out [Bekas, Kokiopoulou & Saad,
Appl. Numer. Math. 57, 1214 (2007)]. The error is stated, from exact columns at some voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, SolveError
from bmapest_ray.inversion.conjugate_gradients import solve_spd
from bmapest_ray.inversion.information import Information
from bmapest_ray.inversion.prior_choice import SampledPrior
from bmapest_ray.inversion.prior_gaussian import invert_blocks

DENSE_UNKNOWNS = 1000
"""Up to here the precision is inverted whole."""
SPACING = (8, 2)
"""Voxels between those of one probe along y, where lines follow each other in time and the point
spread is wide, and along x, where it is narrow."""
WIDE_SPACING = (8, 6)
"""Taken where the stated error of the first choice is above `LARGEST_ERROR`."""
LARGEST_ERROR = 0.03
CHECKED = 8
"""Voxels whose exact covariance tells the error of the probes."""
TOLERANCE = 1e-3
"""Of the solves with probes: what it leaves out of a variance is of second order."""
BATCH = 32
"""Systems that are solved at once."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Covariance of the fractions of every voxel.

    Parameters
    ----------
    covariance
        Shape ``(tissue, tissue, y, x)``; zero where a voxel is held at zero.
    relative_error
        Root mean square error of the standard deviations, relative; 0 where they are exact.
    method
        ``dense`` or ``probing``.
    """

    covariance: Tensor
    relative_error: float
    method: str

    @property
    def std(self) -> Tensor:
        """Standard deviation of every fraction, ``(tissue, y, x)``."""
        return self.covariance.diagonal(dim1=0, dim2=1).movedim(-1, 0).clamp_min(0).sqrt()


@dataclass(frozen=True, eq=False)
class Posterior:
    """The Gaussian around a solution.

    Parameters
    ----------
    information
        What the data tell at the solution.
    prior
        The prior of the fit; None gives the Cramer-Rao bound.
    free
        Voxels that may hold tissue, bool ``(y, x)``; the others are known to be empty.

    Raises
    ------
    InvalidInput
        If nothing bounds the fractions: fewer contrasts than tissues, and no prior.
    """

    information: Information
    prior: SampledPrior | None
    free: Tensor

    def __post_init__(self) -> None:
        """Check that the precision can be inverted."""
        channels = {channel.image for channel in self.information.model.channels}
        if self.prior is None and len(channels) < len(self.information.maps):
            msg = (
                f"a posterior without prior needs at least {len(self.information.maps)} contrasts, "
                f"got {len(channels)}; add contrasts or a prior (prior 'cohort')"
            )
            raise InvalidInput(msg)
        if not bool(self.free.any()):
            msg = "a posterior needs voxels that may hold tissue, got none; lower the noise"
            raise InvalidInput(msg)

    def product(self, change: Tensor) -> Tensor:
        """Product with the precision, ``(batch, tissue, y, x)``, on the free voxels."""
        change = change * self.free
        return (self.information.product(change) + self._bend(change)) * self.free

    def solve(self, right: Tensor, tolerance: float = 1e-4) -> Tensor:
        """Apply the covariance to ``(batch, tissue, y, x)`` by conjugate gradients.

        Raises
        ------
        SolveError
            If they do not converge: the data do not determine the fractions.
        """
        parts = [
            solve_spd(self.product, part * self.free, self._precondition, tolerance)
            for part in torch.split(right, BATCH)
        ]
        return torch.cat(parts)

    def spread(self, method: str = "auto", seed: int = 0) -> Spread:
        """Return the covariance of every voxel; `method` is auto, dense or probing."""
        unknowns = int(self.free.sum()) * len(self.information.maps)
        if method == "dense" or (method == "auto" and unknowns <= DENSE_UNKNOWNS):
            return self._dense()
        spread = self._probing(SPACING, seed)
        if spread.relative_error <= LARGEST_ERROR:
            return spread
        return self._probing(WIDE_SPACING, seed)

    def samples(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw maps from the posterior, ``(count, tissue, y, x)``: perturb, then solve.

        The right side has the precision as covariance, so the solution has its inverse.
        """
        maps = self.information.maps.expand(count, *self.information.maps.shape)
        images = self.information.images
        shape = (count, *images.shape, *([] if self.information.magnitude else [2]))
        noise = torch.randn(shape, generator=generator).to(maps)
        noise = noise if self.information.magnitude else torch.view_as_complex(noise)
        right = self.information.adjoint(noise)
        if self.prior is not None:
            right = right + self.prior.perturbation(maps, generator)
        return maps + self.solve(right)

    @cached_property
    def _bend(self) -> Callable[[Tensor], Tensor]:
        if self.prior is None:
            return torch.zeros_like
        return self.prior.curvature(self.information.maps[None])

    @cached_property
    def _inverse_blocks(self) -> Tensor:
        blocks = self.information.blocks(self.free)
        if self.prior is not None:
            blocks = blocks + self.prior.blocks(self.information.maps[None])[0]
        size = blocks.diagonal(dim1=0, dim2=1).mean()
        identity = torch.eye(len(blocks)).to(blocks)[:, :, None, None]
        return invert_blocks((blocks + 1e-4 * size * identity).double()).to(blocks.dtype)

    def _precondition(self, residual: Tensor) -> Tensor:
        return (self._inverse_blocks * residual.unsqueeze(1)).sum(2) * self.free

    def _dense(self) -> Spread:
        tissues = len(self.information.maps)
        index = self.free.expand(tissues, *self.free.shape).reshape(-1).nonzero()[:, 0]
        rows = []
        for part in torch.split(index, BATCH):
            unit = self.information.maps.new_zeros(len(part), self.free.numel() * tissues)
            unit[torch.arange(len(part)), part] = 1
            shape = (-1, tissues, *self.free.shape)
            rows.append(self.product(unit.reshape(shape)).flatten(1)[:, index])
        matrix = torch.cat(rows).double()
        root, failed = torch.linalg.cholesky_ex(0.5 * (matrix + matrix.T))
        if bool(failed):
            msg = "the data must determine the fractions, they do not; add contrasts or a prior"
            raise SolveError(msg)
        inverse = torch.cholesky_inverse(root).reshape(tissues, len(index) // tissues, tissues, -1)
        own = inverse.diagonal(dim1=1, dim2=3)
        covariance = self.information.maps.new_zeros(tissues, tissues, *self.free.shape)
        covariance[:, :, self.free] = own.to(covariance.dtype)
        return Spread(covariance, 0.0, "dense")

    def _probing(self, spacing: tuple[int, int], seed: int) -> Spread:
        generator = torch.Generator().manual_seed(seed)
        maps = self.information.maps
        tissues = len(maps)
        covariance = maps.new_zeros(tissues, tissues, *self.free.shape)
        for where in self._colours(spacing):
            signs = torch.randint(0, 2, (tissues, *self.free.shape), generator=generator)
            signs = (2 * signs - 1).to(maps) * where
            probes = torch.diag_embed(signs.movedim(0, -1)).movedim((-2, -1), (0, 1))
            answer = self.solve(probes, TOLERANCE)
            covariance += (answer * signs[:, None]) * where
        covariance = 0.5 * (covariance + covariance.transpose(0, 1))
        return Spread(covariance, self._error(covariance, generator), "probing")

    def _colours(self, spacing: tuple[int, int]) -> Iterator[Tensor]:
        """Yield sets of free voxels that are far apart."""
        height, width = spacing
        for y in range(height):
            for x in range(width):
                where = torch.zeros_like(self.free)
                where[y::height, x::width] = True
                where &= self.free
                if bool(where.any()):
                    yield where

    def _error(self, covariance: Tensor, generator: torch.Generator) -> float:
        """Compare standard deviations with exact ones at some voxels."""
        places = self.free.nonzero()
        chosen = places[torch.randperm(len(places), generator=generator)[:CHECKED]]
        tissues = len(covariance)
        right = covariance.new_zeros(len(chosen), tissues, tissues, *self.free.shape)
        for row, (y, x) in zip(right, chosen.tolist(), strict=True):
            row[:, :, y, x] = torch.eye(tissues).to(covariance)
        exact = self.solve(right.flatten(0, 1)).reshape(right.shape)
        errors = []
        for row, (y, x) in zip(exact, chosen.tolist(), strict=True):
            ratio = covariance[:, :, y, x].diagonal() / row[:, :, y, x].diagonal()
            errors.append(ratio.clamp_min(0).sqrt() - 1)
        return float(torch.stack(errors).square().mean().sqrt())


def coverage(
    estimate: Tensor, std: Tensor, truth: Tensor, where: Tensor, deviations: float
) -> float:
    """Return the share of fractions whose truth lies within so many standard deviations.

    1 standard deviation should cover 68.3 %, 1.96 should cover 95 %.

    Parameters
    ----------
    estimate, std, truth
        Shape ``(..., tissue, y, x)``.
    where
        Voxels that count, bool ``(y, x)``.
    """
    inside = (estimate - truth).abs() <= deviations * std
    return float(inside[..., where].double().mean())
