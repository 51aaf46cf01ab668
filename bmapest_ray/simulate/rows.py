"""Rows of the voxel-factor matrix of one image: (hearing, time node), and their way to samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encode import Group

_NEGLIGIBLE = 1e-14
"""Squared singular values of an interpolation below this share of the largest are rounding."""


@dataclass(frozen=True)
class RowGroup(Group):
    """Hearings that also share the offset of k from its nominal place, in 1/m."""

    offset_x: float = 0.0
    offset_y: float = 0.0

    def shift(self, positions_m: torch.Tensor) -> torch.Tensor:
        """Return ``exp(-2 pi i (k - k_nominal) . x)`` at positions ``(voxel, 2)``, ``(voxel,)``."""
        x, y = positions_m.T
        phase = -2 * torch.pi * (self.offset_x * x + self.offset_y * y)
        return torch.polar(torch.ones_like(phase), phase)


@dataclass(frozen=True)
class ImageRows:
    """Rows of one image.

    Parameters
    ----------
    groups
        Hearings with one profile, trace and offset along y.
    spans
        Rows of each group.
    lines
        Readout number to its rows.
    """

    groups: tuple[RowGroup, ...]
    spans: tuple[slice, ...]
    lines: dict[int, torch.Tensor]

    @cached_property
    def _windows(self) -> list[torch.Tensor]:
        """Weights of every group from nodes to samples, ``(node, sample)``."""
        return [torch.from_numpy(g.profile.nodes.weights * g.trace.window) for g in self.groups]

    @cached_property
    def _row_group(self) -> torch.Tensor:
        sizes = torch.tensor([span.stop - span.start for span in self.spans])
        return torch.repeat_interleave(torch.arange(len(self.groups)), sizes)

    @cached_property
    def _row_node(self) -> torch.Tensor:
        parts = []
        for span, window in zip(self.spans, self._windows, strict=True):
            parts.append(torch.arange(span.stop - span.start) % len(window))
        return torch.cat(parts)

    @cached_property
    def _first_window(self) -> torch.Tensor:
        sizes = torch.tensor([0, *(len(window) for window in self._windows)])
        return sizes.cumsum(0)[:-1]

    @cached_property
    def _all_windows(self) -> torch.Tensor:
        return torch.cat(self._windows)

    def _interpolation(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``D`` of the rows of a readout, ``(sample, row)``, float64."""
        index = self._first_window[self._row_group[rows]] + self._row_node[rows]
        return self._all_windows[index].T

    @cached_property
    def _frames(self) -> dict[int, Frame]:
        """Frame of every readout; readouts with the same groups and nodes share one."""
        shared: dict[bytes, Frame] = {}
        frames = {}
        for readout, rows in self.lines.items():
            key = torch.stack([self._row_group[rows], self._row_node[rows]]).numpy().tobytes()
            if key not in shared:
                shared[key] = make_frame(self._interpolation(rows))
            frames[readout] = shared[key]
        return frames

    def scaled(self, columns: torch.Tensor) -> torch.Tensor:
        """Return ``R A``: rows whose inner products are those of the samples."""
        return torch.cat(
            [self._frames[line].root @ columns[rows] for line, rows in self.lines.items()]
        )

    def _blocks(self, basis: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        sizes = [len(self._frames[line].root) for line in self.lines]
        yield from zip(self.lines, torch.split(basis, sizes), strict=True)

    def dual(self, basis: torch.Tensor) -> torch.Tensor:
        """Return ``R^H basis`` per row, so that ``W = dual^H A``."""
        result = torch.zeros((len(self._row_group), basis.shape[1]), dtype=basis.dtype)
        for line, block in self._blocks(basis):
            result[self.lines[line]] = self._frames[line].root.T @ block
        return result

    def samples(self, basis: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the basis at the samples of every readout, ``(sample, rank)``."""
        return {line: self._frames[line].span @ block for line, block in self._blocks(basis)}


@dataclass(frozen=True)
class Frame:
    """``D = span @ root`` of one readout, complex128.

    The nodes of many states lie close together, so a few dimensions carry a readout.

    Parameters
    ----------
    span
        Orthonormal columns. Shape ``(sample, dimension)``.
    root
        Shape ``(dimension, row)``.
    """

    span: torch.Tensor
    root: torch.Tensor


def make_frame(interpolation: torch.Tensor) -> Frame:
    """Return the frame of ``D`` ``(sample, row)``, float64, exact to 1e-7 of its norm."""
    values, vectors = torch.linalg.eigh(interpolation @ interpolation.T)
    kept = values > _NEGLIGIBLE * values[-1]
    kept[-1] = True
    span = vectors[:, kept].to(torch.complex128)
    return Frame(span, span.T @ interpolation.to(torch.complex128))


def group_rows(model: ChainModel, image: int) -> ImageRows:
    """List the rows of one image, grouped so that a group shares profile, trace and offset."""
    hearings = model.hearings
    fov_m = model.table.fov_m
    mine = np.flatnonzero(hearings.image == image)
    offset = np.round((hearings.ky_per_m - hearings.nominal_ky_per_m) * fov_m * 1e4)
    keys = np.column_stack([hearings.profile, hearings.trace, offset])[mine]
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1e30) != 0, axis=1))
    groups, spans, first_row = [], [], 0
    lines: dict[int, list[torch.Tensor]] = {}
    for start, stop in zip(starts, [*starts[1:], len(mine)], strict=True):
        hearing = mine[start]
        trace = hearings.traces[hearings.trace[hearing]]
        offset_y = hearings.ky_per_m[hearing] - hearings.nominal_ky_per_m[hearing]
        group = RowGroup(
            hearings=slice(int(hearing), int(mine[stop - 1]) + 1),
            profile=hearings.profiles[hearings.profile[hearing]],
            trace=trace,
            offset_x=_settled(trace.kx_per_m[0] - trace.nominal_kx_per_m[0], fov_m),
            offset_y=_settled(offset_y, fov_m),
        )
        nodes = len(group.profile.nodes.time_s)
        count = int(stop - start)
        for place, number in enumerate(hearings.readout[group.hearings]):
            rows = torch.arange(first_row + place * nodes, first_row + (place + 1) * nodes)
            lines.setdefault(int(number), []).append(rows)
        groups.append(group)
        spans.append(slice(first_row, first_row + count * nodes))
        first_row += count * nodes
    return ImageRows(
        groups=tuple(groups),
        spans=tuple(spans),
        lines={number: torch.cat(rows) for number, rows in sorted(lines.items())},
    )


def _settled(offset_per_m: float, fov_m: float) -> float:
    """Return the offset, or zero where it is rounding only."""
    return 0.0 if abs(offset_per_m * fov_m) < 1e-6 else float(offset_per_m)


def half_sample(positions_m: torch.Tensor, fov_m: float) -> torch.Tensor:
    """Return ``exp(-i pi x / FOV)`` at positions ``(voxel, 2)``: samples lie half a step off."""
    phase = -torch.pi / fov_m * positions_m[:, 0]
    return torch.polar(torch.ones_like(phase), phase)
