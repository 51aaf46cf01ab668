"""The low-rank engine's passes over its weights on a CPU, each one loop instead of several.

Such a pass is bound by memory: torch reads and writes a temporary array per operation, these loops
keep a stretch of it in the first-level cache. Compiled by numba on first use and kept on disk.
Arrays are real pairs ``(..., 2 v)`` where a real factor meets a complex one.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch

from bmapest_ray.simulate.passes import Passes

_STRETCH = 512
Array = np.ndarray[Any, Any]
_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})


@_compiled
def _weigh(fractions: Array, weights: Array, out: Array) -> None:
    batch, tissues, size = fractions.shape
    for r in range(len(weights)):
        for start in range(0, size, _STRETCH):
            end = min(start + _STRETCH, size)
            for b in range(batch):  # inside: the weights of a stretch are read once for all
                o, w = out[b, r, 2 * start : 2 * end], weights[r, 0, 2 * start : 2 * end]
                p = fractions[b, 0, start:end]
                for v in range(end - start):
                    o[2 * v] = w[2 * v] * p[v]
                    o[2 * v + 1] = w[2 * v + 1] * p[v]
                for t in range(1, tissues):
                    w, p = weights[r, t, 2 * start : 2 * end], fractions[b, t, start:end]
                    for v in range(end - start):
                        o[2 * v] += w[2 * v] * p[v]
                        o[2 * v + 1] += w[2 * v + 1] * p[v]


@_compiled
def _collect(spectra: Array, filters: Array, image: Array, total: Array) -> None:
    batch, ranks, coils, size = spectra.shape
    for b in range(batch):
        for q in range(coils):
            for start in range(0, size, _STRETCH):
                end = min(start + _STRETCH, size)
                for r in range(ranks):
                    o = total[b, image[r], q, start:end]
                    k, g = filters[r, start:end], spectra[b, r, q, start:end]
                    for v in range(end - start):
                        o[v] += k[v] * g[v]


@_compiled
def _spread(kspace: Array, filters: Array, image: Array, out: Array) -> None:
    batch, ranks, coils, size = out.shape
    for b in range(batch):
        for r in range(ranks):
            for q in range(coils):
                k, s, o = filters[r], kspace[b, image[r], q], out[b, r, q]
                for v in range(size):
                    o[v] = k[v] * s[v].conjugate()


@_compiled
def _backproject(pairs: Array, weights: Array, total: Array) -> None:
    batch, tissues, size = total.shape
    for start in range(0, size, _STRETCH):
        end = min(start + _STRETCH, size)
        for r in range(len(weights)):
            for b in range(batch):
                g = pairs[b, r, 2 * start : 2 * end]
                for t in range(tissues):
                    w, o = weights[r, t, 2 * start : 2 * end], total[b, t, start:end]
                    for v in range(end - start):
                        o[v] += w[2 * v] * g[2 * v] - w[2 * v + 1] * g[2 * v + 1]


class FusedPasses(Passes):
    """The passes compiled for one core."""

    compiled = True

    def weigh(self, fractions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:  # noqa: D102
        out = torch.empty(len(fractions), len(weights), weights.shape[-1], dtype=weights.dtype)
        _weigh(fractions.numpy(), weights.numpy(), out.numpy())
        return out

    def collect(  # noqa: D102
        self, spectra: torch.Tensor, filters: torch.Tensor, image: torch.Tensor, total: torch.Tensor
    ) -> None:
        _collect(spectra.numpy(), filters.numpy(), image.numpy(), total.numpy())

    def spread(  # noqa: D102
        self, kspace: torch.Tensor, filters: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        out = torch.empty(len(kspace), len(filters), *kspace.shape[2:], dtype=filters.dtype)
        _spread(kspace.numpy(), filters.numpy(), image.numpy(), out.numpy())
        return out

    def backproject(  # noqa: D102
        self, pairs: torch.Tensor, weights: torch.Tensor, total: torch.Tensor
    ) -> None:
        _backproject(pairs.numpy(), weights.numpy(), total.numpy())
