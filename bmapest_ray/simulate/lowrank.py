"""The low-rank engine: for compartments a protocol is a few FFTs.

    images_c = n ifft2( sum_r K_cr . fft2( C_q W_cr p ) ),   n = N (orthonormal images)

Centring does not appear: a circular shift of the object commutes with the filter in k-space.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bmapest_ray.simulate.exact import check_fractions
from bmapest_ray.simulate.factors import ImageFactors
from bmapest_ray.simulate.operator import Channel, make_channels
from bmapest_ray.tissue.fields import Fields


class LowRankOperator:
    """Fractions to images by ``rank`` FFTs per image.

    Parameters
    ----------
    names
        Names of the images.
    factors
        One per image.
    fields
        Coils of the object.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    memory_budget_gb
        Bound on the temporary arrays.
    """

    engine = "lowrank"
    is_linear = True

    def __init__(
        self,
        names: tuple[str, ...],
        factors: tuple[ImageFactors, ...],
        fields: Fields,
        *,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
        memory_budget_gb: float = 1.0,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.real_dtype = torch.float64 if dtype == torch.complex128 else torch.float32
        self.matrix = int(factors[0].kspace.shape[-1])
        self.tissues = int(factors[0].object_.shape[1])
        self.n_coils = fields.n_coils
        self.channels: tuple[Channel, ...] = make_channels(names, fields.n_coils)
        self.ranks = tuple(int(f.kspace.shape[0]) for f in factors)
        self.truncation_error = max(f.error for f in factors)
        self.memory_budget_gb = memory_budget_gb
        self._kspace, self._object = self._arrange(factors)
        coils = fields.coils
        self._coils = None if coils is None else coils.to(self.device, dtype)

    def _arrange(
        self, factors: tuple[ImageFactors, ...]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Order k-space for a plain FFT; object weights as real pairs, ``(rank, tissue, 2 v)``."""
        kspace, objects = [], []
        for factor in factors:
            shifted = torch.fft.ifftshift(factor.kspace * self.matrix, dim=(-2, -1))
            kspace.append(shifted.to(self.device, self.dtype).contiguous())
            weights = factor.object_.to(self.device, self.dtype).flatten(2).contiguous()
            objects.append(torch.view_as_real(weights).flatten(2))
        return kspace, objects

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        check_fractions(fractions, self.tissues, self.matrix)
        batch = fractions.shape[:-3]
        pairs = self._pairs(fractions)  # (batch, tissue, 2 v)
        shape = (pairs.shape[0], len(self.ranks), self.n_coils, self.matrix, self.matrix)
        kspace = torch.empty(shape, dtype=self.dtype, device=self.device)
        for image, ranks in self._blocks(pairs.shape[0]):
            contrast = self._spectrum(image, ranks, pairs)
            if ranks.start == 0:
                kspace[:, image] = contrast
            else:
                kspace[:, image] += contrast
        images: torch.Tensor = torch.fft.ifft2(kspace, norm="ortho").flatten(1, 2)
        return images.reshape(*batch, *images.shape[1:])

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint to images ``(..., channel, y, x)``; real ``(..., tissue, y, x)``."""
        batch = images.shape[:-3]
        grid = (self.matrix, self.matrix)
        split = images.to(self.device, self.dtype).reshape(-1, len(self.ranks), self.n_coils, *grid)
        kspace = torch.fft.fft2(split, norm="ortho")
        shape = (kspace.shape[0], self.tissues, 2 * self.matrix**2)
        total = torch.zeros(shape, dtype=self.real_dtype, device=self.device)
        for image, ranks in self._blocks(kspace.shape[0]):
            self._backproject(image, ranks, kspace[:, image], total)
        fractions = total.view(*shape[:2], *grid, 2).sum(dim=-1)
        return fractions.reshape(*batch, *fractions.shape[1:])

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Return ``forward(change)``: the operator is linear."""
        del fractions
        return self.forward(change)

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return ``adjoint(images)``: the operator is linear."""
        del fractions
        return self.adjoint(images)

    def normal_blocks(self) -> torch.Tensor:
        """Return the 3x3 blocks of ``Re A^H A`` per voxel, ``(tissue, tissue, y, x)``.

        ``H_tu = Re sum_{c,r,s} conj(W_cr[t]) G_c[r,s] W_cs[u] sum_q |C_q|^2`` with
        ``G_c[r,s] = sum_k conj(K_r) K_s``.
        """
        size = self.matrix**2
        blocks = torch.zeros(
            (self.tissues, self.tissues, size), dtype=self.real_dtype, device=self.device
        )
        for kspace, objects in zip(self._kspace, self._object, strict=True):
            flat = kspace.flatten(1)
            gram = (flat.conj() @ flat.T) / size
            weights = torch.view_as_complex(objects.view(*objects.shape[:2], size, 2))
            other = torch.einsum("rs,suv->ruv", gram, weights)
            for t in range(self.tissues):
                blocks[t] += (weights[:, t, None].conj() * other).real.sum(dim=0)
        if self._coils is not None:
            blocks *= self._coils.abs().square().sum(dim=0).flatten()
        return blocks.view(self.tissues, self.tissues, self.matrix, self.matrix)

    def _pairs(self, fractions: torch.Tensor) -> torch.Tensor:
        """Return fractions repeated for real and imaginary part, ``(batch, tissue, 2 v)``."""
        flat = fractions.reshape(-1, self.tissues, self.matrix**2)
        return flat.to(self.device, self.real_dtype).repeat_interleave(2, dim=-1)

    def _blocks(self, batch: int) -> Iterator[tuple[int, slice]]:
        """Yield images and the ranks treated at once inside the memory budget."""
        per_rank = batch * self.n_coils * self.matrix**2 * 3 * self._kspace[0].element_size()
        most = max(1, int(self.memory_budget_gb * 2**30 / per_rank))
        for image, rank in enumerate(self.ranks):
            for start in range(0, rank, most):
                yield image, slice(start, min(start + most, rank))

    def _spectrum(self, image: int, ranks: slice, pairs: torch.Tensor) -> torch.Tensor:
        """Return ``sum_r K_r fft2(C_q W_r p)``, ``(batch, coil, ky, kx)``."""
        weights = self._object[image][ranks]
        weighted = pairs[:, None, 0] * weights[:, 0]
        for tissue in range(1, self.tissues):
            weighted.addcmul_(pairs[:, None, tissue], weights[:, tissue])
        shape = (pairs.shape[0], weights.shape[0], 1, self.matrix, self.matrix)
        field = torch.view_as_complex(weighted.view(*shape, 2))
        if self._coils is not None:
            field = field * self._coils
        spectrum: torch.Tensor = torch.fft.fft2(field)
        return spectrum.mul_(self._kspace[image][ranks][None, :, None]).sum(dim=1) / self.matrix

    def _backproject(
        self, image: int, ranks: slice, kspace: torch.Tensor, total: torch.Tensor
    ) -> None:
        """Add ``Re sum_{r,q} conj(W_r C_q) ifft2(conj(K_r) S_q)`` to ``(batch, tissue, 2 v)``."""
        filtered = self._kspace[image][ranks].conj()[None, :, None] * kspace[:, None]
        field = torch.fft.ifft2(filtered).mul_(self.matrix)
        if self._coils is not None:
            field = field * self._coils.conj()
        summed = field.sum(dim=2) if self.n_coils > 1 else field[:, :, 0]
        pairs = torch.view_as_real(summed.contiguous()).flatten(2)  # (batch, rank, 2 v)
        for place, weights in enumerate(self._object[image][ranks]):
            total.addcmul_(pairs[:, place, None], weights[None])
