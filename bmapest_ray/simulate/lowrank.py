"""The low-rank engine: for compartments a protocol is a few FFTs.

    images_c = ifft2( sum_r K_cr . fft2( C_q W_cr p ) ),   ifft2 orthonormal, fft2 plain

Centring does not appear: a circular shift of the object commutes with the filter in k-space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import lru_cache

import torch

from bmapest_ray.simulate.exact import check_fractions, check_images
from bmapest_ray.simulate.factors import ImageFactors
from bmapest_ray.simulate.operator import Channel, Linear, make_channels
from bmapest_ray.simulate.passes import Passes
from bmapest_ray.tissue.fields import Fields

_CACHED_BYTES = 3e6
"""Temporary arrays of a block of ranks; larger ones leave the processor's cache."""


Share = tuple[slice, slice]
"""Images that one thread treats, and their ranks."""


class LowRankOperator(Linear):
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
    workers
        Threads that share the images among them, on a CPU.
    """

    engine = "lowrank"

    def __init__(
        self,
        names: tuple[str, ...],
        factors: tuple[ImageFactors, ...],
        fields: Fields,
        *,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
        memory_budget_gb: float = 1.0,
        workers: int = 1,
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
        self._image = torch.repeat_interleave(torch.tensor(self.ranks)).to(self.device)
        coils = fields.coils
        self._coils = None if coils is None else coils.to(self.device, dtype)
        self._coarse: dict[float, LowRankOperator] = {}
        self._shares = _shares(self.ranks, workers if self.device.type == "cpu" else 1)

    def coarse(self, tolerance: float) -> LowRankOperator:
        """Return the operator of each image's leading ranks, built once per tolerance.

        Parameters
        ----------
        tolerance
            Relative error of the images that may be added, root mean square over the voxels.
        """
        found = self._coarse.get(tolerance)
        if found is None:
            found = self._coarse[tolerance] = self._truncated(self._leading(tolerance))
        return found

    def _leading(self, tolerance: float) -> torch.Tensor:
        """Return the indices of the ranks that are kept."""
        size = self._object.flatten(1).norm(dim=1) * self._kspace.norm(dim=1)
        kept = []
        for energy in size.double().square().split(self.ranks):
            left = energy.flip(0).cumsum(0).flip(0)  # of this rank and all that follow
            kept.append(
                (left > tolerance**2 * left[0]) | (torch.arange(len(left), device=left.device) == 0)
            )
        return torch.cat(kept).nonzero()[:, 0]

    def _truncated(self, kept: torch.Tensor) -> LowRankOperator:
        found = copy(self)
        found._kspace, found._object = self._kspace[kept], self._object[kept]
        found._image = self._image[kept]
        found.ranks = tuple(found._image.bincount(minlength=len(self.ranks)).tolist())
        found._shares = _shares(found.ranks, len(self._shares))
        found._coarse = {}
        return found

    def _arrange(self, factors: tuple[ImageFactors, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Line up the ranks of all images.

        Filters ``(rank, k)`` in the order of a plain FFT, object weights as real pairs
        ``(rank, tissue, 2 v)``.
        """
        kspace = torch.cat([f.kspace.to(self.device, self.dtype) for f in factors])
        objects = torch.cat([f.object_.to(self.device, self.dtype).flatten(2) for f in factors])
        return (
            torch.fft.ifftshift(kspace, dim=(-2, -1)).flatten(1).contiguous(),
            torch.view_as_real(objects).flatten(2).contiguous(),
        )

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        check_fractions(fractions, self.tissues, self.matrix)
        batch = fractions.shape[:-3]
        flat = fractions.to(self.device, self.real_dtype).reshape(-1, self.tissues, self.matrix**2)
        passes = self._passes(fractions)
        parts = self._map(lambda share: self._images(flat, share, passes), passes)
        images = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return images.reshape(*batch, len(self.channels), self.matrix, self.matrix)

    def _images(self, flat: torch.Tensor, share: Share, passes: Passes) -> torch.Tensor:
        """Return some images ``(batch, image, coil, y, x)`` of fractions ``(batch, tissue, v)``."""
        images, ranks = share
        shape = (len(flat), images.stop - images.start, self.n_coils, self.matrix**2)
        kspace = torch.zeros(shape, dtype=self.dtype, device=self.device)
        for block in self._blocks(ranks, shape[0]):
            spectra = self._spectra(passes.weigh(flat, self._object[block]))
            mine = self._image[block] - images.start
            passes.collect(spectra, self._kspace[block], mine, kspace)
        grid = kspace.view(*shape[:-1], self.matrix, self.matrix)
        found: torch.Tensor = torch.fft.ifft2(grid, norm="ortho")
        return found

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint to images ``(..., channel, y, x)``; real ``(..., tissue, y, x)``.

        ``Re sum_{r,q} W_r C_q fft2(K_r conj(S_q))``: the conjugate of ``conj(K S*)`` spares a pass
        over the weights.
        """
        check_images(images, len(self.channels), self.matrix)
        batch = images.shape[:-3]
        grid = (self.matrix, self.matrix)
        split = images.to(self.device, self.dtype).reshape(-1, len(self.ranks), self.n_coils, *grid)
        passes = self._passes(images)
        totals = self._map(lambda share: self._maps(split, share, passes), passes)
        total = totals[0] if len(totals) == 1 else torch.stack(totals).sum(dim=0)
        return total.view(*batch, self.tissues, *grid)

    def _maps(self, split: torch.Tensor, share: Share, passes: Passes) -> torch.Tensor:
        """Return what some of the images ``(batch, image, coil, y, x)`` give to the maps."""
        images, ranks = share
        kspace = torch.fft.fft2(split[:, images], norm="ortho").flatten(-2)
        shape = (len(kspace), self.tissues, self.matrix**2)
        total = torch.zeros(shape, dtype=self.real_dtype, device=self.device)
        grid = (self.matrix, self.matrix)
        for block in self._blocks(ranks, shape[0]):
            mine = self._image[block] - images.start
            filtered = passes.spread(kspace, self._kspace[block], mine)
            field = self._collected(torch.fft.fft2(filtered.view(*filtered.shape[:-1], *grid)))
            passes.backproject(field, self._object[block], total)
        return total

    def _map(self, work: Callable[[Share], torch.Tensor], passes: Passes) -> list[torch.Tensor]:
        """Return the work of every share.

        Side by side, unless autograd records or torch has threads of its own.
        """
        if len(self._shares) == 1 or not passes.compiled or torch.get_num_threads() > 1:
            return [work(share) for share in self._shares]

        def alone(share: Share) -> torch.Tensor:
            with torch.no_grad():  # a thread of its own has its own setting
                return work(share)

        return list(_pool(len(self._shares)).map(alone, self._shares))

    def normal_blocks(self) -> torch.Tensor:
        """Return the 3x3 blocks of ``Re A^H A`` per voxel, ``(tissue, tissue, y, x)``.

        ``H_tu = Re sum_{c,r,s} conj(W_cr[t]) G_c[r,s] W_cs[u] sum_q |C_q|^2`` with
        ``G_c[r,s] = sum_k conj(K_r) K_s``.
        """
        size = self.matrix**2
        blocks = torch.zeros(
            (self.tissues, self.tissues, size), dtype=self.real_dtype, device=self.device
        )
        for image in range(len(self.ranks)):
            mine = self._image == image
            flat = self._kspace[mine]
            gram = flat.conj() @ flat.T
            objects = self._object[mine]
            weights = torch.view_as_complex(objects.view(*objects.shape[:2], size, 2))
            other = torch.einsum("rs,suv->ruv", gram, weights)
            for t in range(self.tissues):
                blocks[t] += (weights[:, t, None].conj() * other).real.sum(dim=0)
        if self._coils is not None:
            blocks *= self._coils.abs().square().sum(dim=0).flatten()
        return blocks.view(self.tissues, self.tissues, self.matrix, self.matrix)

    def own_responses(self) -> torch.Tensor:
        """Return what each pixel shows of its own fractions, ``(tissue, channel, y, x)``.

        The diagonal of the operator, ``C_q sum_r W_r`` times the sum of ``K_r`` over k-space.
        """
        size = self.matrix**2
        shares = self._kspace.mean(dim=1) * self.matrix
        images = []
        for image in range(len(self.ranks)):
            mine = self._image == image
            objects = self._object[mine]
            weights = torch.view_as_complex(objects.view(*objects.shape[:2], size, 2))
            images.append(torch.einsum("r,rtv->tv", shares[mine], weights))
        responses = torch.stack(images, dim=1)[:, :, None]
        if self._coils is not None:
            responses = responses * self._coils.flatten(1)
        return responses.reshape(self.tissues, -1, self.matrix, self.matrix)

    def _passes(self, argument: torch.Tensor) -> Passes:
        """Fused loops on a CPU; torch on other devices and where autograd records."""
        if self.device.type != "cpu" or (argument.requires_grad and torch.is_grad_enabled()):
            return Passes()
        from bmapest_ray.simulate.fused import FusedPasses  # numba loads in half a second

        return FusedPasses()

    def _blocks(self, ranks: slice, batch: int) -> Iterator[slice]:
        """Yield ranks treated at once: in the budget, and small enough for the cache."""
        per_rank = batch * self.n_coils * self.matrix**2 * 3 * self._kspace.element_size()
        budget = min(self.memory_budget_gb * 2**30, _CACHED_BYTES)
        most = max(1, int(budget / per_rank))
        for start in range(ranks.start, ranks.stop, most):
            yield slice(start, min(start + most, ranks.stop))

    def _spectra(self, weighted: torch.Tensor) -> torch.Tensor:
        """Return ``fft2(C_q W_r p)``, ``(batch, rank, coil, k)``."""
        shape = (*weighted.shape[:2], 1, self.matrix, self.matrix, 2)
        field = torch.view_as_complex(weighted.view(shape))
        if self._coils is not None:
            field = field * self._coils
        spectra: torch.Tensor = torch.fft.fft2(field).flatten(-2)
        return spectra

    def _collected(self, field: torch.Tensor) -> torch.Tensor:
        """Sum ``C_q g_q`` over the coils, as real pairs ``(batch, rank, 2 v)``."""
        if self._coils is not None:
            field = (field * self._coils).sum(dim=2)
        return torch.view_as_real(field.reshape(*field.shape[:2], self.matrix**2)).flatten(2)


def _shares(ranks: tuple[int, ...], workers: int) -> tuple[Share, ...]:
    """Cut the images into runs of about as many ranks each."""
    ends = torch.tensor(ranks).cumsum(0)
    cuts = [0]
    for number in range(1, min(workers, len(ranks)) + 1):
        wanted = float(ends[-1]) * number / workers
        nearest = int((ends - wanted).abs().argmin()) + 1
        if nearest > cuts[-1]:
            cuts.append(nearest)
    cuts[-1] = len(ranks)
    starts = [0, *ends.tolist()]
    return tuple((slice(a, b), slice(starts[a], starts[b])) for a, b in itertools.pairwise(cuts))


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)
