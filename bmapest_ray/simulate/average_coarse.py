"""The average engine for coarse graphs: one simulation serves a gradient step.

For fits by many gradient steps on a graph of a few hundred states, as BMapEst makes them: signals
are encoded family by family, empty columns and rows are left out, the slopes of what is heard come
with the simulation of `forward`, and `vjp` at the same fractions takes them back to the fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.exact import check_fractions, check_images
from bmapest_ray.simulate.families import Box, Family, FamilyEncoder, find_families
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.reconstruct import images_of, kspace_of
from bmapest_ray.simulate.voxels import precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.properties import PROPERTIES
from bmapest_ray.tissue.table import TissueTable

_TOLERANCE = 1e-5
"""Of the interpolation in b."""


@dataclass(frozen=True)
class _Heard:
    """What a chain's simulation leaves for its derivative.

    Parameters
    ----------
    planes
        Magnetisation of every hearing and its slopes to T1, T2 and D. ``(4, hearing, x, y)``.
    turned
        What multiplies it: phase, diffusion at the centre, wave along y. ``(hearing, x, y)``.
    sides
        Voxel factors of every family without density, ``(coil, node, b, x, y)``.
    """

    planes: torch.Tensor
    turned: torch.Tensor
    sides: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class _Simulation:
    """A simulation: its fractions, their properties in the box, what was heard, the images."""

    maps: torch.Tensor
    box: Box
    properties: dict[str, torch.Tensor]
    heard: tuple[_Heard, ...]
    images: torch.Tensor


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
        self._chains = [
            _CoarseChain(
                FamilyEncoder(
                    model, self.dtype, self.device,
                    find_families(model.hearings, diffusivity, _TOLERANCE),
                ),
                model, propagator, self._b0_hz, self._b1, self._coils,
            )
            for model, propagator in zip(models, self._propagators, strict=True)
        ]  # fmt: skip
        self._last: _Simulation | None = None

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``; one set is kept."""
        check_fractions(fractions, self.tissues, self.matrix)
        if fractions[..., 0, 0, 0].numel() != 1:
            return super().forward(fractions)
        images = self._remembered(fractions.reshape(fractions.shape[-3:])).images
        return images.reshape(*fractions.shape[:-3], *images.shape)

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions`` to images."""
        check_images(images, len(self.channels), self.models[0].table.matrix)
        if fractions[..., 0, 0, 0].numel() != 1:
            return super().vjp(fractions, images)
        at = self._remembered(fractions.reshape(fractions.shape[-3:]))
        split = images.reshape(at.images.shape).to(self.device, self.dtype)
        slopes = {name: torch.zeros_like(at.properties["pd"]) for name in PROPERTIES}
        start = 0
        for chain, heard in zip(self._chains, at.heard, strict=True):
            stop = start + chain.encoder.n_images * self.n_coils
            mine = split[start:stop].view(-1, self.n_coils, *images.shape[-2:])
            chain.take_back(heard, at.properties, kspace_of(mine.transpose(0, 1)), at.box, slopes)
            start = stop
        with torch.enable_grad():
            point = at.maps.clone().requires_grad_()
            mixed = self._properties_in(point, at.box)
            (gradient,) = torch.autograd.grad(
                [mixed[name] for name in PROPERTIES], point, [slopes[name] for name in PROPERTIES]
            )
        return gradient.reshape(fractions.shape)

    def _remembered(self, maps: torch.Tensor) -> _Simulation:
        """Return the simulation of one set of fractions."""
        maps = maps.detach().to(self.device, self.real_dtype)
        if self._last is None or not torch.equal(self._last.maps, maps):
            self._last = None  # two at once would need twice the memory
            self._last = self._simulated(maps.clone())
        return self._last

    def _simulated(self, maps: torch.Tensor) -> _Simulation:
        box = _filled(maps.transpose(-1, -2))
        properties = self._properties_in(maps, box)
        heard, images = [], []
        for chain in self._chains:
            kept, kspace = chain.simulate(properties, box)
            heard.append(kept)
            images.append(images_of(kspace).transpose(0, 1).flatten(0, 1))
        return _Simulation(maps, box, properties, tuple(heard), torch.cat(images))

    def _properties_in(self, maps: torch.Tensor, box: Box) -> dict[str, torch.Tensor]:
        """Return the properties ``(x, y)`` of the voxels in a box of ``maps (tissue, y, x)``."""
        inside = maps.transpose(-1, -2)[:, box[0], box[1]]
        found = self.properties(inside.flatten(1))
        return {name: values.view(inside.shape[1:]) for name, values in found.items()}


class _CoarseChain:
    """One chain: simulation and, by hand, its derivative to the properties of the voxels."""

    def __init__(
        self,
        encoder: FamilyEncoder,
        model: ChainModel,
        propagator: Propagator,
        b0_hz: torch.Tensor,
        b1: torch.Tensor,
        coils: torch.Tensor | None,
    ) -> None:
        self.encoder = encoder
        self._propagator = propagator
        self._b1 = b1
        self._coils = coils
        like = torch.zeros((), dtype=encoder.dtype, device=encoder.device)
        hearings = model.hearings
        once = np.array_equal(hearings.emission, np.arange(model.plan.n_emissions))
        heard = slice(None) if once else torch.from_numpy(hearings.emission).to(encoder.device)
        self._emission: slice | torch.Tensor = heard
        self._centre = torch.from_numpy(hearings.b_centre_s_per_m2).to(like.real)
        self._wave = torch.from_numpy(hearings.phase).to(like)[:, None] * encoder.waves_along_y
        self._turns = [_turn(family, b0_hz, encoder.dtype) for family in encoder.families]

    def simulate(
        self, properties: dict[str, torch.Tensor], box: Box
    ) -> tuple[_Heard, torch.Tensor]:
        """Return what is heard and k-space ``(coil, image, ky, kx)`` of a box of voxels."""
        shape, diffusivity = properties["pd"].shape, properties["diffusivity_m2_per_s"]
        played = self._propagator.slopes(
            SpinParameters(
                t1_s=properties["t1_s"].flatten(),
                t2_s=properties["t2_s"].flatten(),
                diffusivity_m2_per_s=diffusivity.flatten(),
                b1=self._b1[box].flatten(),
            )
        )
        planes = played[:, self._emission].view(4, -1, *shape)
        faded = torch.exp(-self._centre[:, None, None] * diffusivity)
        turned = self._wave[:, None, box[1]] * faded
        sides = tuple(
            self._side(number, properties, box) for number in range(len(self.encoder.families))
        )
        weighted = [side * properties["pd"] for side in sides]
        kspace = self.encoder.encode_families(planes[0] * turned, weighted, box[0])
        return _Heard(planes, turned, sides), kspace

    def take_back(
        self,
        heard: _Heard,
        properties: dict[str, torch.Tensor],
        kspace: torch.Tensor,
        box: Box,
        slopes: dict[str, torch.Tensor],
    ) -> None:
        """Add the derivative's adjoint, applied to k-space, to the slopes of all properties."""
        left = heard.planes[0] * heard.turned
        weighted = [side * properties["pd"] for side in heard.sides]
        to_left, to_sides = self.encoder.families_adjoint(kspace, left, weighted, box[0])
        for number, (side, back) in enumerate(zip(heard.sides, to_sides, strict=True)):
            self._take_back_side(number, (side.conj() * back).real, properties, slopes)
        back = to_left * heard.turned.conj()
        products = [(plane.real * back.real + plane.imag * back.imag) for plane in heard.planes]
        slopes["t1_s"] += products[1].sum(0)
        slopes["t2_s"] += products[2].sum(0)
        slopes["diffusivity_m2_per_s"] += products[3].sum(0)
        slopes["diffusivity_m2_per_s"] -= torch.tensordot(self._centre, products[0], 1)

    def _side(self, number: int, properties: dict[str, torch.Tensor], box: Box) -> torch.Tensor:
        """Return a family's voxel factor without density, ``(coil, node, b, x, y)``."""
        family = self.encoder.families[number]
        time, tau, b = _columns(family, properties["pd"])
        fading = torch.exp(-time / properties["t2_s"] - tau / properties["t2dash_s"])
        faded = torch.exp(-b * properties["diffusivity_m2_per_s"])
        side = (self._turns[number][:, box[0], box[1]] * fading)[:, None] * faded
        if self._coils is None:
            return side[None]
        return self._coils[:, None, None, box[0], box[1]] * side

    def _take_back_side(
        self,
        number: int,
        product: torch.Tensor,
        properties: dict[str, torch.Tensor],
        slopes: dict[str, torch.Tensor],
    ) -> None:
        """Add the slopes of one side; ``product`` is its own with what came back, per density."""
        time, tau, b = _columns(self.encoder.families[number], properties["pd"])
        by_point = product.sum(0)  # (node, b, x, y)
        slopes["pd"] += by_point.sum((0, 1))
        dense = by_point * properties["pd"]
        by_node = dense.sum(1)
        slopes["t2_s"] += (time * by_node).sum(0) / properties["t2_s"].square()
        slopes["t2dash_s"] += (tau * by_node).sum(0) / properties["t2dash_s"].square()
        slopes["diffusivity_m2_per_s"] -= (b * dense.sum(0)).sum(0)


def _turn(family: Family, b0_hz: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the precession of every voxel at a family's nodes, ``(node, x, y)``."""
    time = torch.as_tensor(family.profile.tau_s + family.profile.nodes.time_s)
    return precession(b0_hz, time.to(b0_hz.device), dtype)


def _columns(family: Family, like: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return time and ``|tau + time|`` at the nodes, and the points in b, against ``(x, y)``."""
    nodes = family.profile.nodes.time_s
    values = (nodes, abs(family.profile.tau_s + nodes), family.b_s_per_m2)
    return [torch.as_tensor(value).to(like)[:, None, None] for value in values]


def _filled(maps: torch.Tensor) -> Box:
    """Return the smallest rectangle of ``(tissue, x, y)`` that holds all tissue."""
    filled = (maps != 0).any(0)
    if not bool(filled.any()):
        return slice(0, 1), slice(0, 1)
    columns, rows = filled.any(1).nonzero()[:, 0], filled.any(0).nonzero()[:, 0]
    return (
        slice(int(columns[0]), int(columns[-1]) + 1), slice(int(rows[0]), int(rows[-1]) + 1),
    )  # fmt: skip
