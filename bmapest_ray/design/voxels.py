"""A few voxels that stand for a head: where a design is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.parameters import SpinPoints
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable


@dataclass(frozen=True)
class Scenario:
    """What may differ from what is assumed: T1 and T2 of every tissue, the B1 scale."""

    name: str
    t1: tuple[float, ...]
    t2: tuple[float, ...]
    b1: float = 1.0


@dataclass(frozen=True, eq=False)
class DesignVoxels:
    """Voxels that count alike.

    Parameters
    ----------
    b0_hz, b1
        Fields, ``(voxel,)``.
    position_m
        x and y, ``(voxel, 2)``.
    fraction
        Tissue mix around the voxel, ``(tissue, voxel)``: what a phase, a null and a nuisance
        depend on; the bound for complex data without nuisances does not.
    t1_scale, t2_scale
        What multiplies a tissue's T1 and T2, ``(tissue, voxel)``; None is one.
    scenarios
        How many groups of equally many voxels there are; the first is nominal.
    """

    b0_hz: Tensor
    b1: Tensor
    position_m: Tensor
    fraction: Tensor
    t1_scale: Tensor | None = None
    t2_scale: Tensor | None = None
    scenarios: int = 1

    def __len__(self) -> int:
        """Return the number of voxels."""
        return len(self.b1)

    @property
    def nominal(self) -> DesignVoxels:
        """The voxels of the first scenario, as they were."""
        count = len(self) // self.scenarios
        return DesignVoxels(
            b0_hz=self.b0_hz[:count],
            b1=self.b1[:count],
            position_m=self.position_m[:count],
            fraction=self.fraction[:, :count],
        )

    def under(self, scenarios: Sequence[Scenario]) -> DesignVoxels:
        """Return the voxels under several scenarios, one group each, the nominal one first."""
        plain, count = self.nominal, len(self) // self.scenarios
        every = [Scenario("nominal", (1.0,) * len(self.fraction), (1.0,) * len(self.fraction)),
                 *scenarios]  # fmt: skip

        def scales(name: str) -> Tensor:
            rows = torch.tensor([getattr(s, name) for s in every], dtype=torch.float64)
            return rows.repeat_interleave(count, dim=0).T

        b1 = torch.tensor([s.b1 for s in every], dtype=torch.float64)
        return DesignVoxels(
            b0_hz=plain.b0_hz.repeat(len(every)),
            b1=plain.b1.repeat(len(every)) * b1.repeat_interleave(count),
            position_m=plain.position_m.repeat(len(every), 1),
            fraction=plain.fraction.repeat(1, len(every)),
            t1_scale=scales("t1"),
            t2_scale=scales("t2"),
            scenarios=len(every),
        )

    def points(self, table: TissueTable) -> SpinPoints:
        """Return every tissue at every voxel, tissue-major, ``tissue * voxel`` points."""
        tissues, count = len(table.names), len(self)

        def row(name: str, scale: Tensor | None = None) -> Tensor:
            values = table.column(name).double().repeat_interleave(count)
            return values if scale is None else values * scale.flatten()

        return SpinPoints(
            pd=row("pd"),
            t1_s=row("t1_s", self.t1_scale),
            t2_s=row("t2_s", self.t2_scale),
            t2dash_s=row("t2dash_s"),
            diffusivity_m2_per_s=row("diffusivity_m2_per_s"),
            b1=self.b1.repeat(tissues),
            b0_hz=self.b0_hz.repeat(tissues),
            position_m=self.position_m.repeat(tissues, 1),
        )


def choose_voxels(fraction: Tensor, fields: Fields, grid: VoxelGrid, count: int) -> DesignVoxels:
    """Choose voxels of a head whose B1 are the midpoints of equal shares of it.

    Parameters
    ----------
    fraction
        Maps, ``(tissue, y, x)``.
    fields, grid
        On the same pixels.
    count
        Voxels.

    Raises
    ------
    InvalidInput
        If the head has fewer voxels.
    """
    inside = torch.nonzero((fraction.sum(0) > 0).flatten())[:, 0]
    if not 1 <= count <= len(inside):
        msg = (
            f"the number of design voxels must be in 1..{len(inside)} (the head), got {count}; "
            "change --voxels"
        )
        raise InvalidInput(msg)
    shuffled = inside[torch.randperm(len(inside), generator=generator("design-voxels"))]
    b1 = fields.b1.double().flatten()[shuffled]
    order = shuffled[torch.argsort(b1, stable=True)]
    chosen = order[((torch.arange(count) + 0.5) * len(order) / count).long()]
    return DesignVoxels(
        b0_hz=fields.b0_hz.double().flatten()[chosen],
        b1=fields.b1.double().flatten()[chosen],
        position_m=grid.positions_m()[chosen, :2],
        fraction=fraction.double().flatten(1)[:, chosen],
    )
