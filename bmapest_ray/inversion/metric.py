"""The metric of unknowns that are not voxel-wise: a multiple of the identity, no constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bmapest_ray.inversion.quadratic import dot, scaled


@dataclass(frozen=True)
class ScalarMetric:
    """``B = size * I`` for each batch item; the whole space is feasible.

    Parameters
    ----------
    size
        Curvature scale of each batch item, positive. ``(batch,)``.
    """

    size: Tensor

    def minimise(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Steepest descent step; there is one face."""
        return -scaled(1 / self.size, gradient), x.new_zeros(len(x))

    def inside(self, face: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Divide by the size."""
        return lambda g: scaled(1 / self.size, g)

    def off_face(self, x: Tensor, face: Tensor) -> Tensor:  # noqa: ARG002
        """Nothing is off the only face."""
        return torch.zeros_like(x)

    def outside(self, q: Tensor) -> Tensor:
        """Nothing is infeasible."""
        return q.new_zeros(len(q), dtype=torch.bool)

    def squared_norm(self, d: Tensor) -> Tensor:
        """``d^T B d``."""
        return self.size * dot(d, d)

    def apply(self, d: Tensor) -> Tensor:
        """``B d``."""
        return scaled(self.size, d)

    def tidy(self, p: Tensor) -> Tensor:
        """Nothing to tidy."""
        return p
