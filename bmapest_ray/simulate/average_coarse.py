"""The average engine for coarse graphs: one simulation serves a gradient step.

For fits by many gradient steps on a graph of a few hundred states, as BMapEst makes them: signals
are encoded family by family, empty columns and rows are left out, and the simulation of `forward`
is kept for the `vjp` at the same fractions.
"""

from __future__ import annotations

from typing import Any

import torch

from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.exact import check_fractions, check_images
from bmapest_ray.simulate.families import Family, FamilyEncoder, find_families
from bmapest_ray.simulate.propagate import SpinParameters
from bmapest_ray.simulate.reconstruct import images_of
from bmapest_ray.simulate.voxels import precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.properties import mixed_properties
from bmapest_ray.tissue.table import TissueTable

_TOLERANCE = 1e-5
"""Of the interpolation in b."""

Box = tuple[slice, slice]


class CoarseAverageOperator(AverageOperator):
    """An `AverageOperator` that keeps its last simulation; same arguments."""

    def __init__(
        self,
        models: tuple[ChainModel, ...],
        table: TissueTable,
        fields: Fields,
        **options: Any,  # noqa: ANN401 - those of AverageOperator
    ) -> None:
        super().__init__(models, table, fields, **options)
        diffusivity = max(table.diffusivity_m2_per_s)
        self._family_encoders = [
            FamilyEncoder(
                m, self.dtype, self.device, find_families(m.hearings, diffusivity, _TOLERANCE)
            )
            for m in models
        ]
        self._turns = [
            [self._turn(family) for family in encoder.families] for encoder in self._family_encoders
        ]
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``; one set is kept."""
        check_fractions(fractions, self.tissues, self.matrix)
        if fractions[..., 0, 0, 0].numel() != 1:
            return super().forward(fractions)
        images = self._remembered(fractions.reshape(fractions.shape[-3:]))
        return images.detach().reshape(*fractions.shape[:-3], *images.shape)

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions`` to images."""
        check_images(images, len(self.channels), self.models[0].table.matrix)
        if fractions[..., 0, 0, 0].numel() != 1:
            return super().vjp(fractions, images)
        simulated = self._remembered(fractions.reshape(fractions.shape[-3:]))
        point = self._last[0] if self._last else fractions
        cotangent = images.reshape(simulated.shape).to(self.device, self.dtype)
        (gradient,) = torch.autograd.grad(simulated, point, cotangent, retain_graph=True)
        return gradient.reshape(fractions.shape)

    def _remembered(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the images of one set of fractions with their graph."""
        maps = maps.detach().to(self.device, self.real_dtype)
        if self._last is None or not torch.equal(self._last[0].detach(), maps):
            self._last = None
            with torch.enable_grad():
                point = maps.clone().requires_grad_()
                self._last = (point, self._images(point))
        return self._last[1]

    def _images(self, maps: torch.Tensor) -> torch.Tensor:
        columns_first = maps.to(self.device, self.real_dtype).transpose(-1, -2)
        box = _filled(columns_first.detach())
        images = [
            images_of(self._kspace_of_box(number, columns_first, box)).transpose(0, 1).flatten(0, 1)
            for number in range(len(self.models))
        ]
        return torch.cat(images)

    def _turn(self, family: Family) -> torch.Tensor:
        """Return the precession of every voxel at a family's nodes, ``(node, x, y)``."""
        time = torch.as_tensor(family.profile.tau_s + family.profile.nodes.time_s)
        return precession(self._b0_hz, time.to(self.device), self.dtype)

    def _kspace_of_box(self, number: int, maps: torch.Tensor, box: Box) -> torch.Tensor:
        """Return ``(coil, image, ky, kx)`` of a rectangle of ``maps (tissue, x, y)``."""
        inside = maps[:, box[0], box[1]]
        properties = {
            name: values[0].view(inside.shape[1:])
            for name, values in mixed_properties(inside.flatten(1), self.table, self.mixing).items()
        }
        weight = properties["pd"][None]
        if self._coils is not None:
            weight = weight * self._coils[:, box[0], box[1]]
        encoder, hearings = self._family_encoders[number], self.models[number].hearings
        heard = self._heard(number, properties, box)
        emission = torch.from_numpy(hearings.emission).to(self.device)
        centre = torch.from_numpy(hearings.b_centre_s_per_m2).to(self.device, self.real_dtype)
        phase = torch.from_numpy(hearings.phase).to(self.device, self.dtype)
        diffusivity = properties["diffusivity_m2_per_s"]

        def amplitude(members: torch.Tensor) -> torch.Tensor:
            faded = torch.exp(-centre[members, None, None] * diffusivity)
            return heard[emission[members]] * (phase[members, None, None] * faded)

        factors = [
            turn[:, box[0], box[1]] * self._fading(family, properties)
            for family, turn in zip(encoder.families, self._turns[number], strict=True)
        ]
        return encoder.encode_families(amplitude, factors, weight, diffusivity, box)

    def _heard(self, number: int, properties: dict[str, torch.Tensor], box: Box) -> torch.Tensor:
        heard = self._propagators[number].heard(
            SpinParameters(
                t1_s=properties["t1_s"].flatten(),
                t2_s=properties["t2_s"].flatten(),
                diffusivity_m2_per_s=properties["diffusivity_m2_per_s"].flatten(),
                b1=self._b1[box].flatten(),
            )
        )
        return heard.view(-1, *properties["t1_s"].shape)

    def _fading(self, family: Family, properties: dict[str, torch.Tensor]) -> torch.Tensor:
        nodes = family.profile.nodes.time_s
        time = torch.as_tensor(nodes).to(self.device, self.real_dtype)[:, None, None]
        tau = torch.as_tensor(abs(family.profile.tau_s + nodes)).to(time)[:, None, None]
        return torch.exp(-time / properties["t2_s"] - tau.view_as(time) / properties["t2dash_s"])


def _filled(maps: torch.Tensor) -> Box:
    """Return the smallest rectangle of ``(tissue, x, y)`` that holds all tissue."""
    filled = (maps != 0).any(0)
    if not bool(filled.any()):
        return slice(0, 1), slice(0, 1)
    columns, rows = filled.any(1).nonzero()[:, 0], filled.any(0).nonzero()[:, 0]
    return (
        slice(int(columns[0]), int(columns[-1]) + 1), slice(int(rows[0]), int(rows[-1]) + 1),
    )  # fmt: skip
