"""Images of a phantom with any number of tissues, or with a map of every property."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bmapest_ray.anatomy.phantom import FIELDS, NEVER_S, STILL_M2_PER_S, Part, Phantom
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.exact import CompartmentOperator
from bmapest_ray.simulate.factory import EngineOptions
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import PROPERTIES
from bmapest_ray.tissue.table import TissueTable

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BESIDE = {"t1_s": 4.0, "t2_s": 1.5, "t2dash_s": 0.06, "diffusivity_m2_per_s": 3e-9}
"""Water of no density that goes along: what a tissue at its null emits is not enough to follow."""
_SHORTEST_S = 1e-3
_LARGEST = {"t1_s": 10.0, "t2_s": 5.0, "t2dash_s": NEVER_S, "diffusivity_m2_per_s": 1e-8}


class _MappedOperator(AverageOperator):
    """Maps of PD, T1, T2, T2' and D, in this order, to images; the tissue table only probes."""

    def properties(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(PROPERTIES, maps, strict=True))


def phantom_images(
    phantom: Phantom,
    protocol: Protocol,
    matrix: int,
    fov_m: float,
    fields: Fields | None = None,
) -> torch.Tensor:
    """Simulate one slice of a phantom, every part with its own values and fields.

    Parameters
    ----------
    phantom
        As `Phantom.slice` returns it.
    matrix, fov_m
        Of the acquisition.
    fields
        B0 and B1 on the phantom's grid, instead of its own.

    Returns
    -------
    torch.Tensor
        Complex images, `(image, y, x)`.

    Raises
    ------
    InvalidInput, SimulationError
        If protocol and grid do not fit, or nothing is heard.
    """
    grid = VoxelGrid(phantom.density.shape[-1], fov_m)
    acquisition = VoxelGrid(matrix, fov_m)
    images = [
        _of_parts(group, protocol, acquisition, grid, fields or _fields(group[0], grid))
        for group in _groups(phantom, together=fields is not None)
    ]
    return torch.stack(images).sum(0)


def _groups(phantom: Phantom, *, together: bool) -> list[list[Part]]:
    """Return parts that are simulated in one go: uniform ones that share their fields."""
    groups: dict[tuple[object, ...], list[Part]] = {}
    for number, part in enumerate(phantom.parts):
        own = [part.properties[name] for name in FIELDS]
        shared = part.is_uniform and (together or all(isinstance(v, float) for v in own))
        key = (*([] if together else own),) if shared else (number, "alone")
        groups.setdefault(key, []).append(part)
    return list(groups.values())


def _fields(part: Part, grid: VoxelGrid) -> Fields:
    def field(name: str) -> torch.Tensor:
        value = np.broadcast_to(part.properties[name], (1, grid.matrix, grid.matrix))[0]
        return torch.from_numpy(value.astype(np.float64))

    return Fields(field("b0_hz"), field("b1"))


def _of_parts(
    parts: list[Part], protocol: Protocol, acquisition: VoxelGrid, grid: VoxelGrid, fields: Fields
) -> torch.Tensor:
    mixing = Mixing.COMPARTMENTS if parts[0].is_uniform else Mixing.AVERAGE
    table = _uniform_table(parts) if parts[0].is_uniform else _probing_table(parts[0])
    scene = Scene(protocol, acquisition, fields, table, mixing, grid)
    models = tuple(scene.model(chain) for chain in protocol.chains)
    density = torch.from_numpy(np.concatenate([part.density for part in parts]))
    dtype = EngineOptions().dtype
    if parts[0].is_uniform:
        none = torch.zeros_like(density[:1])
        operator = CompartmentOperator(models, table, fields, dtype=dtype)
        return operator.forward(torch.cat([density, none]))
    held = parts[0].properties
    rows = [np.broadcast_to(held[name], parts[0].density.shape)[0] for name in PROPERTIES[1:]]
    maps = torch.cat([density, torch.from_numpy(np.stack(rows).astype(np.float32))])
    mapped = _MappedOperator(models, table, fields, mixing=mixing, dtype=dtype)
    mapped.tissues = len(PROPERTIES)
    with torch.no_grad():
        return mapped.forward(maps)


def _uniform_table(parts: list[Part]) -> TissueTable:
    columns: dict[str, Any] = {
        name: (*(float(part.properties[name]) for part in parts), _BESIDE[name])
        for name in PROPERTIES[1:]
    }
    names = (*(part.name for part in parts), "beside")
    return TissueTable(names, (1.0,) * len(names), source="phantom", **columns)


def _probing_table(part: Part) -> TissueTable:
    """Return values that stand for all voxels of a part: what states are chosen for."""
    inside = part.density > 0
    columns: dict[str, Any] = {}
    for name in PROPERTIES[1:]:
        seen = np.quantile(np.broadcast_to(part.properties[name], inside.shape)[inside], _QUANTILES)
        least = STILL_M2_PER_S if name == "diffusivity_m2_per_s" else _SHORTEST_S
        columns[name] = (*np.clip(seen, least, _LARGEST[name]).tolist(), _BESIDE[name])
    names = (*(f"{part.name} {share:.0%}" for share in _QUANTILES), "beside")
    return TissueTable(names, (1.0,) * len(names), source=f"phantom, {part.name}", **columns)
