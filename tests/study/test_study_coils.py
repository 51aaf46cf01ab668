"""Receive coils of a study: analytic and from NIfTI, through simulation, inversion and digests."""

import dataclasses
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import BmapestError
from bmapest_ray.simulate.reconstruct import kspace_of
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.data import simulate_data
from bmapest_ray.study.job import run_job
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.plan import one_job
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.tissue.fields import analytic_coils

MATRIX, FOV_MM = 16, 216.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> JobCache:
    return JobCache(folder=tmp_path_factory.mktemp("operators"))


def job(coils: str | int, **sections: Any) -> JobSpec:
    raw = {
        "name": "coils",
        "question": "?",
        "anatomy": {"matrix": MATRIX, "fov_mm": FOV_MM},
        "protocols": ["t2prep"],
        "fields": {"b0": "analytic", "b1": "none", "coils": coils},
        "signal": "complex",
    }
    return one_job(parse_study({**raw, **sections}))


def written(path: Path, maps: torch.Tensor, affine: np.ndarray) -> Path:
    """Coil maps (coil, y, x) of a slice as a complex NIfTI file, three planes thick."""
    volume = np.repeat(maps.numpy().transpose(2, 1, 0)[:, :, None], 3, axis=2)
    shifted = affine.copy()
    shifted[:3, 3] -= shifted[:3, 2]
    nibabel.Nifti1Image(volume, shifted).to_filename(path)
    return path


def test_one_coil_leaves_the_id_of_a_job_as_it_was_without_coils() -> None:
    spec = job(1)
    known = {f.name: getattr(spec.model, f.name) for f in dataclasses.fields(spec.model)}
    kept = {k: v for k, v in known.items() if k not in ("coils", "tissue_table")}
    assert digest(spec.model) == digest(kept)
    assert len({job(n).id for n in (1, 2, 3)}) == 3
    assert job("2").id == job(2).id


def test_coils_of_a_file_weigh_the_object_so_that_they_sum_to_its_image(
    cache: JobCache, tmp_path: Path
) -> None:
    one = simulate_data(job(1), cache)
    left = analytic_coils(1, MATRIX)[0]
    maps = torch.stack([left, 1 - left])
    path = written(tmp_path / "coils.nii.gz", maps, one.truth.affine)
    both = simulate_data(job(str(path)), cache)
    assert [channel.coil for channel in both.operator.channels[:4]] == [0, 1, 0, 1]
    summed = both.images.view(-1, 2, MATRIX, MATRIX).sum(dim=1)
    assert float((summed - one.images).norm() / one.images.norm()) < 1e-3


def test_analytic_coils_recover_the_maps_and_equal_their_own_file(
    cache: JobCache, tmp_path: Path
) -> None:
    three = simulate_data(job(3), cache)
    path = written(tmp_path / "three.nii.gz", analytic_coils(3, MATRIX), three.truth.affine)
    again = simulate_data(job(str(path)), cache)
    assert float((again.images - three.images).norm() / three.images.norm()) < 1e-4
    assert kspace_of(three.images).shape == (12, MATRIX, MATRIX)
    result = run_job(job(3), cache)
    assert all((row["psnr_db"] or 0) > 50 for row in result.scores.values())


@pytest.mark.parametrize(
    ("coils", "words"), [(0, r"1\.\.64 coils"), ("99", "got 99"), ("nowhere.nii.gz", "nowhere")]
)
def test_wrong_coils_are_refused(coils: str | int, words: str) -> None:
    with pytest.raises(BmapestError, match=words):
        job(coils)
