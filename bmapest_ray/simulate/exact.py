"""The exact engine for compartments: linear, without any truncation of rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.simulate.amplitudes import TissueAmplitudes, tissue_amplitudes
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encoded import EncodedOperator
from bmapest_ray.simulate.factors import FactorBuilder
from bmapest_ray.simulate.hearing import Profile
from bmapest_ray.simulate.operator import Linear
from bmapest_ray.simulate.reconstruct import images_of, kspace_of
from bmapest_ray.simulate.voxels import decay, precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable

_COMPLEX_BYTES = {torch.complex64: 8, torch.complex128: 16}
_CHUNK = 64
"""Hearings that are held at once."""


def check_fractions(fractions: torch.Tensor, tissues: int, matrix: int) -> None:
    """Refuse fractions of another shape or with NaN.

    Raises
    ------
    InvalidInput
        Names what was expected and what came.
    """
    if fractions.shape[-3:] != (tissues, matrix, matrix):
        msg = (
            f"fractions must have shape (..., {tissues}, {matrix}, {matrix}), got "
            f"{tuple(fractions.shape)}; resample the maps to the operator's grid"
        )
        raise InvalidInput(msg)
    # one NaN or infinity makes the sum so, and a sum needs no temporary array
    if not math.isfinite(float(fractions.detach().sum())):
        msg = "fractions must be finite, got NaN or infinity; mask or fill these voxels first"
        raise InvalidInput(msg)


def check_images(images: torch.Tensor, channels: int, matrix: int) -> None:
    """Refuse images of another shape.

    Raises
    ------
    InvalidInput
        Names what was expected and what came.
    """
    if images.shape[-3:] != (channels, matrix, matrix):
        msg = (
            f"images must have shape (..., {channels}, {matrix}, {matrix}), got "
            f"{tuple(images.shape)}; give one per channel of the operator"
        )
        raise InvalidInput(msg)


class CompartmentOperator(Linear, EncodedOperator):
    """Fractions to images by separable encoding of tabulated tissue amplitudes.

    Parameters
    ----------
    models
        One per chain.
    table, fields
        The object.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    memory_budget_gb
        Bound on the temporary arrays; it does not depend on the number of contrasts.
    tolerance
        Of the interpolation over B1.
    """

    def __init__(
        self,
        models: tuple[ChainModel, ...],
        table: TissueTable,
        fields: Fields,
        *,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
        memory_budget_gb: float = 1.0,
        tolerance: float = 1e-7,
    ) -> None:
        super().__init__(models, table, fields, dtype, device, memory_budget_gb)
        self._density = table.column("pd", device=device).to(self.real_dtype)[:, None, None]
        self._amplitudes = [
            tissue_amplitudes(model, table, self._b1, tolerance=tolerance) for model in models
        ]

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        check_fractions(fractions, self.tissues, self.matrix)
        batch = fractions.shape[:-3]
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        images = [self._chain_images(i, flat) for i in range(len(self.models))]
        joined = torch.cat(images, dim=1)
        return joined.reshape(*batch, *joined.shape[1:])

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint to images ``(..., channel, y, x)``; real ``(..., tissue, y, x)``."""
        check_images(images, len(self.channels), self.models[0].table.matrix)
        batch = images.shape[:-3]
        flat = images.reshape(-1, *images.shape[-3:]).to(self.device, self.dtype)
        shape = (flat.shape[0], self.tissues, self.matrix, self.matrix)
        total = torch.zeros(shape, dtype=self.real_dtype, device=self.device)
        start = 0
        for number, encoder in enumerate(self._encoders):
            stop = start + encoder.n_images * self.n_coils
            total += self._chain_adjoint(number, flat[:, start:stop])
            start = stop
        return total.reshape(*batch, *total.shape[1:])

    def normal_blocks(self) -> torch.Tensor:
        """Return the 3x3 blocks of ``Re A^H A`` per voxel, ``(tissue, tissue, y, x)``."""
        parts = [
            FactorBuilder(m, self.table, self.fields, 1e-4).normal_blocks() for m in self.models
        ]
        blocks = torch.stack(parts).sum(dim=0)
        if self.fields.coils is not None:
            blocks *= self.fields.coils.abs().square().sum(dim=0).to(blocks)
        return blocks.to(self.device, self.real_dtype)

    def _chain_images(self, number: int, fractions: torch.Tensor) -> torch.Tensor:
        """Return images ``(batch, image * coil, y, x)`` of one chain."""
        kspace = torch.zeros((), dtype=self.dtype, device=self.device)
        for columns, source in self._blocks(number):
            weight = self._weight(fractions, columns)
            kspace = kspace + self._encode(number, columns, source, weight)
        return self._to_channels(images_of(kspace), fractions.shape[0])

    def _chain_adjoint(self, number: int, images: torch.Tensor) -> torch.Tensor:
        encoder = self._encoders[number]
        batch, matrix = images.shape[0], images.shape[-1]
        split = images.view(batch, encoder.n_images, self.n_coils, matrix, matrix)
        cotangent = kspace_of(split.transpose(1, 2)).flatten(0, 1)
        shape = (batch, self.tissues, self.matrix, self.matrix)
        total = torch.zeros(shape, dtype=self.real_dtype, device=self.device)
        for columns, source in self._blocks(number):
            gradient = encoder.encode_adjoint(
                source, self._factor_of(columns), cotangent, columns, chunk=_CHUNK
            )
            gradient = gradient.view(batch, self.n_coils, *gradient.shape[1:])
            if self._coils is not None:
                gradient = gradient * self._coils[None, :, None, columns].conj()
            total[..., columns] = (gradient.sum(1).real * self._density).transpose(-1, -2)
        return total

    def _weight(self, fractions: torch.Tensor, columns: slice) -> torch.Tensor:
        """Return fraction times density times coil, ``(batch * coil, tissue, x, y)``."""
        real = fractions.to(self.device, self.real_dtype)[..., columns]
        weight = real.transpose(-1, -2) * self._density
        if self._coils is None:
            return weight
        coils = self._coils[:, columns]
        return (weight[:, None] * coils[None, :, None]).flatten(0, 1)

    def _to_channels(self, images: torch.Tensor, batch: int) -> torch.Tensor:
        split = images.view(batch, self.n_coils, *images.shape[1:]).transpose(1, 2)
        return split.flatten(1, 2)

    def _blocks(self, number: int) -> Iterator[tuple[slice, AmplitudeSource]]:
        """Yield blocks of columns that keep the temporary arrays inside the budget."""
        per_column = _CHUNK * self.tissues * self.matrix * _COMPLEX_BYTES[self.dtype] * 6
        width = int(self.memory_budget_gb * 2**30 / per_column)
        width = max(1, min(self.matrix, width))
        for start in range(0, self.matrix, width):
            columns = slice(start, min(start + width, self.matrix))
            weights = self._amplitudes[number].weights(self._b1[columns])
            yield columns, AmplitudeSource(self._amplitudes[number], weights, self.dtype)

    def _encode(
        self, number: int, columns: slice, source: AmplitudeSource, weight: torch.Tensor
    ) -> torch.Tensor:
        return self._encoders[number].encode(
            source, self._factor_of(columns), weight, columns, chunk=_CHUNK
        )

    def _factor_of(self, columns: slice) -> Callable[[Profile], torch.Tensor]:
        """Return a function that gives the factor ``(node, tissue, x, y)`` of a profile."""
        b0_hz = self._b0_hz[columns]
        rows = [
            self.table.column(row, device=self.device)
            for row in ("t2_s", "t2dash_s", "diffusivity_m2_per_s")
        ]

        def factor(profile: Profile) -> torch.Tensor:
            time = torch.as_tensor(
                profile.tau_s + profile.nodes.time_s, dtype=torch.float64, device=self.device
            )
            turning = precession(b0_hz, time, self.dtype)
            fading = decay(profile, *rows).to(self.real_dtype)
            return turning[:, None] * fading[:, :, None, None]

        return factor


class AmplitudeSource:
    """Amplitudes of hearings on a block of voxels, interpolated over B1 when asked for."""

    def __init__(
        self, amplitudes: TissueAmplitudes, weights: torch.Tensor, dtype: torch.dtype
    ) -> None:
        self._values = amplitudes.values.to(weights.device, dtype)
        self._weights = weights.flatten(1).to(dtype)
        self._shape = weights.shape[1:]

    def __call__(self, hearings: slice) -> torch.Tensor:
        """Return ``(hearing, tissue, x, y)``."""
        values = self._values[hearings] @ self._weights
        return values.view(*values.shape[:2], *self._shape)
