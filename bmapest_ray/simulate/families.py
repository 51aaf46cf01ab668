"""Encoding where diffusion differs from line to line: interpolation in b beside that in time.

With diffusion as strong as BMapEst plays it (D x 100 000) every line attenuates the voxels in its
own way over a readout, so `encode.Encoder` finds no two lines alike. Here a *family* is all
hearings that share time nodes, tau and trace, whatever their b, and
``exp(-D (b_h(t) - b_centre))`` is interpolated between a few Chebyshev points in b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encode import Encoder, Group
from bmapest_ray.simulate.hearing import Hearings, Profile
from bmapest_ray.simulate.nodes import barycentric_matrix, chebyshev_points, nodes_needed
from bmapest_ray.simulate.plan import Floats, Ints


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
        real = torch.zeros((), dtype=dtype).real.dtype
        self._weights = [torch.as_tensor(family.weights).to(device, dtype) for family in families]
        self._members = [torch.as_tensor(family.hearings, device=device) for family in families]
        self._points = [torch.as_tensor(family.b_s_per_m2).to(device, real) for family in families]

    def encode_families(
        self,
        amplitude_of: Callable[[torch.Tensor], torch.Tensor],
        factors: Sequence[torch.Tensor],
        weight: torch.Tensor,
        diffusivity: torch.Tensor,
        box: tuple[slice, slice],
    ) -> torch.Tensor:
        """Return k-space of the voxels in a box ``(columns, rows)``.

        Parameters
        ----------
        amplitude_of
            Amplitudes of hearings, ``(hearing, x, y)``.
        factors
            Voxel factor of each family at its nodes without diffusion, ``(node, x, y)``.
        weight
            What multiplies the factor, ``(coil, x, y)``.
        diffusivity
            Shape ``(x, y)``.

        Returns
        -------
        Tensor
            Shape ``(coil, image, ky, kx)``, complex.
        """
        matrix, coils = self.table.matrix, len(weight)
        kspace = weight.new_zeros((coils, self.n_images * matrix * matrix), dtype=self.dtype)
        for number, (family, factor) in enumerate(zip(self.families, factors, strict=True)):
            faded = torch.exp(-self._points[number][:, None, None] * diffusivity)
            scaled = (weight * self.voxel_weight)[:, None] * factor
            right = (scaled[:, :, None] * faded).flatten(0, 2).permute(1, 2, 0)
            waves = self._ky[self._members[number]][:, None, box[1]]
            left = (amplitude_of(self._members[number]) * waves).transpose(0, 1)
            values = self._samples(torch.bmm(left, right), number, box[0], coils)
            readout = torch.as_tensor(self.hearings.readout[family.hearings], device=self.device)
            target = self._rows[readout][:, : values.shape[-1]]
            kspace = kspace.index_add(1, target.flatten(), values.flatten(1))
        counted = kspace / self._counts.clamp(min=1)
        return counted.view(coils, self.n_images, matrix, matrix)

    def _samples(
        self, contracted: torch.Tensor, number: int, columns: slice, coils: int
    ) -> torch.Tensor:
        """Return the samples ``(coil, hearing, sample)`` of what is summed over y."""
        n_x, n_hearings, _ = contracted.shape
        weights, family = self._weights[number], self.families[number]
        nodes, points = weights.shape[1:]
        spread = contracted.view(n_x, n_hearings, coils, nodes, points)
        lines = (spread * weights[None, :, None]).sum(-1)
        members = slice(0, n_hearings)
        group = Group(members, family.profile, self.hearings.traces[family.trace])
        readout = self._readout(group, self.grid.axis_m()[columns])
        flat = lines.permute(2, 1, 0, 3).reshape(coils * n_hearings, n_x * nodes)
        return (flat @ readout.reshape(n_x * nodes, -1)).view(coils, n_hearings, -1)
