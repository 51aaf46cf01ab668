"""Encoding where diffusion differs from line to line: interpolation in b beside that in time.

With diffusion as strong as BMapEst plays it (D x 100 000) every line attenuates the voxels in its
own way over a readout, so `encode.Encoder` finds no two lines alike. Here a *family* is all
hearings that share time nodes, tau and trace, whatever their b, and
``exp(-D (b_h(t) - b_centre))`` is interpolated between a few Chebyshev points in b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encode import Encoder, Group
from bmapest_ray.simulate.hearing import Hearings, Profile
from bmapest_ray.simulate.nodes import barycentric_matrix, chebyshev_points, nodes_needed
from bmapest_ray.simulate.plan import Floats, Ints

Box = tuple[slice, slice]
"""Columns and rows of voxels."""


@dataclass(frozen=True)
class Family:
    """Hearings that share time nodes, tau and trace.

    Parameters
    ----------
    hearings
        Their indices. Shape ``(hearing,)``.
    profile
        One of their profiles; its b does not count.
    trace
        Index of their trace.
    b_s_per_m2
        Points in b. Shape ``(b,)``.
    weights
        Lagrange weights of the points at each hearing's b. Shape ``(hearing, node, b)``.
    """

    hearings: Ints
    profile: Profile
    trace: int
    b_s_per_m2: Floats
    weights: Floats


def find_families(
    hearings: Hearings, max_diffusivity_m2_per_s: float, tolerance: float
) -> tuple[Family, ...]:
    """Sort the hearings of a chain into families."""
    numbers: dict[tuple[bytes, float, int], list[int]] = {}
    for hearing, (profile, trace) in enumerate(zip(hearings.profile, hearings.trace, strict=True)):
        nodes = hearings.profiles[profile]
        key = (np.round(nodes.nodes.time_s, 10).tobytes(), round(nodes.tau_s, 9), int(trace))
        numbers.setdefault(key, []).append(hearing)
    return tuple(
        _family(hearings, np.array(members), key[2], max_diffusivity_m2_per_s, tolerance)
        for key, members in numbers.items()
    )


def _family(
    hearings: Hearings, members: Ints, trace: int, max_diffusivity: float, tolerance: float
) -> Family:
    profiles = [hearings.profiles[hearings.profile[member]] for member in members]
    b = np.array([profile.attenuation_s_per_m2 for profile in profiles])
    count = nodes_needed(max_diffusivity, float(np.ptp(b)), tolerance)
    points = chebyshev_points(float(b.min()), float(b.max()), count)
    weights = barycentric_matrix(points, b.flatten()).T.reshape(*b.shape, count)
    return Family(members, profiles[0], trace, points, weights)


class FamilyEncoder(Encoder):
    """Encodes a chain family by family, on a rectangle of voxels.

    Parameters
    ----------
    model
        The chain.
    dtype, device
        As for `Encoder`.
    families
        All hearings of the chain.
    """

    def __init__(
        self,
        model: ChainModel,
        dtype: torch.dtype,
        device: torch.device,
        families: tuple[Family, ...],
    ) -> None:
        super().__init__(model.table, model.hearings, model.grid, dtype, device)
        self.families = families
        self._weights = [torch.as_tensor(family.weights).to(device, dtype) for family in families]
        self._members = [torch.as_tensor(family.hearings, device=device) for family in families]
        self._family_targets = [self._targets_of(family) for family in families]

    @property
    def waves_along_y(self) -> torch.Tensor:
        """``exp(-2 pi i ky y)`` of every hearing, ``(hearing, y)``."""
        return self._ky

    def encode_families(
        self, left: torch.Tensor, sides: Sequence[torch.Tensor], columns: slice
    ) -> torch.Tensor:
        """Return k-space of the voxels in a box.

        Parameters
        ----------
        left
            Amplitudes of all hearings with their waves along y, ``(hearing, x, y)``.
        sides
            Voxel factor of each family, ``(coil, node, b, x, y)``.
        columns
            Columns of the box.

        Returns
        -------
        Tensor
            Shape ``(coil, image, ky, kx)``, complex.
        """
        matrix, coils = self.table.matrix, len(sides[0])
        kspace = left.new_zeros((coils, self.n_images * matrix * matrix))
        for number, side in enumerate(sides):
            contracted = torch.bmm(self._of_family(left, number), _by_column(side))
            values = self._samples(contracted * self.voxel_weight, number, columns, coils)
            kspace = kspace.index_add(1, self._family_targets[number], values.flatten(1))
        counted = kspace / self._counts.clamp(min=1)
        return counted.view(coils, self.n_images, matrix, matrix)

    def families_adjoint(
        self,
        kspace: torch.Tensor,
        left: torch.Tensor,
        sides: Sequence[torch.Tensor],
        columns: slice,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Take k-space back to both arguments of `encode_families`, at the other's value.

        Returns
        -------
        tuple
            ``(hearing, x, y)``, and ``(coil, node, b, x, y)`` per family, complex.
        """
        flat = kspace.flatten(1) * (self.voxel_weight / self._counts.clamp(min=1))
        to_left, to_sides = torch.empty_like(left), []
        for number, side in enumerate(sides):
            back = self._lines_of(flat[:, self._family_targets[number]], number, columns)
            of_left = torch.bmm(back, _by_column(side).mH)
            if len(of_left[0]) == len(left):  # one family: then in order, and no copy
                to_left = of_left.transpose(0, 1)
            else:
                to_left[self._members[number]] = of_left.transpose(0, 1)
            of_side = torch.bmm(self._of_family(left, number).mH, back)
            to_sides.append(of_side.permute(2, 0, 1).reshape(side.shape))
        return to_left, to_sides

    def _of_family(self, left: torch.Tensor, number: int) -> torch.Tensor:
        """Return the members of a family, ``(x, hearing, y)``."""
        members = self._members[number]
        whole = len(members) == len(left)  # then in order
        return (left if whole else left[members]).transpose(0, 1)

    def _targets_of(self, family: Family) -> torch.Tensor:
        """Return where the samples of a family belong in flat k-space."""
        readout = torch.as_tensor(self.hearings.readout[family.hearings], device=self.device)
        samples = len(self.hearings.traces[family.trace].kx_per_m)
        return self._rows[readout][:, :samples].flatten()

    def _samples(
        self, contracted: torch.Tensor, number: int, columns: slice, coils: int
    ) -> torch.Tensor:
        """Return the samples ``(coil, hearing, sample)`` of what is summed over y."""
        n_x, n_hearings, _ = contracted.shape
        weights = self._weights[number]
        spread = contracted.view(n_x, n_hearings, coils, *weights.shape[1:])
        lines = (spread * weights[None, :, None]).sum(-1)
        flat = lines.permute(2, 1, 0, 3).reshape(coils * n_hearings, -1)
        return (flat @ self._along_x(number, columns)).view(coils, n_hearings, -1)

    def _lines_of(self, samples: torch.Tensor, number: int, columns: slice) -> torch.Tensor:
        """Apply the adjoint of `_samples`: ``(coil, ...)`` to ``(x, hearing, coil node b)``."""
        weights, coils = self._weights[number], len(samples)
        along_x = self._along_x(number, columns)
        flat = samples.reshape(coils * len(weights), -1) @ along_x.mH
        lines = flat.view(coils, len(weights), -1, weights.shape[1]).permute(2, 1, 0, 3)
        return (lines[..., None] * weights[None, :, None]).flatten(2)

    def _along_x(self, number: int, columns: slice) -> torch.Tensor:
        """Return the waves along x with the interpolation in time, ``(x node, sample)``."""
        family = self.families[number]
        group = Group(slice(0), family.profile, self.hearings.traces[family.trace])
        return self._readout(group, self.grid.axis_m()[columns]).flatten(0, 1)


def _by_column(side: torch.Tensor) -> torch.Tensor:
    """Return ``(coil, node, b, x, y)`` as ``(x, y, coil node b)``."""
    return side.flatten(0, 2).permute(1, 2, 0)
