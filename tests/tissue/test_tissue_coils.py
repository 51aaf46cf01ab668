"""Receive sensitivities from a complex NIfTI file."""

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.tissue.fields import make_fields

MATRIX, FOV_MM = 8, 160.0


@pytest.fixture
def maps():
    pixel = FOV_MM / MATRIX
    affine = np.diag([pixel, pixel, 8.0, 1.0])
    affine[:2, 3] = (0.5 - MATRIX / 2) * pixel
    return TissueMaps(torch.full((3, MATRIX, MATRIX), 0.3), affine, "test", "test")


def linear_coils(path, flip=False):
    """Two coils that are linear in world x and y, on a finer grid, perhaps stored from +x on."""
    size, step = (40, 36, 3), 6.0
    affine = np.diag([step, step, 8.0, 1.0])
    affine[:3, 3] = [-step * (size[0] - 1) / 2, -step * (size[1] - 1) / 2, -8.0]
    x, y = (affine[i, 3] + step * np.arange(size[i]) for i in range(2))
    world = np.broadcast_to((0.01 * x[:, None] + 0.02j * y[None])[:, :, None], size)
    coils = np.stack([1.0 + world, 0.5j - world], axis=-1).astype(np.complex64)
    if flip:
        coils, affine = (
            coils[::-1],
            affine @ np.array([[-1, 0, 0, size[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        )
    nibabel.save(nibabel.Nifti1Image(coils, affine), path)
    return path


@pytest.mark.parametrize("flip", [False, True])
def test_coils_lie_where_their_affine_says(maps, tmp_path, flip):
    path = linear_coils(tmp_path / "coils.nii.gz", flip)
    coils = make_fields("none", "none", maps, coils=path).coils
    assert coils.shape == (2, MATRIX, MATRIX)
    mm = (np.arange(MATRIX) + 0.5 - MATRIX / 2) * FOV_MM / MATRIX
    expected = 0.01 * mm[None, :] + 0.02j * mm[:, None]
    assert coils[0].numpy() == pytest.approx(1.0 + expected, abs=1e-5)
    assert coils[1].numpy() == pytest.approx(0.5j - expected, abs=1e-5)


def test_coil_files_that_cannot_be_are_refused(maps, tmp_path):
    with pytest.raises(MissingInput, match="there are none"):
        make_fields("none", "none", maps, coils=tmp_path / "no.nii.gz")
    real = tmp_path / "real.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 2, 2), np.float32), np.eye(4)), real)
    with pytest.raises(InvalidInput, match="must hold complex numbers"):
        make_fields("none", "none", maps, coils=real)
    small = tmp_path / "small.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 2, 2), np.complex64), np.eye(4)), small)
    with pytest.raises(InvalidInput, match="must cover the head"):
        make_fields("none", "none", maps, coils=small)
