"""Images of phantoms: maps, tissues and fields agree with what the engines say of each alone."""

import numpy as np
import torch

from bmapest_ray.anatomy.phantom import Phantom, make_part
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import Engine, EngineOptions, Scene, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.phantom_images import phantom_images
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable

MATRIX, FOV_M = 16, 0.2
PROTOCOL = parse_protocol("t1inv[2]")
GREY = {"t1_s": 1.5, "t2_s": 0.09, "t2dash_s": 0.3, "diffusivity_m2_per_s": 0.8e-9}
FAT = {"t1_s": 0.37, "t2_s": 0.12, "t2dash_s": 0.05, "diffusivity_m2_per_s": 0.1e-9}


def density(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, MATRIX, MATRIX)).astype(np.float32)


def mapped(values: dict[str, float]) -> dict[str, object]:
    return {name: np.full((1, MATRIX, MATRIX), v, np.float32) for name, v in values.items()}


def test_maps_of_a_uniform_tissue_give_the_images_of_the_tissue() -> None:
    one = Phantom((make_part("a", density(0), dict(GREY)),), np.eye(4))
    maps = Phantom((make_part("a", density(0), mapped(GREY)),), np.eye(4))
    uniform = phantom_images(one, PROTOCOL, MATRIX, FOV_M)
    voxelwise = phantom_images(maps, PROTOCOL, MATRIX, FOV_M)
    assert float((uniform - voxelwise).norm() / uniform.norm()) < 1e-3


def test_tissues_add_up_with_their_own_fields_and_match_the_reference() -> None:
    grey = make_part("grey", density(1), dict(GREY))
    fat = make_part("fat", density(2), {**FAT, "b0_hz": -40.0})
    together = phantom_images(Phantom((grey, fat), np.eye(4)), PROTOCOL, MATRIX, FOV_M)
    apart = [
        phantom_images(Phantom((part,), np.eye(4)), PROTOCOL, MATRIX, FOV_M) for part in (grey, fat)
    ]
    assert torch.allclose(together, apart[0] + apart[1], atol=1e-4 * float(together.abs().max()))
    rows = {name: (value,) for name, value in FAT.items()}
    table = TissueTable(("fat",), (1.0,), source="test", **rows)
    fields = Fields(
        torch.full((MATRIX, MATRIX), -40.0, dtype=torch.float64),
        torch.ones(MATRIX, MATRIX, dtype=torch.float64),
    )
    scene = Scene(PROTOCOL, VoxelGrid(MATRIX, FOV_M), fields, table)
    reference = build_operator(scene, EngineOptions(engine=Engine.REFERENCE)).operator
    expected = reference.forward(torch.from_numpy(density(2)))
    assert float((apart[1] - expected).norm() / expected.norm()) < 1e-3


def test_a_finer_phantom_is_simulated_on_its_own_grid() -> None:
    fine = np.kron(density(3)[0], np.ones((2, 2), np.float32))[None]
    whole = np.concatenate([fine, fine])
    phantom = Phantom((make_part("a", whole, dict(GREY)),), np.diag([6.25, 6.25, 5.0, 1.0]))
    plane = phantom.slice(SliceSpec.parse("index:1"), MATRIX, 1e3 * FOV_M)
    assert plane.density.shape[-1] == 2 * MATRIX
    assert np.array_equal(plane.density, fine)
    coarse = Phantom((make_part("a", density(3), dict(GREY)),), np.eye(4))
    one, other = (phantom_images(p, PROTOCOL, MATRIX, FOV_M) for p in (plane, coarse))
    ratio = float((one / MATRIX).abs().mean() / (other / MATRIX).abs().mean())
    assert 0.9 < ratio < 1.1
