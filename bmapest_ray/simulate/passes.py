"""The low-rank engine's passes over its weights: in torch, on any device and differentiable."""

from __future__ import annotations

import torch

_LARGE = 2 * 128**2
"""From here on a pass per rank costs less than a temporary array of all ranks."""


class Passes:
    """Sums over tissues and ranks; ``pairs`` are real and imaginary part, ``(..., 2 v)``."""

    compiled = False
    """Whether the sums are loops that autograd does not see."""

    def weigh(self, fractions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return ``sum_t W_rt p_t``, ``(batch, rank, 2 v)``.

        ``fractions`` is ``(batch, tissue, v)``, ``weights`` ``(rank, tissue, 2 v)``.
        """
        pairs = fractions.repeat_interleave(2, dim=-1)
        weighted = pairs[:, None, 0] * weights[:, 0]
        for tissue in range(1, weights.shape[1]):
            weighted = weighted.addcmul(pairs[:, None, tissue], weights[:, tissue])
        return weighted

    def collect(
        self, spectra: torch.Tensor, filters: torch.Tensor, image: torch.Tensor, total: torch.Tensor
    ) -> None:
        """Add ``K_r G_r`` to its image in ``total`` ``(batch, image, coil, k)``.

        ``spectra`` is ``(batch, rank, coil, k)``, ``filters`` ``(rank, k)``, ``image`` ``(rank,)``.
        """
        total.index_add_(1, image, spectra * filters[:, None])

    def spread(
        self, kspace: torch.Tensor, filters: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Return ``K_r conj(S)`` of each rank's image, ``(batch, rank, coil, k)``."""
        return kspace.conj()[:, image] * filters[:, None]

    def backproject(self, pairs: torch.Tensor, weights: torch.Tensor, total: torch.Tensor) -> None:
        """Add ``Re sum_r W_rt g_r`` to ``total`` ``(batch, tissue, v)``.

        ``pairs`` is ``(batch, rank, 2 v)``, ``weights`` ``(rank, tissue, 2 v)``.
        """
        if pairs.shape[-1] < _LARGE:
            products = (pairs[:, :, None] * weights).sum(dim=1)
        else:
            products = pairs[:, 0, None] * weights[0]
            for place in range(1, len(weights)):
                products = products.addcmul(pairs[:, place, None], weights[place])
        total += products[..., 0::2] - products[..., 1::2]
