"""Gradient encoding of one chain, separable in x and y, with a few time nodes per readout.

For each group of hearings with one profile the voxel factor is evaluated at its nodes; a line is
contracted over y with its own ``exp(-2 pi i ky y)`` and over x with ``exp(-2 pi i kx x)``.
Voxels are held x-major, ``(x, y)``, so that the contraction over y is a batched matrix product.
Everything is plain torch and differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.hearing import Hearings, Profile, Trace, sample_index

AmplitudeOf = Callable[[slice], torch.Tensor]
FactorOf = Callable[[Profile], torch.Tensor]


@dataclass(frozen=True)
class Group:
    """Consecutive hearings of one image, profile and trace."""

    hearings: slice
    profile: Profile
    trace: Trace


class Encoder:
    """Encodes the hearings of a chain on some columns of a voxel grid.

    Parameters
    ----------
    table, hearings
        The chain.
    grid
        Voxels.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    """

    def __init__(
        self,
        table: EventTable,
        hearings: Hearings,
        grid: VoxelGrid,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        if not table.on_grid:
            msg = (
                "the exact engine encodes Cartesian readouts, got one off the grid (radial, "
                "spiral); simulate compartments on the grid of the acquisition, which the lowrank "
                "engine does"
            )
            raise InvalidInput(msg)
        self.table = table
        self.hearings = hearings
        self.grid = grid
        self.dtype = dtype
        self.device = device
        self.groups = tuple(_groups(hearings))
        axis = grid.axis_m()
        self._ky = self._waves(hearings.ky_per_m, axis)
        # signal per voxel of the acquisition matrix: finer voxels are smaller
        self.voxel_weight = (table.matrix / grid.matrix) ** 2
        self._rows, self._counts = self._targets()

    @property
    def n_images(self) -> int:
        """Images of this chain."""
        return len(self.table.images)

    def _waves(self, k_per_m: object, axis: torch.Tensor) -> torch.Tensor:
        phase = -2 * torch.pi * torch.as_tensor(k_per_m)[:, None] * axis
        return torch.polar(torch.ones_like(phase), phase).to(self.device, self.dtype)

    def _targets(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the flat k-space index of every sample and how often each is hit."""
        matrix = self.table.matrix
        rows = np.zeros((len(self.table.readouts), matrix), dtype=np.int64)
        counts = np.zeros(self.n_images * matrix * matrix)
        for number, readout in enumerate(self.table.readouts):
            index = sample_index(self.table, number)
            flat = (readout.image * matrix + readout.line) * matrix + index
            rows[number, : len(flat)] = flat
            np.add.at(counts, flat, 1)
        return (
            torch.as_tensor(rows, device=self.device),
            torch.as_tensor(counts, dtype=torch.float32, device=self.device),
        )

    def sampled(self) -> torch.Tensor:
        """Return which k-space points are acquired, shape ``(image, ky, kx)``, bool."""
        matrix = self.table.matrix
        return self._counts.view(self.n_images, matrix, matrix) > 0

    def encode(
        self,
        amplitude_of: AmplitudeOf,
        factor_of: FactorOf,
        weight: torch.Tensor,
        columns: slice,
        *,
        chunk: int,
    ) -> torch.Tensor:
        """Return k-space of the voxels in some columns.

        Parameters
        ----------
        amplitude_of
            Amplitudes of a slice of hearings, ``(hearing, part, x, y)``.
        factor_of
            Voxel factor of a profile at its nodes, ``(node, part, x, y)``.
        weight
            What multiplies the factor, ``(batch, part, x, y)``: proton density, fraction, coil.
        columns
            Columns x of the grid that the other arguments hold.
        chunk
            Most hearings treated at once.

        Returns
        -------
        Tensor
            Shape ``(batch, image, ky, kx)``, complex.
        """
        batch, matrix = weight.shape[0], self.table.matrix
        axis = self.grid.axis_m()[columns]
        kspace = weight.new_zeros((batch, self.n_images * matrix * matrix), dtype=self.dtype)
        for group in self.groups:
            right = _voxel_side(factor_of(group.profile), weight * self.voxel_weight)
            readout = self._readout(group, axis)
            for piece in _pieces(group.hearings, chunk):
                values = self._lines(amplitude_of(piece), piece, right, readout, batch)
                target = self._rows[self.hearings.readout[piece]][:, : values.shape[-1]]
                kspace = kspace.index_add(1, target.flatten(), values.flatten(1))
        counted = kspace / self._counts.clamp(min=1)
        return counted.view(batch, self.n_images, matrix, matrix)

    def encode_adjoint(
        self,
        amplitude_of: AmplitudeOf,
        factor_of: FactorOf,
        kspace: torch.Tensor,
        columns: slice,
        *,
        chunk: int,
    ) -> torch.Tensor:
        """Apply the adjoint of `encode`, a linear map of the weight, a chunk of hearings at a time.

        Takes k-space ``(batch, image, ky, kx)``, returns ``(batch, part, x, y)``, complex.
        """
        axis = self.grid.axis_m()[columns]
        flat = (kspace / self._counts.clamp(min=1).view(kspace.shape[1:])).flatten(1)
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        for group in self.groups:
            readout = self._readout(group, axis)
            back = readout.flatten(0, 1).conj().T
            heard = torch.zeros((), dtype=self.dtype, device=self.device)
            for piece in _pieces(group.hearings, chunk):
                target = self._rows[self.hearings.readout[piece]][:, : readout.shape[-1]]
                samples = flat[:, target.flatten()].view(-1, readout.shape[-1])
                nodes = (samples @ back).view(len(flat), len(target), *readout.shape[:2])
                arranged = nodes.permute(2, 1, 0, 3).flatten(2)  # (x, hearing, batch * node)
                left = self._voxel_lines(amplitude_of(piece), piece)
                heard = heard + torch.bmm(left.mH, arranged)  # (x, part * y, batch * node)
            factor = factor_of(group.profile)
            n_nodes, parts, n_x, n_y = factor.shape
            split = heard.view(n_x, parts, n_y, len(flat), n_nodes)
            total = total + torch.einsum("nvxy,xvybn->bvxy", factor.conj(), split)
        return total * self.voxel_weight

    def grid_signal(self, signal: torch.Tensor) -> torch.Tensor:
        """Sort samples in the order of acquisition, ``(batch, sample)``, into k-space."""
        matrix = self.table.matrix
        target = torch.cat([self._rows[i, : r.samples] for i, r in enumerate(self.table.readouts)])
        kspace = signal.new_zeros((signal.shape[0], self.n_images * matrix * matrix))
        kspace = kspace.index_add(1, target, signal) / self._counts.clamp(min=1)
        return kspace.view(-1, self.n_images, matrix, matrix)

    def _readout(self, group: Group, axis: torch.Tensor) -> torch.Tensor:
        """Return ``window_j b_l(j) exp(-2 pi i kx_j x)``, shape ``(x, node, sample)``."""
        waves = self._waves(group.trace.kx_per_m * 1.0, axis)
        weights = torch.as_tensor(group.profile.nodes.weights * group.trace.window)
        return waves.T[:, None, :] * weights.to(self.device, self.dtype)[None]

    def _lines(
        self,
        amplitude: torch.Tensor,
        piece: slice,
        right: torch.Tensor,
        readout: torch.Tensor,
        batch: int,
    ) -> torch.Tensor:
        """Return the samples of a few hearings, shape ``(batch, hearing, sample)``."""
        left = self._voxel_lines(amplitude, piece)
        n_x, n_hearings, _ = left.shape
        contracted = torch.bmm(left, right)  # (x, hearing, batch * node)
        nodes = readout.shape[1]
        arranged = contracted.view(n_x, n_hearings, batch, nodes).permute(2, 1, 0, 3)
        flat = arranged.reshape(batch * n_hearings, n_x * nodes)
        return (flat @ readout.reshape(n_x * nodes, -1)).view(batch, n_hearings, -1)

    def _voxel_lines(self, amplitude: torch.Tensor, piece: slice) -> torch.Tensor:
        """Return amplitudes with their phases along y, ``(x, hearing, part * y)``."""
        lines = amplitude * self._ky[piece][:, None, None, :]
        n_hearings, parts, n_x, n_y = lines.shape
        return lines.permute(2, 0, 1, 3).reshape(n_x, n_hearings, parts * n_y)


def _voxel_side(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return factor times weight as ``(x, part * y, batch * node)``."""
    product = weight[:, None] * factor[None]  # (batch, node, part, x, y)
    batch, nodes, parts, n_x, n_y = product.shape
    return product.permute(3, 2, 4, 0, 1).reshape(n_x, parts * n_y, batch * nodes)


def _groups(hearings: Hearings) -> Iterator[Group]:
    keys = np.column_stack([hearings.image, hearings.profile, hearings.trace])
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1) != 0, axis=1))
    for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True):
        yield Group(
            hearings=slice(int(start), int(stop)),
            profile=hearings.profiles[hearings.profile[start]],
            trace=hearings.traces[hearings.trace[start]],
        )


def _pieces(hearings: slice, chunk: int) -> Iterator[slice]:
    for start in range(hearings.start, hearings.stop, chunk):
        yield slice(start, min(start + chunk, hearings.stop))
