"""Images of a slice by physics that is not ours: MR-zero's isochromats on a finer grid.

The Bloch equations move every spin on its own. MR-zero gives all voxels the same few spins, whose
spoiled signal does not cancel and repeats in every voxel (5 % of an image with 8 random spins).
Here every spin has a place of its own: even steps along the spoiled axis inside a voxel,
continued through blocks of 2 x 2 voxels, and a lattice in the plane. T2' is taken out of the
tissues: MR-zero draws it as one frequency per spin, which a few spins cannot show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.reference import ReferenceOperator
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields, make_fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import mixed_properties
from bmapest_ray.tissue.table import TissueTable

SPINS = 4
_NEVER_S = 1e9
_BOX_M = 2e-3  # along z: one turn of 500 per metre, the least spoiler of the presets
_BLOCK = torch.tensor([[0.0, 2.0], [3.0, 1.0]]) / 4
_LATTICE = {2: 1, 4: 3, 8: 5}
_POINT_PER_M = 1e9


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
        In every tissue of every voxel of the finer grid: 2, 4 or 8.

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
    data = _spins_of(maps, table, fields, grid, spins)
    images = []
    for model in operator.models:
        signal = mrzero.isochromats(mrzero.to_mrzero(model.table), data, 1, 0)
        images.append(operator.images_of_signal(model, signal))
    return torch.cat(images)


def _spins_of(
    maps: TissueMaps, table: TissueTable, fields: Fields, grid: VoxelGrid, spins: int
) -> Any:  # noqa: ANN401 - mr0.SimData
    """Return every spin of every tissue as a point, which MR-zero takes for a voxel."""
    parts = mixed_properties(maps.fraction.flatten(1), table, Mixing.COMPARTMENTS)
    held = (parts["pd"] > 0).expand(spins, -1, -1)  # (spin, tissue, voxel)

    def chosen(values: Tensor) -> Tensor:
        return values.expand(held.shape)[held]

    points = {name: chosen(values) for name, values in parts.items()}
    points["pd"] = points["pd"] / spins
    points["b0_hz"], points["b1"] = chosen(fields.b0_hz.flatten()), chosen(fields.b1.flatten())
    points["coils"] = torch.ones(1, len(points["pd"]), dtype=torch.complex64)
    places = spin_places(grid, spins)[:, None].expand(*held.shape, 3)[held]
    data = mrzero.sim_data(points, places, grid.matrix, grid.fov_m)
    data.nyquist = (_POINT_PER_M,) * 3
    return data


def spin_places(grid: VoxelGrid, spins: int) -> Tensor:
    """Return where the spins of every voxel are, in metres, `(spin, voxel, 3)`, float64."""
    index = torch.arange(spins, dtype=torch.float64)
    step = grid.fov_m / grid.matrix
    along = [(index + 0.5) / spins - 0.5, (index * _LATTICE[spins] + 0.5) / spins % 1 - 0.5]
    places = grid.positions_m().repeat(spins, 1, 1)
    places[:, :, 0] += along[0][:, None] * step
    places[:, :, 1] += along[1][:, None] * step
    turns = _BLOCK.repeat(grid.matrix // 2, grid.matrix // 2).flatten()
    places[:, :, 2] = (index[:, None] + turns) / spins * _BOX_M
    return places
