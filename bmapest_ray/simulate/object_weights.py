"""Object weights ``W = dual^H A`` of all voxels without forming ``A``.

A voxel's factors depend on it through B0, B1 and, for shifted states, its place. Precession is an
entire function of B0, so the sum over hearings is made at a few Chebyshev points in B0 beside those
in B1. A voxel then costs one small matrix product per *bucket*: hearings of one offset, like tau.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.simulate.nodes import barycentric_matrix, chebyshev_points, nodes_needed
from bmapest_ray.simulate.rows import ImageRows, RowGroup

_BLOCK_VOXELS = 4096
_MOST_NODES = 96
_TURNS = 1.0
"""Precession between the ends of B0 that a bucket's spread of tau may add, in turns."""


@dataclass(frozen=True)
class ObjectFields:
    """What the weights of a voxel depend on.

    Parameters
    ----------
    b0_hz
        Shape ``(voxel,)``, float64.
    b1_weights
        Of the nodes at which amplitudes are known. Shape ``(b1, voxel)``, float64.
    positions_m
        Shape ``(voxel, 2)``.
    """

    b0_hz: torch.Tensor
    b1_weights: torch.Tensor
    positions_m: torch.Tensor


@dataclass(frozen=True)
class _Bucket:
    """Hearings with one offset and like tau: ``coefficients @ (B0 x B1 basis)``, then a phase."""

    group: RowGroup
    centre_s: float
    nodes: int
    coefficients: torch.Tensor

    def phase(self, fields: ObjectFields, voxels: slice) -> torch.Tensor:
        """Return precession at the centre and shift, ``(voxel,)``, complex128."""
        angle = -2 * torch.pi * self.centre_s * fields.b0_hz[voxels]
        turned = torch.polar(torch.ones_like(angle), angle)
        if self.group.offset_x or self.group.offset_y:
            turned = turned * self.group.shift(fields.positions_m[voxels])
        return turned


def object_weights(
    rows: ImageRows,
    dual: torch.Tensor,
    amplitudes: torch.Tensor,
    fading: Callable[[RowGroup], torch.Tensor],
    fields: ObjectFields,
    *,
    tolerance: float,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return ``dual^H A``.

    Parameters
    ----------
    rows
        Rows of ``A``.
    dual
        Shape ``(row, rank)``, complex128.
    amplitudes
        Of hearings at the nodes in B1, ``(hearing, tissue, b1)``, complex128.
    fading
        Decay and density of a group at its time nodes, ``(node, tissue)``.
    fields
        The object.
    tolerance
        Of the interpolation in B0.
    dtype
        Of the result.

    Returns
    -------
    Tensor
        Shape ``(rank, tissue, voxel)``.
    """
    low, high = float(fields.b0_hz.min()), float(fields.b0_hz.max())
    real = torch.zeros((), dtype=dtype).real.dtype
    rank, tissues, count = dual.shape[1], amplitudes.shape[1], len(fields.b0_hz)

    def summed(number: int) -> torch.Tensor:
        group, span = rows.groups[number], rows.spans[number]
        part = dual[span].view(-1, len(group.profile.nodes.time_s), rank).conj()
        total = torch.einsum("hlr,htb->rtlb", part, amplitudes[group.hearings])
        return total * fading(group).T[:, :, None]

    buckets = [
        _bucket([rows.groups[n] for n in members], [summed(n) for n in members], low, high,
                tolerance, real)
        for members in _members(rows.groups, high - low)
    ]  # fmt: skip
    weights = torch.empty((rank * tissues, count), dtype=dtype)
    for start in range(0, count, _BLOCK_VOXELS):
        voxels = slice(start, min(start + _BLOCK_VOXELS, count))
        weights[:, voxels] = _block(buckets, fields, voxels, (low, high), real).to(dtype)
    return weights.view(rank, tissues, count)


def _members(groups: tuple[RowGroup, ...], spread_hz: float) -> Iterator[list[int]]:
    """Yield the groups of each bucket."""
    width_s = _TURNS / spread_hz if spread_hz > 0 else np.inf
    found: dict[tuple[float, float, int], list[int]] = {}
    for number, group in enumerate(groups):
        times = group.profile.tau_s + group.profile.nodes.time_s
        key = (group.offset_x, group.offset_y, int(np.floor(times.mean() / width_s)))
        found.setdefault(key, []).append(number)
    yield from found.values()


def _bucket(
    groups: list[RowGroup],
    summed: list[torch.Tensor],
    low_hz: float,
    high_hz: float,
    tolerance: float,
    real: torch.dtype,
) -> _Bucket:
    times = [group.profile.tau_s + group.profile.nodes.time_s for group in groups]
    first, last = min(t.min() for t in times), max(t.max() for t in times)
    centre = float(first + last) / 2
    rate = np.pi * float(last - first)
    nodes = nodes_needed(rate, high_hz - low_hz, tolerance, _MOST_NODES)
    b0_hz = chebyshev_points(low_hz, high_hz, nodes)
    rank, tissues, _, b1 = summed[0].shape
    total = torch.zeros((rank, tissues, nodes, b1), dtype=torch.complex128)
    for time, part in zip(times, summed, strict=True):
        turning = torch.from_numpy(np.exp(-2j * np.pi * np.outer(time - centre, b0_hz)))
        total += torch.einsum("rtlb,lm->rtmb", part, turning)
    flat = total.view(rank * tissues, -1)
    return _Bucket(groups[0], centre, nodes, torch.cat([flat.real, flat.imag]).to(real))


def _block(
    buckets: list[_Bucket],
    fields: ObjectFields,
    voxels: slice,
    b0_range_hz: tuple[float, float],
    real: torch.dtype,
) -> torch.Tensor:
    """Return the weights of some voxels, ``(rank * tissue, voxel)``."""
    b0_hz = fields.b0_hz[voxels].numpy()
    b1_weights = fields.b1_weights[:, voxels]
    bases: dict[int, torch.Tensor] = {}
    total = torch.zeros((), dtype=torch.complex128)
    for bucket in buckets:
        if bucket.nodes not in bases:
            points = chebyshev_points(*b0_range_hz, bucket.nodes)
            b0_weights = torch.from_numpy(barycentric_matrix(points, b0_hz))
            bases[bucket.nodes] = (b0_weights[:, None] * b1_weights).flatten(0, 1).to(real)
        parts = (bucket.coefficients @ bases[bucket.nodes]).unflatten(0, (2, -1))  # type: ignore[no-untyped-call]
        total = total + torch.complex(parts[0], parts[1]) * bucket.phase(fields, voxels)
    return total
