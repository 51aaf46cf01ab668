"""Smoothed total variation on the simplex: neighbours are alike, but for a few edges.

    -log density = strength * sum_v ( sqrt(sum_{k,d} (D_d q_k)^2(v) + edge^2) - edge )

``q`` are the fractions and the background ``1 - sum p``, so that one edge between two classes
costs the same whatever the classes are; D_d are forward differences along y and x, zero across the
rim of the image. The curvature is that of lagged diffusivity, the quadratic that touches the
penalty from above [Vogel & Oman, SIAM J. Sci. Comput. 17, 227 (1996)].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from bmapest_ray.inversion.prior_gaussian import check_positive


@dataclass(frozen=True)
class TotalVariation:
    """Isotropic, smoothed total variation coupled over all classes.

    Parameters
    ----------
    strength
        Cost of a unit step of one voxel's length, in nats.
    edge
        Gradient, in fraction per voxel, below which the penalty is quadratic.
    """

    strength: float = 3.0
    edge: float = 0.1
    name: str = "tv"

    def __post_init__(self) -> None:
        """Check the fields."""
        check_positive("strength", self.strength)
        check_positive("edge", self.edge)

    def value(self, p: Tensor) -> Tensor:
        """Penalty of each batch item, float64 ``(batch,)``."""
        excess = self._size(p).double() - self.edge
        return self.strength * excess.flatten(1).sum(1)

    def gradient(self, p: Tensor) -> Tensor:
        """Gradient of the penalty: the curvature applied to the maps themselves."""
        return self.curvature(p)(p)

    def curvature(self, p: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the lagged-diffusivity product ``dp -> D^T w D dp``."""
        weight = self.strength / self._size(p)[:, None]
        return lambda dp: _classes(
            _backward(weight * _forward(dp, -2), -2) + _backward(weight * _forward(dp, -1), -1)
        )

    def blocks(self, p: Tensor) -> Tensor:
        """Diagonal blocks: the weights of a voxel's four differences, times ``1 + identity``."""
        weight = self.strength / self._size(p)
        total = torch.zeros_like(weight)
        for axis in (-2, -1):
            last = weight.shape[axis] - 1
            inner = weight.narrow(axis, 0, last)
            total.narrow(axis, 0, last).add_(inner)
            total.narrow(axis, 1, last).add_(inner)
        tissues = p.shape[1]
        coupling = torch.eye(tissues).to(p) + torch.ones(tissues, tissues).to(p)
        return coupling[:, :, None, None] * total[:, None, None]

    def select(self, index: Tensor) -> Self:  # noqa: ARG002
        """Hold nothing per batch item."""
        return self

    def perturbation(self, p: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a random vector whose covariance is the curvature at `p`."""
        root = (self.strength / self._size(p)[:, None]).sqrt()
        shape = (p.shape[0], p.shape[1] + 1, *p.shape[2:])
        total = torch.zeros_like(p)
        for axis in (-2, -1):
            noise = root * torch.randn(shape, generator=generator).to(p)
            change = _backward(noise, axis)
            total += change[:, :-1] - change[:, -1:]
        return total

    def _size(self, p: Tensor) -> Tensor:
        """Smoothed length of the gradient of all classes, ``(batch, y, x)``."""
        squares = sum(_forward(p, axis).square() for axis in (-2, -1))
        background = sum(_forward(p.sum(1), axis).square() for axis in (-2, -1))
        return torch.as_tensor(squares).sum(1).add(background).add(self.edge**2).sqrt()


def _classes(change: Tensor) -> Tensor:
    """Add the part of the background, which is minus the sum of the tissues."""
    return change + change.sum(1, keepdim=True)


def _forward(values: Tensor, axis: int) -> Tensor:
    """Forward difference along an axis, zero at the last voxel."""
    out = torch.zeros_like(values)
    out.narrow(axis, 0, values.shape[axis] - 1).copy_(values.diff(dim=axis))
    return out


def _backward(values: Tensor, axis: int) -> Tensor:
    """Adjoint of `_forward`."""
    last = values.shape[axis] - 1
    inner = values.narrow(axis, 0, last)
    out = torch.zeros_like(values)
    out.narrow(axis, 0, last).sub_(inner)
    out.narrow(axis, 1, last).add_(inner)
    return out
