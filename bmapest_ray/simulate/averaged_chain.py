"""Rows of a chain of averaged voxels and their derivatives to the fractions, voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.rows import ImageRows, RowGroup, group_rows
from bmapest_ray.simulate.voxels import decay, precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import PROPERTIES, mixed_properties
from bmapest_ray.tissue.table import TissueTable


@dataclass(frozen=True)
class Pair:
    """What serves the values and what serves the derivatives of one image."""

    values: torch.Tensor
    slopes: torch.Tensor


class AveragedChain:
    """Rows of a chain as a differentiable function of the fractions of some voxels."""

    def __init__(
        self,
        model: ChainModel,
        propagator: Propagator,
        table: TissueTable,
        fields: Fields,
        mixing: Mixing,
    ) -> None:
        self.model = model
        self.propagator = propagator
        self.table = table
        self.mixing = mixing
        self.b0_hz = fields.b0_hz.double().flatten()
        self.b1 = fields.b1.double().flatten()
        self.positions_m = model.grid.positions_m()[:, :2]
        self.images: list[ImageRows] = [
            group_rows(model, image) for image in range(len(model.table.images))
        ]

    def derivatives(
        self, fractions: torch.Tensor, voxels: torch.Tensor, project: Sequence[Pair] | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return rows and their derivatives ``(tissue, row, voxel)``, projected if asked for.

        A row depends on five properties of its voxel, so it is differentiated to them, projected,
        and only then turned into derivatives to the fractions.
        """
        at, along = self._properties(fractions)
        order = (at["t1_s"], at["t2_s"], at["diffusivity_m2_per_s"])
        heard = self.propagator.slopes(
            SpinParameters(order[0], order[1], order[2], self.b1[voxels])
        )
        values, slopes = [], []
        for image, rows in enumerate(self.images):
            dual = None if project is None else project[image]
            per_proton, by_property = self._image_slopes(rows, heard, at, voxels, dual)
            values.append(per_proton * at["pd"].to(heard.dtype))
            total = torch.zeros((), dtype=heard.dtype)
            for name, slope in by_property.items():
                total = total + slope * along[name][:, None].to(heard.dtype)
            slopes.append(total)
        return values, slopes

    def _properties(
        self, fractions: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return properties ``(voxel,)`` and their derivatives to fractions ``(tissue, voxel)``."""
        with torch.enable_grad():
            unknowns = fractions.detach().requires_grad_()
            mixed = mixed_properties(unknowns, self.table, self.mixing)
            # backwards, since torch's forward mode is not safe among threads
            along = {
                name: torch.autograd.grad(mixed[name].sum(), unknowns, retain_graph=True)[0]
                for name in PROPERTIES
            }
        return {name: mixed[name][0].detach() for name in PROPERTIES}, along

    def _image_slopes(
        self,
        rows: ImageRows,
        heard: torch.Tensor,
        at: dict[str, torch.Tensor],
        voxels: torch.Tensor,
        dual: Pair | None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return rows per proton and their slopes to every property, projected on ``dual``."""
        per_proton: list[torch.Tensor] = []
        collected: dict[str, list[torch.Tensor]] = {name: [] for name in PROPERTIES}
        for group, span in zip(rows.groups, rows.spans, strict=True):
            basis = None if dual is None else Pair(dual.values[span].mH, dual.slopes[span].mH)
            for name, slope in self._group_slopes(group, heard, at, voxels):
                flat = slope.flatten(0, 1)
                collected[name].append(flat if basis is None else basis.slopes @ flat)
                if basis is not None and name == "pd":
                    per_proton.append(basis.values @ flat)
        if dual is None:
            every = {name: torch.cat(parts) for name, parts in collected.items()}
            return every["pd"], every
        projected = {name: torch.stack(parts).sum(dim=0) for name, parts in collected.items()}
        return torch.stack(per_proton).sum(dim=0), projected

    def _group_slopes(
        self,
        group: RowGroup,
        heard: torch.Tensor,
        at: dict[str, torch.Tensor],
        voxels: torch.Tensor,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the slope of ``A / pd * pd`` to each property, ``(hearing, node, voxel)``."""
        hearings, profile, real = self.model.hearings, group.profile, at["pd"].dtype
        span = group.hearings
        centre = torch.from_numpy(hearings.b_centre_s_per_m2[span]).to(real)[:, None]
        phase = torch.from_numpy(hearings.phase[span]).to(heard)[:, None]
        turn = phase * group.shift(self.positions_m[voxels]).to(heard)
        faded = turn * torch.exp(-centre * at["diffusivity_m2_per_s"])
        picked = torch.from_numpy(hearings.emission[span])
        value = heard[0, picked] * faded

        nodes = torch.from_numpy(profile.nodes.time_s).to(real)[:, None]
        tau = torch.from_numpy(abs(profile.tau_s + profile.nodes.time_s)).to(real)[:, None]
        change = torch.from_numpy(profile.attenuation_s_per_m2 + 0 * profile.nodes.time_s).to(real)
        time = torch.from_numpy(profile.tau_s + profile.nodes.time_s)
        fading = decay(profile, at["t2_s"], at["t2dash_s"], at["diffusivity_m2_per_s"])
        factor = precession(self.b0_hz[voxels], time, self.propagator.dtype) * fading
        dense = factor * at["pd"]
        yield "pd", value[:, None] * factor
        yield "t1_s", (heard[1, picked] * faded)[:, None] * dense
        rate = nodes / at["t2_s"].square()
        yield "t2_s", (heard[2, picked] * faded)[:, None] * dense + value[:, None] * (dense * rate)
        yield "t2dash_s", value[:, None] * (dense * (tau / at["t2dash_s"].square()))
        less = heard[3, picked] * faded - centre * value
        yield (
            "diffusivity_m2_per_s",
            less[:, None] * dense - value[:, None] * (dense * change[:, None]),
        )
