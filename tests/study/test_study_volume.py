"""Whole volumes, and error bars over noise draws."""

import pytest
import torch

from bmapest_ray.anatomy.catalog import open_anatomy
from bmapest_ray.anatomy.slices import extract_volume
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.solve import invert_batch
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.study import volume
from bmapest_ray.study.calibration import NOMINAL, CalibrationCase, calibrate
from bmapest_ray.study.volume import invert_volume
from bmapest_ray.tissue.fields import make_fields
from bmapest_ray.tissue.table import PAPER_3T


@pytest.fixture(scope="module")
def slices():
    anatomy = open_anatomy("mni152")
    return extract_volume(anatomy.volume(anatomy.subjects[0]), 16, 216.0)[20:140:12]


@pytest.fixture(scope="module")
def built(slices):
    fields = make_fields("none", "none", slices[0][1])
    return build_operator(Scene(parse_protocol("t2prep"), VoxelGrid(16, 0.216), fields, PAPER_3T))


def test_every_slice_of_a_volume_is_found_and_lies_where_it_was(slices, built):
    told = []
    found = invert_volume(slices, built, snr=None, batch=4, told=lambda *n: told.append(n))
    assert told == [(number, 10) for number in range(1, 11)]
    assert found.maps.shape == (3, 10, 16, 16)
    assert min(found.psnr_db) > 60
    for number, (z_mm, maps) in enumerate(slices):
        assert (found.affine @ [0, 0, number, 1])[2] == pytest.approx(z_mm)
        assert torch.equal(found.truth[:, number], maps.fraction)


def test_a_batch_that_does_not_fit_is_halved(slices, built, monkeypatch):
    whole = invert_volume(slices, built, snr=None, batch=8)
    sizes = []

    def short_of_memory(measured, *args, **kwargs):
        sizes.append(len(measured.images))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return invert_batch(measured, *args, **kwargs)

    monkeypatch.setattr(volume, "invert_batch", short_of_memory)
    found = invert_volume(slices, built, snr=None, batch=8)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert torch.allclose(found.maps, whole.maps, atol=1e-3)  # noise-free fits end at 1e-5 rms


def test_noise_of_a_volume_has_one_level_and_costs_accuracy(slices, built):
    clean = invert_volume(slices[4:6], built, snr=None)
    noisy = invert_volume(slices[4:6], built, snr=50.0)
    assert max(noisy.psnr_db) < min(clean.psnr_db) - 20


def test_slices_at_uneven_places_are_refused(slices, built):
    uneven = [slices[0], slices[1], slices[4]]
    with pytest.raises(InvalidInput, match="equally far apart"):
        invert_volume(uneven, built, snr=None)


@pytest.mark.parametrize("signal", ["complex", "magnitude"])
def test_error_bars_are_the_errors(signal):
    case = CalibrationCase("small", "t1inv,t2prep", 300, signal, filled=signal == "magnitude")
    found = calibrate(case, anatomy="mni152", subject="mni152", matrix=16, draws=20)
    assert found.unfinished == 0
    assert found.ratio == pytest.approx(1, abs=0.1)
    assert found.covered == pytest.approx(NOMINAL, abs=0.03)
