"""From maps and fields to a design setting with one physical noise level."""

from __future__ import annotations

import torch

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.voxels import choose_voxels
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.cache import FactorCache
from bmapest_ray.simulate.factory import build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.noise import sigma_from_snr
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable


def make_setting(
    maps: TissueMaps,
    fields: Fields,
    table: TissueTable,
    *,
    snr: float,
    reference: Protocol,
    voxels: int = 12,
    cache: FactorCache | None = None,
) -> DesignSetting:
    """Return the setting in which `reference` has a stated SNR on some maps.

    Parameters
    ----------
    maps, fields, table
        The object.
    snr
        Largest noise-free magnitude of the reference over the noise's standard deviation.
    reference
        Fixes the noise level for all protocols.
    voxels
        How many stand for the head.
    cache
        Of operators.
    """
    grid = VoxelGrid(maps.matrix, maps.fov_mm * 1e-3)
    built = build_operator(Scene(reference, grid, fields, table), cache=cache)
    with torch.no_grad():
        images = built.operator.forward(maps.fraction)
    return DesignSetting(
        acquisition=grid,
        table=table,
        voxels=choose_voxels(maps.fraction, fields, grid, voxels),
        sigma=sigma_from_snr(images, snr),
        dwell_s=float(built.dwell_s.max()),
    )
