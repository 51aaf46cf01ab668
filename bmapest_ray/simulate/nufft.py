"""Fourier sums over a voxel grid at any places of k-space, by Kaiser-Bessel gridding.

    forward  S_j = sum_v f(v) exp(-2 pi i k_j . x_v),    adjoint  f(v) = sum_j S_j exp(+ ...)

The field is divided by the kernel's transform, padded to twice the matrix, transformed, and read
between the grid points with a kernel of eight points (Jackson et al. 1991; kernel width after
Beatty, Nishimura and Pauly, IEEE Trans Med Imaging 2005;24:799). The error is near 1e-7.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bmapest_ray.simulate.grid import VoxelGrid

_OVERSAMPLING = 2
_WIDTH = 8
_BETA = float(np.pi * np.sqrt((_WIDTH / _OVERSAMPLING * (_OVERSAMPLING - 0.5)) ** 2 - 0.8))


class Nufft:
    """Fourier sums of a grid at fixed places of k-space.

    Parameters
    ----------
    k_per_m
        Shape ``(sample, 2)``: kx and ky in 1/m.
    grid
        Voxels.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    """

    def __init__(
        self,
        k_per_m: NDArray[np.float64],
        grid: VoxelGrid,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.matrix = grid.matrix
        self.dtype = dtype
        self.size = _OVERSAMPLING * grid.matrix
        steps = k_per_m * grid.fov_m  # in steps of the matrix
        self.interpolation = _interpolation(steps * _OVERSAMPLING, self.size, dtype, device)
        self.spreading = self.interpolation.transpose(0, 1).coalesce()
        apodisation = torch.from_numpy(_apodisation(self.matrix, self.size))
        self._weights: torch.Tensor = torch.outer(apodisation, apodisation).to(device, dtype)
        # voxel centres lie half a pixel off the points of a discrete transform
        phase = torch.from_numpy(-np.pi * steps.sum(axis=1) / self.matrix)
        self._half = torch.polar(torch.ones_like(phase), phase).to(device, dtype)

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        """Return the sums ``(..., sample)`` of complex fields ``(..., y, x)``."""
        batch = field.shape[:-2]
        padded = field.new_zeros((*batch, self.size, self.size))
        padded[..., self._inside, self._inside] = field * self._weights
        spectrum = torch.fft.fft2(torch.fft.ifftshift(padded, dim=(-2, -1)))
        flat = spectrum.reshape(-1, self.size**2).T
        samples: torch.Tensor = (self.interpolation @ flat).T
        return samples.reshape(*batch, -1) * self._half

    def adjoint(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the fields ``(..., y, x)`` of samples ``(..., sample)``."""
        batch = samples.shape[:-1]
        flat = (samples * self._half.conj()).reshape(-1, samples.shape[-1]).T
        spectrum = (self.spreading @ flat).T.reshape(*batch, self.size, self.size)
        # the conjugate of a transform of the conjugate is the adjoint of the transform
        padded = torch.fft.fft2(spectrum.conj()).conj()
        field: torch.Tensor = torch.fft.fftshift(padded, dim=(-2, -1))
        return field[..., self._inside, self._inside] * self._weights

    @property
    def _inside(self) -> slice:
        start = (self.size - self.matrix) // 2
        return slice(start, start + self.matrix)


def _kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Kaiser-Bessel kernel at distances in points of the finer grid."""
    inside = np.clip(1 - (2 * distance / _WIDTH) ** 2, 0.0, None)
    values: NDArray[np.float64] = np.i0(_BETA * np.sqrt(inside)) / _WIDTH
    return np.where(np.abs(distance) <= _WIDTH / 2, values, 0.0)


def _apodisation(matrix: int, size: int) -> NDArray[np.float64]:
    """Return one over the kernel's Fourier transform at the voxels of one axis."""
    place = (np.arange(matrix) - matrix // 2) / size
    root = np.sqrt(_BETA**2 - (np.pi * _WIDTH * place) ** 2 + 0j)
    transform: NDArray[np.float64] = np.real(np.sinh(root) / root)
    return 1 / transform


def _interpolation(
    points: NDArray[np.float64], size: int, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Return the sparse matrix from the finer grid ``(ky * kx)`` to the samples."""
    first = np.ceil(points - _WIDTH / 2).astype(np.int64)  # (sample, 2)
    near = first[:, :, None] + np.arange(_WIDTH)
    weights = _kernel(near - points[:, :, None])
    index = np.mod(near, size)
    columns = index[:, 1, :, None] * size + index[:, 0, None, :]
    values = weights[:, 1, :, None] * weights[:, 0, None, :]
    rows = np.repeat(np.arange(len(points)), _WIDTH**2)
    coordinates = torch.from_numpy(np.stack([rows, columns.ravel()]))
    shape = (len(points), size**2)
    entries = torch.from_numpy(values.ravel()).to(dtype)
    sparse = torch.sparse_coo_tensor(coordinates, entries, shape, check_invariants=False)
    return sparse.coalesce().to(device)


def sample_areas(transform: Nufft, grid: VoxelGrid) -> torch.Tensor:
    """Return the area of k-space that each sample stands for, in units of 1/FOV^2, ``(sample,)``.

    By the fixed point of Pipe and Menon (Magn Reson Med 1999;41:179) on the gridding kernel;
    scaled so that gridding a blob in the middle of the field gives it back.
    """
    gridding = transform.interpolation
    areas = torch.ones((gridding.shape[0], 1), dtype=transform.dtype, device=gridding.device)
    for _ in range(_DENSITY_ITERATIONS):
        areas = areas / (gridding @ (transform.spreading @ areas))
    weights = areas[:, 0].real.clamp(min=0)
    axis = grid.axis_m(weights.device) / (grid.fov_m / 8)
    blob = torch.exp(-(axis[:, None] ** 2) - axis[None, :] ** 2).to(transform.dtype)
    back = transform.adjoint(weights * transform.forward(blob))
    scale = (back.conj() * blob).sum().real / blob.abs().square().sum()
    return weights * grid.matrix**2 / scale


_DENSITY_ITERATIONS = 30
