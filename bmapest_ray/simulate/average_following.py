"""Averaged voxels on a graph that follows the maps: made anew for the mean tissue of each.

BMapEst builds MR-zero's phantom and graph in every step from the maps of that step. Voxels without
density are left out of the phantom: they are silent, get no gradient and stay as they are. Data and
fit lose the same lines only where their mean tissues, and the B1 that these saw, agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.chain import HEAD, MeanTissue
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.tissue.table import TissueTable

DENSITY = 1e-6
"""Voxels of less proton density are left out, as MR-zero's ``build`` does."""
_STEP = 0.002
"""Raster of the shares: a null of the mean tissue moves by less than one line within it."""
_B1_POINTS, _B1_STEP = 24, 0.005
"""Midpoints of as many equal parts of the density by B1, and their raster."""
_KEPT = 3


class FollowingOperator:
    """An operator of averaged voxels per mean tissue; the last few are kept.

    Parameters
    ----------
    make
        The operator for the mean tissue of a head.
    table
        Tissues; their densities say which voxels count, and how much for B1.
    b1
        Relative B1, ``(y, x)``.
    """

    engine = "exact"
    is_linear = False

    def __init__(
        self, make: Callable[[MeanTissue], AverageOperator], table: TissueTable, b1: torch.Tensor
    ) -> None:
        self._of = lru_cache(_KEPT)(make)
        self._density = table.column("pd").double()[:, None, None]
        self._b1 = b1.double().cpu()
        first = self._of(HEAD)
        self.channels, self.matrix, self.tissues = first.channels, first.matrix, first.tissues
        self.device, self.dtype = first.device, first.dtype

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        images = torch.stack([self.at(p).forward(p * self._holds(p)) for p in flat])
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions`` to images; the graph stays."""
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        cotangents = images.reshape(-1, *images.shape[-3:])
        gradients = [
            self.at(p).vjp(p * holds, s) * holds
            for p, s, holds in zip(flat, cotangents, map(self._holds, flat), strict=True)
        ]
        return torch.stack(gradients).reshape(fractions.shape)

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Apply the derivative at ``fractions`` to a change of the fractions; the graph stays."""
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        changes = change.reshape(flat.shape)
        images = torch.stack(
            [
                self.at(p).jvp(p * holds, d * holds)
                for p, d, holds in zip(flat, changes, map(self._holds, flat), strict=True)
            ]
        )
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def linearise(self, fractions: torch.Tensor) -> tuple[torch.Tensor, LowRankOperator]:
        """Return the images at ``fractions`` ``(tissue, y, x)`` and the derivative there.

        Unlike `jvp` and `vjp` this one may fill voxels that are empty.
        """
        return self.at(fractions).linearise(fractions * self._holds(fractions))

    def at(self, maps: torch.Tensor) -> AverageOperator:
        """Return the operator on the graph of maps ``(tissue, y, x)``."""
        return self._of(self.mean_of(maps))

    def mean_of(self, maps: torch.Tensor) -> MeanTissue:
        """Return the mean tissue of the voxels with density, on a raster; a head's for none."""
        known = maps.detach().double().cpu()
        density = self._density_of(known)
        holds = density > DENSITY
        if not bool(holds.any()):
            return HEAD
        shares = known[:, holds].mean(dim=1)
        b1, order = self._b1[holds].sort()
        reached = density[holds][order].cumsum(0)
        wanted = (torch.arange(_B1_POINTS, dtype=torch.float64) + 0.5) / _B1_POINTS * reached[-1]
        points = b1[torch.searchsorted(reached, wanted)]
        return MeanTissue(_on_raster(shares, _STEP), _on_raster(points, _B1_STEP))

    def _holds(self, maps: torch.Tensor) -> torch.Tensor:
        """Return 1 where a voxel has density and 0 where not, ``(y, x)``."""
        return (self._density_of(maps.detach()) > DENSITY).to(maps.dtype)

    def _density_of(self, maps: torch.Tensor) -> torch.Tensor:
        return (maps.double() * self._density.to(maps.device)).sum(dim=0)


def _on_raster(values: torch.Tensor, step: float) -> tuple[float, ...]:
    return tuple(round(number * step, 6) for number in (values / step).round().tolist())
