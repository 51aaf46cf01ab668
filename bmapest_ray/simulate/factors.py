"""Low-rank factors of one chain for compartments: ``signal = sum_r K_r F(W_r p)``.

For one image the voxel factors of all samples form a matrix ``M[(line, sample), (tissue, voxel)]``
without the nominal Fourier kernel. It is ``D A``: rows of ``A`` are (hearing, time node), ``D``
interpolates to the samples. With ``M ~ U S V^H`` the k-space weights are ``K = U`` and the object
weights ``W = U^H M``. ``U`` comes from a few hundred voxels that cover the fields, then the error
is measured on other voxels and the basis grown until the tolerance holds; ``M`` is never formed
for all voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.amplitudes import TissueAmplitudes, tissue_amplitudes
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.hearing import sample_index
from bmapest_ray.simulate.object_weights import ObjectFields, object_weights
from bmapest_ray.simulate.rows import ImageRows, RowGroup, group_rows, half_sample
from bmapest_ray.simulate.voxels import decay, precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable

_BASIS_VOXELS = 96
_TEST_VOXELS = 128
_MAX_RANK = 96
_MANY_COLUMNS = 512
_OVERSAMPLING = 32
_BLOCK_VOXELS = 512


@dataclass(frozen=True)
class ImageFactors:
    """Factors of one image.

    Parameters
    ----------
    kspace
        Weights in k-space on the acquisition grid, zero where nothing is acquired.
        Shape ``(rank, ky, kx)``, complex; ``(rank, sample)`` for readouts off the grid.
    object_
        Weights of the object: density included. Shape ``(rank, tissue, y, x)``, complex.
    error
        Relative truncation error measured on voxels that did not make the basis.
    """

    kspace: torch.Tensor
    object_: torch.Tensor
    error: float


class FactorBuilder:
    """Builds the factors of a chain.

    Parameters
    ----------
    model
        The chain; its object grid must be the acquisition grid.
    table, fields
        The object.
    tolerance
        Largest relative truncation error.
    """

    def __init__(
        self, model: ChainModel, table: TissueTable, fields: Fields, tolerance: float
    ) -> None:
        self.model = model
        self.table = table
        self.tolerance = tolerance
        self.b0_hz = fields.b0_hz.double().flatten()
        self.b1 = fields.b1.double().flatten()
        self.positions_m = model.grid.positions_m()[:, :2]
        self.amplitudes: TissueAmplitudes = tissue_amplitudes(
            model, table, self.b1, tolerance=tolerance / 100
        )
        self.b1_weights = self.amplitudes.weights(self.b1)
        self._density = table.column("pd")

    def build(self, dtype: torch.dtype) -> tuple[ImageFactors, ...]:
        """Return the factors of every image of the chain.

        Raises
        ------
        SimulationError
            If the tolerance cannot be reached.
        """
        images = range(len(self.model.table.images))
        return tuple(self._image(image, dtype) for image in images)

    def normal_blocks(self) -> torch.Tensor:
        """Return ``Re A^H A`` within each voxel, ``(tissue, tissue, y, x)``, float64, no coils.

        Samples that are measured more than once count as often.
        """
        matrix, tissues = self.model.grid.matrix, len(self._density)
        blocks = torch.zeros((tissues, tissues, matrix * matrix), dtype=torch.float64)
        for image in range(len(self.model.table.images)):
            rows = group_rows(self.model, image)
            for voxels in torch.split(torch.arange(matrix * matrix), _BLOCK_VOXELS):
                seen = rows.scaled(self._columns(rows, voxels)).view(-1, tissues, len(voxels))
                blocks[..., voxels] += torch.einsum("stv,suv->tuv", seen.conj(), seen).real
        blocks *= (self.model.table.matrix / matrix) ** 4  # finer voxels are smaller
        return blocks.view(tissues, tissues, matrix, matrix)

    def _image(self, image: int, dtype: torch.dtype) -> ImageFactors:
        rows = group_rows(self.model, image)
        order = self._voxel_order()
        test = order[:_TEST_VOXELS]
        tested = rows.scaled(self._columns(rows, test))
        count = _BASIS_VOXELS
        while True:
            used = order[_TEST_VOXELS:][:count] if len(order) > 2 * _TEST_VOXELS else order
            columns = rows.scaled(self._columns(rows, used))
            basis, error = best_basis(columns, tested, self.tolerance)
            if error <= self.tolerance:
                break
            if basis.shape[1] >= _MAX_RANK or count >= len(order):
                msg = (
                    f"the low-rank operator must be within {self.tolerance:.1g} of the exact one, "
                    f"got {error:.1g} at rank {basis.shape[1]}; raise the tolerance or use the "
                    "exact engine"
                )
                raise SimulationError(msg)
            count *= 2
        return ImageFactors(
            kspace=self._kspace(rows.samples(basis), image, basis).to(dtype),
            object_=self._object(rows, rows.dual(basis), dtype),
            error=error,
        )

    def _kspace(
        self, samples: dict[int, torch.Tensor], image: int, basis: torch.Tensor
    ) -> torch.Tensor:
        """Return K on the grid, or per sample ``(rank, sample)`` where there is none."""
        if self.model.table.on_grid:
            return scatter_kspace(self.model, samples, image)
        windows = []
        for number, readout in enumerate(self.model.table.readouts):
            if readout.image == image:
                silent = basis.new_zeros((readout.samples, basis.shape[1]))
                windows.append(samples.get(number, silent))
        return torch.cat(windows).T.contiguous()

    def _voxel_order(self) -> torch.Tensor:
        """Return voxels in an order whose every prefix covers B0 and B1: extremes, then random."""
        count = len(self.b0_hz)
        shuffled = torch.randperm(count, generator=generator("lowrank-voxels", count))
        extremes = torch.stack(
            [self.b0_hz.argmin(), self.b0_hz.argmax(), self.b1.argmin(), self.b1.argmax()]
        )
        rest = shuffled[~torch.isin(shuffled, extremes)]
        return torch.cat([rest[:_TEST_VOXELS], extremes, rest[_TEST_VOXELS:]])

    def _columns(self, rows: ImageRows, voxels: torch.Tensor) -> torch.Tensor:
        """Return ``A`` for some voxels, ``(row, tissue * voxel)``, complex128."""
        parts = []
        for group in rows.groups:
            factor = self._factor(group, voxels)  # (node, tissue, voxel)
            amplitude = self.amplitudes.values[group.hearings] @ self.b1_weights[:, voxels].to(
                torch.complex128
            )
            block = amplitude[:, None] * factor[None]
            parts.append(block.flatten(0, 1).flatten(1))
        return torch.cat(parts)

    def _factor(self, group: RowGroup, voxels: torch.Tensor) -> torch.Tensor:
        """Return decay, precession and density at the nodes, ``(node, tissue, voxel)``."""
        return self._turning(group, voxels)[:, None] * self._fading(group)[:, :, None]

    def _turning(self, group: RowGroup, voxels: torch.Tensor) -> torch.Tensor:
        """Return precession and shift at the nodes, ``(node, voxel)``, complex128."""
        profile = group.profile
        time = torch.from_numpy(profile.tau_s + profile.nodes.time_s)
        turning = precession(self.b0_hz[voxels], time, torch.complex128)
        if group.offset_y or group.offset_x:
            turning *= group.shift(self.positions_m[voxels])
        return turning

    def _fading(self, group: RowGroup) -> torch.Tensor:
        """Return decay and density at the nodes, ``(node, tissue)``, float64."""
        columns = [self.table.column(row) for row in ("t2_s", "t2dash_s", "diffusivity_m2_per_s")]
        return decay(group.profile, *columns) * self._density

    def _object(self, rows: ImageRows, dual: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return ``W = dual^H A`` for all voxels, ``(rank, tissue, y, x)``."""
        matrix = self.model.grid.matrix
        weights = object_weights(
            rows,
            dual,
            self.amplitudes.values,
            self._fading,
            ObjectFields(self.b0_hz, self.b1_weights, self.positions_m),
            tolerance=self.tolerance / 100,
            dtype=dtype,
        )
        if self.model.table.on_grid:
            weights *= half_sample(self.positions_m, self.model.table.fov_m).to(dtype)
        return weights.view(*weights.shape[:2], matrix, matrix)


def best_basis(
    used: torch.Tensor, tested: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, float]:
    """Return an orthonormal basis of the used columns and its error on the tested ones."""
    left = _left_vectors(used)
    captured = (left.conj().T @ tested).abs().square().sum(dim=1).cumsum(dim=0)
    total = tested.abs().square().sum()
    if total == 0:  # an empty object: any basis will do
        return left[:, :1], 0.0
    residual = ((total - captured).clamp(min=0) / total).sqrt()
    enough = np.flatnonzero(residual.numpy() <= 0.7 * tolerance)
    rank = int(enough[0]) + 1 if enough.size else left.shape[1]
    basis = left[:, :rank]
    missed = tested - basis @ (basis.conj().T @ tested)
    return basis, float(missed.norm() / tested.norm())


def _left_vectors(columns: torch.Tensor) -> torch.Tensor:
    """Return the leading left singular vectors, at least one."""
    if columns.shape[1] > _MANY_COLUMNS:
        # a random range finder with one power iteration (Halko, Martinsson, Tropp 2011)
        shape = (columns.shape[1], _MAX_RANK + _OVERSAMPLING)
        draw = torch.randn(shape, generator=generator("range-finder"), dtype=columns.dtype)
        span = torch.linalg.qr(columns @ draw).Q
        span = torch.linalg.qr(columns @ (columns.conj().T @ span)).Q
        left: torch.Tensor = span @ _gram_vectors((span.conj().T @ columns).conj().T)
    else:
        left = torch.linalg.qr(columns @ _gram_vectors(columns)).Q
    return left


def _gram_vectors(columns: torch.Tensor) -> torch.Tensor:
    """Return the strongest eigenvectors of ``columns^H columns``."""
    values, vectors = torch.linalg.eigh(columns.conj().T @ columns)
    strong = values.flip(0)[:_MAX_RANK] > 1e-15 * values[-1]
    strong[0] = True
    leading: torch.Tensor = vectors.flip(1)[:, :_MAX_RANK][:, strong]
    return leading


def scatter_kspace(model: ChainModel, samples: dict[int, torch.Tensor], image: int) -> torch.Tensor:
    """Scatter the samples ``(sample, rank)`` of one image to the grid, ``(rank, ky, kx)``."""
    table = model.table
    matrix = table.matrix
    some = next(iter(samples.values()))
    kspace = some.new_zeros((some.shape[1], matrix * matrix))
    counts = torch.zeros(matrix * matrix, dtype=torch.float64)
    for number, readout in enumerate(table.readouts):
        if readout.image != image:
            continue
        index = readout.line * matrix + torch.from_numpy(sample_index(table, number))
        counts[index] += 1
        if number in samples:
            kspace[:, index] += samples[number].T
    return (kspace / counts.clamp(min=1)).view(-1, matrix, matrix)
