"""Images of a slice by physics that is not ours: MR-zero's isochromats on a finer grid.

Every voxel of the finer grid is a box of spins that the Bloch equations move one by one. Few spins
must stand for a box: the seed they are drawn with is the one whose spins cancel best under the
sequence's own spoilers. T2' is taken out of the tissues: MR-zero draws it as one frequency per
spin, which a few spins cannot show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.reference import ReferenceOperator
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import make_fields
from bmapest_ray.tissue.table import TissueTable

SPINS = 8
_NEVER_S = 1e9
_SEEDS = 10_000
_THICKNESS_M = 8e-3
_SPOILED_TIMES = 4


@dataclass(frozen=True)
class OffValues:
    """Tissue values that differ from a table's, each by the same share up or down.

    Parameters
    ----------
    table
        What is true.
    logs
        Relative (log) changes of T1, T2 and PD, `(property, tissue)`.
    """

    table: TissueTable
    logs: Tensor


def still(table: TissueTable) -> TissueTable:
    """Return a table without T2' and diffusion, which isochromats leave out."""
    count = len(table.names)
    return replace(
        table, t2dash_s=(_NEVER_S,) * count, diffusivity_m2_per_s=(1e-15,) * count,
        source=f"{table.source}; no T2', no diffusion",
    )  # fmt: skip


def off_values(table: TissueTable, share: float, *keys: str) -> OffValues:
    """Return a table whose T1, T2 and PD are off by a share, with signs drawn for `keys`."""
    shape = (3, len(table.names))
    signs = 2 * torch.randint(0, 2, shape, generator=generator("off-values", *keys)) - 1
    factor = 1 + share * signs.double()
    rows = {
        name: tuple((table.column(name) * factor[index]).tolist())
        for index, name in enumerate(("t1_s", "t2_s", "pd"))
    }
    text = f"{table.source}; T1, T2, PD off by {share:.0%}"
    changed = replace(table, **rows, source=text)  # type: ignore[arg-type]
    return OffValues(changed, factor.log())


def isochromat_images(
    protocol: Protocol, maps: TissueMaps, table: TissueTable, matrix: int, spins: int = SPINS
) -> Tensor:
    """Simulate a slice with MR-zero's isochromats, B0 and B1 analytic.

    Parameters
    ----------
    maps
        The slice on the finer grid; it covers the field of view.
    matrix
        Of the acquisition.
    spins
        In every tissue of every voxel of the finer grid.

    Returns
    -------
    Tensor
        Complex images, `(image, y, x)`.
    """
    fov_m = float(maps.fov_mm) * 1e-3
    grid = VoxelGrid(maps.matrix, fov_m)
    fields = make_fields("analytic", "analytic", maps)
    scene = Scene(protocol, VoxelGrid(matrix, fov_m), fields, table, grid=grid)
    built = build_operator(scene, EngineOptions(engine=Engine.REFERENCE))
    operator = cast("ReferenceOperator", built.operator)
    data = operator.sim_data(maps.fraction)
    images = []
    for model in operator.models:
        seed = even_seed(spoilers(model.table), fov_m / grid.matrix, spins)
        signal = mrzero.isochromats(mrzero.to_mrzero(model.table), data, spins, seed)
        images.append(operator.images_of_signal(model, signal))
    return torch.cat(images)


def spoilers(events: EventTable) -> Tensor:
    """Return moments of repetitions that wind a pixel up, once and several times, in 1/m.

    Shape `(moment, 3)`.
    """
    totals = np.stack([rep.moment_per_m.sum(0) for rep in events.repetitions])
    different = np.unique(totals.round(3), axis=0)
    wound = different[np.abs(different).max(axis=1) > events.matrix / events.fov_m]
    return torch.from_numpy(np.concatenate([(k + 1) * wound for k in range(_SPOILED_TIMES)]))


def even_seed(moments_per_m: Tensor, voxel_m: float, spins: int) -> int:
    """Return the seed whose spins, as MR-zero draws them, cancel best under some moments."""
    box = torch.tensor([voxel_m, voxel_m, _THICKNESS_M]).double()
    best, least = 0, float("inf")
    for seed in range(_SEEDS):
        drawn = torch.rand(spins, 3, generator=torch.Generator().manual_seed(seed)).double()
        turns = (drawn - 0.5) * box @ moments_per_m.double().T
        left = float(torch.polar(torch.ones_like(turns), 2 * torch.pi * turns).mean(0).abs().max())
        if left < least:
            best, least = seed, left
    return best
