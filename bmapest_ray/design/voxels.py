"""A few voxels that stand for a head: where a design is judged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.parameters import SpinPoints
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable


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
    """

    b0_hz: Tensor
    b1: Tensor
    position_m: Tensor
    fraction: Tensor

    def __len__(self) -> int:
        """Return the number of voxels."""
        return len(self.b1)

    def scaled_b1(self, factor: float) -> DesignVoxels:
        """Return the voxels under another transmit calibration."""
        return replace(self, b1=self.b1 * factor)

    def points(self, table: TissueTable) -> SpinPoints:
        """Return every tissue at every voxel, tissue-major, ``tissue * voxel`` points."""
        tissues, count = len(table.names), len(self)

        def row(name: str) -> Tensor:
            return table.column(name).double().repeat_interleave(count)

        return SpinPoints(
            pd=row("pd"),
            t1_s=row("t1_s"),
            t2_s=row("t2_s"),
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
