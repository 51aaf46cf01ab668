"""Averaged voxels on a graph that follows the maps: made anew for the mean tissue of each.

BMapEst builds MR-zero's graph in every step from the maps of that step, so that data and fit lose
the same lines only where their mean tissues agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.chain import HEAD_SHARES, Shares
from bmapest_ray.simulate.lowrank import LowRankOperator

_STEP = 0.002
"""Raster of the shares: a null of the mean tissue moves by less than one line within it."""
_KEPT = 3


class FollowingOperator:
    """An operator of averaged voxels per mean tissue; the last few are kept.

    Parameters
    ----------
    make
        The operator for the mean fractions of a head.
    head
        Voxels over which the fractions are averaged. Bool ``(y, x)``.
    """

    engine = "exact"
    is_linear = False

    def __init__(self, make: Callable[[Shares], AverageOperator], head: torch.Tensor) -> None:
        self._of = lru_cache(_KEPT)(make)
        self._head = head
        first = self._of(HEAD_SHARES)
        self.channels, self.matrix, self.tissues = first.channels, first.matrix, first.tissues
        self.device, self.dtype = first.device, first.dtype

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        images = torch.stack([self.at(maps).forward(maps) for maps in flat])
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions`` to images; the graph stays."""
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        cotangents = images.reshape(-1, *images.shape[-3:])
        gradients = [self.at(p).vjp(p, s) for p, s in zip(flat, cotangents, strict=True)]
        return torch.stack(gradients).reshape(fractions.shape)

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Apply the derivative at ``fractions`` to a change of the fractions; the graph stays."""
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        changes = change.reshape(flat.shape)
        images = torch.stack([self.at(p).jvp(p, d) for p, d in zip(flat, changes, strict=True)])
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def linearise(self, fractions: torch.Tensor) -> tuple[torch.Tensor, LowRankOperator]:
        """Return the images at ``fractions`` ``(tissue, y, x)`` and the derivative there."""
        return self.at(fractions).linearise(fractions)

    def at(self, maps: torch.Tensor) -> AverageOperator:
        """Return the operator on the graph of maps ``(tissue, y, x)``."""
        inside = maps.detach()[:, self._head.to(maps.device)].double()
        shares = [round(float(mean) / _STEP) * _STEP for mean in inside.mean(dim=1)]
        return self._of(tuple(shares))
