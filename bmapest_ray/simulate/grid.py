"""Where the voxels are: a square grid centred on the field of view."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bmapest_ray.base.errors import InvalidInput


@dataclass(frozen=True)
class VoxelGrid:
    """A square grid of voxels; pixel edges lie at +-FOV/2.

    Parameters
    ----------
    matrix
        Voxels along one edge, even.
    fov_m
        Field of view in metres.
    """

    matrix: int
    fov_m: float

    def __post_init__(self) -> None:
        """Check the matrix and the field of view."""
        if self.matrix < 2 or self.matrix % 2:
            msg = f"the matrix must be even and at least 2, got {self.matrix}; choose 64"
            raise InvalidInput(msg)
        if not 0 < self.fov_m < 10:
            msg = f"the field of view must be in (0, 10) m, got {self.fov_m}; mind the unit"
            raise InvalidInput(msg)

    def axis_m(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the voxel centres along one axis in metres, float64, shape ``(voxel,)``."""
        index = torch.arange(self.matrix, dtype=torch.float64, device=device)
        return (index + 0.5 - self.matrix / 2) * (self.fov_m / self.matrix)

    def positions_m(self) -> torch.Tensor:
        """Return all voxel centres, y-major, shape ``(y * x, 3)``, float64."""
        y, x = torch.meshgrid(self.axis_m(), self.axis_m(), indexing="ij")
        return torch.stack([x.flatten(), y.flatten(), torch.zeros_like(x).flatten()], dim=1)
