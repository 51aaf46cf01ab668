"""Scans whose truth is known, and whether a fit's intervals are checked against it rightly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scan_phantom import made_up_response

from bmapest_ray.anatomy.volume import AnatomyVolume
from bmapest_ray.scan.coverage import Checked, gains, tissue_values
from bmapest_ray.scan.estimate import ScanFit
from bmapest_ray.scan.estimation import NuisanceFit
from bmapest_ray.scan.independent import off_values, spin_places, still
from bmapest_ray.scan.nuisances import BIAS_DEGREE, Layout, SignalModel, polynomials
from bmapest_ray.scan.synthetic import coil_beside, known_scan, padded_planes
from bmapest_ray.scan.tissue_mixture import gaussian_mixture
from bmapest_ray.scan.voxels import NoiseLevel
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.tissue.table import PAPER_3T

SHAPE = (3, 20, 16)


def made_volume() -> AnatomyVolume:
    fraction = np.random.default_rng(0).dirichlet([1, 1, 1], SHAPE).transpose(3, 0, 1, 2)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-15, -20, -3]
    return AnatomyVolume(fraction.astype(np.float32), affine, "one", "made up")


def test_planes_are_padded_without_moving_a_voxel() -> None:
    volume = made_volume()
    planes = padded_planes(volume, 1, 3)
    assert [p.matrix for p in planes] == [32, 32]
    index = np.array([5, 7, 0, 1])
    index[2] = 2
    world = volume.affine @ index
    x, y, _, _ = np.linalg.inv(planes[1].affine) @ world
    assert planes[1].fraction[:, round(y), round(x)].numpy() == pytest.approx(
        volume.fraction[:, 2, 7, 5]
    )
    assert float(planes[0].fraction.sum()) == pytest.approx(20 * 16, rel=1e-4)


def test_a_known_scan_is_its_image_times_scale_and_coil_with_noise() -> None:
    truth = np.ones((3, *SHAPE), dtype=np.float32) / 3
    clean = np.full(SHAPE, 0.5 + 0.5j, dtype=np.complex64)
    known = known_scan([clean, clean], truth, np.eye(4), 100.0, "a")
    again = known_scan([clean, clean], truth, np.eye(4), 100.0, "a")
    assert np.array_equal(known.scan.images, again.scan.images)
    assert known.scale[0] != known.scale[1]
    for c in range(2):
        shown = known.bias[c] * known.scale[c] * np.sqrt(0.5)
        assert known.sigma[c] == pytest.approx(shown.max() / 100)
        off = (known.scan.images[c] - shown) / known.sigma[c]
        assert off.std() == pytest.approx(1, rel=0.1)
        assert np.median(known.bias[c]) == pytest.approx(1)
    spread = np.log(coil_beside((40, 40, 40), "b"))
    assert 0.3 < float(spread.max() - spread.min()) < 1.5


def test_tissue_values_are_off_by_a_share_each() -> None:
    off = off_values(still(PAPER_3T), 0.05, "20")
    for row, name in enumerate(("t1_s", "t2_s", "pd")):
        ratio = off.table.column(name) / PAPER_3T.column(name)
        assert torch.allclose((ratio - 1).abs(), torch.full((3,), 0.05, dtype=torch.float64))
        assert torch.allclose(ratio.log(), off.logs[row])
    assert off_values(PAPER_3T, 0.05, "38").logs.tolist() != off.logs.tolist()


def test_spins_of_two_by_two_voxels_cancel_under_every_turn_of_the_spoiler() -> None:
    places = spin_places(VoxelGrid(8, 0.016), 4)
    assert (
        float((places[:, :, :2].mean(0) - VoxelGrid(8, 0.016).positions_m()[:, :2]).abs().max())
        < 1e-12
    )
    block = places.view(4, 4, 2, 4, 2, 3)[:, 1, :, 2, :, 2].flatten()
    for turns in range(1, 16):
        wound = 2 * torch.pi * 500.0 * turns * block
        assert abs(torch.polar(torch.ones_like(wound), wound).mean()) < 1e-9


def fit_of(vector: torch.Tensor, spread: float) -> ScanFit:
    """Return a fit that found a vector, every entry with one spread and no correlation."""
    model = SignalModel(made_up_response(2), Layout(2, 3))
    covariance = torch.eye(len(vector), dtype=torch.float64) * spread**2
    level = NoiseLevel(torch.ones(2), torch.zeros(2))
    found = NuisanceFit(vector, covariance, vector, vector, level, torch.ones(1), ())
    mask = np.ones(SHAPE, dtype=bool)
    empty = np.zeros((3, *SHAPE), dtype=np.float32)
    none = np.zeros(3)
    return ScanFit(None, mask, empty, empty, empty[0], empty, found, model, none, none)  # type: ignore[arg-type]


def test_truth_is_looked_for_in_the_stated_intervals() -> None:
    layout = Layout(2, 3)
    generator = torch.Generator().manual_seed(0)
    vector = 0.1 * torch.randn(layout.total, generator=generator).double()
    z, y, x = np.indices(SHAPE).reshape(3, -1)
    place = torch.from_numpy(np.stack([x, y, z], 1)).double()
    terms = polynomials(2 * place / place.amax(0) - 1, BIAS_DEGREE)
    parts = layout.split(vector)
    log_bias = (terms[:, 1:] @ parts["bias"].T).T.reshape(2, *SHAPE).numpy()
    scale = parts["scale"].exp().numpy()
    held, inside = gains(fit_of(vector, 0.01), scale, np.exp(log_bias).astype(np.float64))
    assert [one.error for one in held] == pytest.approx([0, 0], abs=1e-9)
    assert held[0].spread == pytest.approx(0.01 * float(terms.mean(0).norm()))
    assert inside == 1
    wrong = np.exp(log_bias + 0.5 * np.indices(SHAPE)[2] / SHAPE[2])
    assert gains(fit_of(vector, 0.01), scale, wrong)[1] < 0.5
    logs = torch.stack([parts[n] for n in ("t1", "t2", "pd")])
    assert all(one.inside for one in tissue_values(fit_of(vector, 0.01), logs))
    moved = tissue_values(fit_of(vector, 0.01), logs + 0.03)
    assert [one.error for one in moved] == pytest.approx([-0.03] * 9)
    assert not any(one.inside for one in moved)
    assert replace(moved[0], spread=0.02).inside == Checked("", -0.03, 0.02).inside is True


@pytest.mark.parametrize("parts", [3, 5])
def test_a_mixture_names_its_classes_by_brightness(parts: int) -> None:
    rng = np.random.default_rng(0)
    level = np.repeat([100.0, 200.0, 300.0], 400)
    image = rng.normal(level, 8).reshape(3, 20, 20).astype(np.float32)
    found = gaussian_mixture(image, np.ones(image.shape, bool), parts)
    means = found.mean((2, 3))
    assert np.argmax(means, axis=0).tolist() == [2, 0, 1]  # CSF, GM, WM by plane
    assert np.allclose(found.sum(0), 1, atol=1e-5)
