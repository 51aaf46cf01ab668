"""Parametrisations on a coarser grid: coarse-to-fine, and the paper's learned 2x upsampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.parametrisation import Automatic


def interpolation(size: int, factor: int, *, linear: bool) -> Tensor:
    """Matrix ``(size, size/factor)`` of interpolation along one axis; rows are >= 0 and sum to 1.

    Coarse cells hold ``factor`` pixels; linear interpolation is between cell centres and constant
    beyond the outermost ones.

    Raises
    ------
    InvalidInput
        If the factor does not divide the size.
    """
    if factor < 1 or size % factor:
        msg = f"the coarsening factor must divide the matrix {size}, got {factor}; use 2 or 4"
        raise InvalidInput(msg)
    cells = size // factor
    position = (torch.arange(size, dtype=torch.float64) + 0.5) / factor - 0.5
    if not linear:
        position = position.round()
    position = position.clamp(0, cells - 1)
    low = position.floor().long()
    high = (low + 1).clamp_max(cells - 1)
    share = position - low
    matrix = torch.zeros((size, cells), dtype=torch.float64)
    rows = torch.arange(size)
    matrix[rows, low] += 1 - share
    matrix[rows, high] += share
    return matrix


@dataclass(frozen=True)
class Coarse:
    """Maps interpolated from a grid that is `factor` times coarser.

    Interpolation weights are non-negative and sum to one, so constraints on the coarse fractions
    hold for the fine ones too.

    Parameters
    ----------
    factor
        Pixels per coarse cell along each axis.
    linear
        Bilinear interpolation between cell centres; otherwise constant cells.
    """

    factor: int = 2
    linear: bool = True
    constraints: tuple[str, ...] = ("simplex", "box", "none")

    @property
    def name(self) -> str:
        """``coarse-`` and the factor."""
        return f"coarse-{self.factor}"

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate."""
        return self._both(x, *self._matrices(x, fine=False))

    def inverse(self, p: Tensor) -> Tensor:
        """Return the coarse fractions whose interpolation is closest in least squares."""
        rows, columns = self._matrices(p, fine=True)
        return self._both(p, torch.linalg.pinv(rows), torch.linalg.pinv(columns))

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:  # noqa: ARG002
        """Interpolate the change."""
        return self.forward(dx)

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:  # noqa: ARG002
        """Adjoint of the interpolation."""
        rows, columns = self._matrices(dp, fine=True)
        return self._both(dp, rows.T, columns.T)

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor:  # noqa: ARG002
        """Sum of the fine blocks, weighted by squared interpolation weights."""
        rows, columns = self._matrices(blocks, fine=True)
        return self._both(blocks, rows.T.square(), columns.T.square())

    def capacity(self) -> Tensor | None:
        """Whole voxels."""
        return None

    def per_voxel(self, tissues: int) -> float:
        """Unknowns shared by the voxels of a cell."""
        return tissues / self.factor**2

    def select(self, index: Tensor) -> Self:  # noqa: ARG002
        """Hold nothing per batch item."""
        return self

    def _matrices(self, images: Tensor, *, fine: bool) -> tuple[Tensor, Tensor]:
        scale = 1 if fine else self.factor
        rows, columns = (
            interpolation(n * scale, self.factor, linear=self.linear).to(images.device)
            for n in images.shape[-2:]
        )
        return rows, columns

    def _both(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        kind = images.dtype
        return rows.to(kind) @ images @ columns.to(kind).T


@dataclass(frozen=True)
class LearnedUpsampling(Automatic):
    """The paper's learned 2x upsampling: a half-resolution map and a kernel, fitted together.

    The unknowns of an item are its coarse map ``(tissue, y/2, x/2)`` followed by one 4 x 4
    transposed-convolution kernel per tissue, flattened to one vector.

    Parameters
    ----------
    tissues, matrix
        Shape of the maps.
    """

    tissues: int = 3
    matrix: int = 64
    name: str = "upsampled"

    def __post_init__(self) -> None:
        """Check the matrix."""
        if self.matrix % 2:
            msg = f"learned upsampling needs an even matrix, got {self.matrix}; change it"
            raise InvalidInput(msg)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample the coarse map with its kernels."""
        half = self.matrix // 2
        cells = self.tissues * half**2
        coarse = x[:, :cells].reshape(1, -1, half, half)
        kernels = x[:, cells:].reshape(-1, 1, 4, 4)
        padded = torch.nn.functional.pad(coarse, (1, 1, 1, 1), mode="replicate")
        fine = torch.nn.functional.conv_transpose2d(
            padded, kernels, stride=2, padding=3, groups=len(kernels)
        )
        return fine.reshape(len(x), self.tissues, self.matrix, self.matrix)

    def inverse(self, p: Tensor) -> Tensor:
        """Least-squares coarse map for the bilinear kernel."""
        coarse = Coarse(2).inverse(p).flatten(1)
        kernels = self._bilinear.to(p).expand(len(p), self.tissues, 4, 4).flatten(1)
        return torch.cat([coarse, kernels], dim=1)

    @cached_property
    def _bilinear(self) -> Tensor:
        profile = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=torch.float64)
        return profile[:, None] * profile[None, :]

    def per_voxel(self, tissues: int) -> float:
        """Unknowns shared by four voxels."""
        return tissues / 4
