"""What the files of others are played on."""

import torch

from bmapest_ray.simulate.factory import EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX, FOV_M = 8, 0.2


def operator_of(protocol, **options):
    """Build the operator of a protocol under smooth fields."""
    axis = torch.linspace(-1, 1, MATRIX, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    fields = Fields(10 * x - 6 * y**2, 1.0 - 0.1 * (x**2 + y**2))
    scene = Scene(protocol, VoxelGrid(MATRIX, FOV_M), fields, PAPER_3T)
    return build_operator(scene, EngineOptions(**options)).operator


def maps_of_three_tissues():
    """Three overlapping tissues with background around them."""
    axis = (torch.arange(MATRIX) + 0.5) * 2 / MATRIX - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    wm = 0.8 * torch.exp(-8 * (x**2 + y**2))
    csf = 0.3 * torch.exp(-20 * ((x - 0.3) ** 2 + (y + 0.2) ** 2))
    gm = (0.9 - wm - csf).clamp(min=0) * (x**2 + 0.8 * y**2 < 0.8)
    return torch.stack([gm, wm, csf])
