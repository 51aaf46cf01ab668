"""The low-rank engine for readouts off the grid (radial, spiral): NUFFTs in place of FFTs.

    samples_c = sum_r K_cr . E_c( C_q W_cr p ),    image_c = E_c^H( sqrt(areas) . samples_c ) / N

``E`` are Fourier sums at the samples. The root of the areas that samples stand for keeps noise
white in the image, with the standard deviation it has in k-space, as the orthonormal transform
does on a grid (where all areas are one); an image therefore weights k-space by how densely it was
measured. Outside what was measured an image holds nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.exact import check_fractions, check_images
from bmapest_ray.simulate.factors import ImageFactors
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.nufft import Nufft, sample_areas
from bmapest_ray.simulate.operator import Channel, Linear, make_channels
from bmapest_ray.tissue.fields import Fields


class OffGridEncoding:
    """The samples of one image and their way back to an image.

    Parameters
    ----------
    k_per_m
        Shape ``(sample, 2)``.
    grid
        Voxels of the image.
    dtype, device
        Of the computation.
    """

    def __init__(
        self, k_per_m: np.ndarray, grid: VoxelGrid, dtype: torch.dtype, device: str
    ) -> None:
        self.transform = Nufft(k_per_m, grid, dtype, device)
        self._weights = sample_areas(self.transform, grid).sqrt() / grid.matrix

    def image(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the image ``(..., y, x)`` of samples ``(..., sample)``."""
        return self.transform.adjoint(self._weights * samples)

    def samples(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of `image`."""
        return self._weights * self.transform.forward(images)

    def sharpened(self, images: torch.Tensor) -> torch.Tensor:
        """Return the fields ``(..., y, x)`` behind images, times N: k-space weighted evenly.

        By a few steps of conjugate gradients, which leave out what was not measured.
        """
        found, residual = torch.zeros_like(images), images.clone()
        direction, power = residual.clone(), _power(residual)
        for _ in range(_SHARPENING_STEPS):
            blurred = self.image(self.transform.forward(direction))
            step = power / (direction.conj() * blurred).real.sum(dim=(-2, -1), keepdim=True)
            found = found + step * direction
            residual = residual - step * blurred
            before, power = power, _power(residual)
            direction = residual + power / before * direction
        return self.transform.matrix * found


_SHARPENING_STEPS = 12


def _power(field: torch.Tensor) -> torch.Tensor:
    return field.abs().square().sum(dim=(-2, -1), keepdim=True)


def encodings_of(table: EventTable, dtype: torch.dtype, device: str) -> list[OffGridEncoding]:
    """Return one encoding per image of a chain off the grid."""
    grid = VoxelGrid(table.matrix, table.fov_m)
    pairs = list(zip(table.readouts, table.paths, strict=True))
    found = []
    for image in range(len(table.images)):
        mine = np.concatenate([path for readout, path in pairs if readout.image == image])
        found.append(_encoding(mine.tobytes(), grid, dtype, device))
    return found


@lru_cache(maxsize=16)
def _encoding(path: bytes, grid: VoxelGrid, dtype: torch.dtype, device: str) -> OffGridEncoding:
    k_per_m = np.frombuffer(path, dtype=np.float64).reshape(-1, 2)
    return OffGridEncoding(k_per_m, grid, dtype, device)


def off_grid_images(model: ChainModel, signal: torch.Tensor) -> torch.Tensor:
    """Turn a signal ``(sample, coil)`` of a chain off the grid into ``(image * coil, y, x)``."""
    table = model.table
    windows = torch.split(signal.T, [readout.samples for readout in table.readouts], dim=1)
    images = []
    for image, encoding in enumerate(encodings_of(table, signal.dtype, str(signal.device))):
        pairs = zip(table.readouts, windows, strict=True)
        mine = torch.cat([w for readout, w in pairs if readout.image == image], dim=1)
        images.append(encoding.image(mine))
    weight: float = (table.matrix / model.grid.matrix) ** 2
    return weight * torch.cat(images)


class NufftOperator(Linear):
    """Fractions to images by ``rank`` NUFFTs per image.

    Parameters
    ----------
    names
        Names of the images.
    factors
        One per image; their ``kspace`` has shape ``(rank, sample)``.
    encodings
        One per image.
    fields
        Coils of the object.
    dtype, device
        Of the computation.
    """

    engine = "lowrank"

    def __init__(
        self,
        names: tuple[str, ...],
        factors: tuple[ImageFactors, ...],
        encodings: list[OffGridEncoding],
        fields: Fields,
        *,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.real_dtype = torch.float64 if dtype == torch.complex128 else torch.float32
        self.matrix = int(factors[0].object_.shape[-1])
        self.tissues = int(factors[0].object_.shape[1])
        self.n_coils = fields.n_coils
        self.channels: tuple[Channel, ...] = make_channels(names, fields.n_coils)
        self.ranks = tuple(int(f.kspace.shape[0]) for f in factors)
        self.truncation_error = max(f.error for f in factors)
        self._kspace = [f.kspace.to(self.device, dtype) for f in factors]
        self._object = [f.object_.to(self.device, dtype) for f in factors]
        self._encodings = encodings
        coils = fields.coils
        self._coils = [None] if coils is None else list(coils.to(self.device, dtype))

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        check_fractions(fractions, self.tissues, self.matrix)
        flat = fractions.reshape(-1, *fractions.shape[-3:]).to(self.device, self.dtype)
        parts = [self._images(number, flat) for number in range(len(self.ranks))]
        images = torch.cat(parts, dim=1)
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint to images ``(..., channel, y, x)``; real ``(..., tissue, y, x)``."""
        check_images(images, len(self.channels), self.matrix)
        flat = images.reshape(-1, *images.shape[-3:]).to(self.device, self.dtype)
        shape = (flat.shape[0], self.tissues, self.matrix, self.matrix)
        total = torch.zeros(shape, dtype=self.real_dtype, device=self.device)
        for number in range(len(self.ranks)):
            mine = flat[:, number * self.n_coils : (number + 1) * self.n_coils]
            total += self._backprojected(number, mine)
        return total.reshape(*images.shape[:-3], *total.shape[1:])

    def normal_blocks(self) -> torch.Tensor:
        """Return the 3x3 blocks of ``Re A^H A`` per voxel, ``(tissue, tissue, y, x)``.

        As far as an image holds all that its samples tell of the object, which it does but for
        the edge of what was measured; they precondition a solve, and need be no better.
        """
        shape = (self.tissues, self.tissues, self.matrix, self.matrix)
        blocks = torch.zeros(shape, dtype=self.real_dtype, device=self.device)
        for kspace, weights in zip(self._kspace, self._object, strict=True):
            other = torch.einsum("rs,suyx->ruyx", kspace.conj() @ kspace.T, weights)
            blocks += torch.einsum("rtyx,ruyx->tuyx", weights.conj(), other).real
        if self._coils[0] is not None:
            blocks *= sum(coil.abs().square() for coil in self._coils if coil is not None)
        return blocks

    def sharpened(self, images: torch.Tensor) -> torch.Tensor:
        """Return images ``(channel, y, x)`` with k-space weighted evenly, to look at."""
        split = torch.split(images, self.n_coils)
        pairs = zip(self._encodings, split, strict=True)
        return torch.cat([encoding.sharpened(mine) for encoding, mine in pairs])

    def _images(self, number: int, fractions: torch.Tensor) -> torch.Tensor:
        """Return ``(batch, coil, y, x)`` of one image."""
        encoding, kspace = self._encodings[number], self._kspace[number]
        field = torch.einsum("rtyx,btyx->bryx", self._object[number], fractions)
        images = []
        for coil in self._coils:
            seen = field if coil is None else field * coil
            samples = (encoding.transform.forward(seen) * kspace).sum(dim=1)
            images.append(encoding.image(samples))
        return torch.stack(images, dim=1)

    def _backprojected(self, number: int, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of `_images`; real ``(batch, tissue, y, x)``."""
        encoding, kspace = self._encodings[number], self._kspace[number].conj()
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        for place, coil in enumerate(self._coils):
            samples = encoding.samples(images[:, place])[:, None] * kspace
            field = encoding.transform.adjoint(samples)
            total = total + (field if coil is None else field * coil.conj())
        return torch.einsum("rtyx,bryx->btyx", self._object[number].conj(), total).real


class JoinedOperator(Linear):
    """Linear operators of the same object one after the other, their channels in order.

    Parameters
    ----------
    parts
        At least one.
    names
        Names of all images.
    """

    engine = "lowrank"

    def __init__(
        self, parts: tuple[NufftOperator | LowRankOperator, ...], names: tuple[str, ...]
    ) -> None:
        first = parts[0]
        self.parts = parts
        self.device, self.dtype = first.device, first.dtype
        self.matrix, self.tissues = first.matrix, first.tissues
        self.n_coils = first.n_coils
        self.channels: tuple[Channel, ...] = make_channels(names, first.n_coils)
        self.ranks = tuple(rank for part in parts for rank in part.ranks)
        self.truncation_error = max(part.truncation_error for part in parts)

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        return torch.cat([part.forward(fractions) for part in self.parts], dim=-3)

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint to images ``(..., channel, y, x)``; real ``(..., tissue, y, x)``."""
        check_images(images, len(self.channels), self.matrix)
        split = torch.split(images, [len(part.channels) for part in self.parts], dim=-3)
        found = [part.adjoint(mine) for part, mine in zip(self.parts, split, strict=True)]
        return torch.stack(found).sum(dim=0)

    def normal_blocks(self) -> torch.Tensor:
        """Return the 3x3 blocks of ``Re A^H A`` per voxel, ``(tissue, tissue, y, x)``."""
        return torch.stack([part.normal_blocks() for part in self.parts]).sum(dim=0)
