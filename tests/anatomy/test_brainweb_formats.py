import gzip
import io

import nibabel
import numpy as np
import pytest
from brainweb_phantom import GRID, labels, minc, write_gz
from scipy.io import netcdf_file

from bmapest_ray.anatomy.brainweb_formats import BRAINWEB_GRID, Grid, read_bytes_volume
from bmapest_ray.base.errors import InvalidInput, MissingInput

LEVELS = np.random.default_rng(3).integers(0, 256, GRID.shape).astype(np.uint8)
MOSTLY_EMPTY = np.where(LEVELS > 200, LEVELS, 0).astype(np.uint8)


def values(volume):
    return np.stack([volume.plane(z) for z in range(volume.grid.shape[0])])


def test_crisp_minc_gives_labels_and_the_grid_of_its_header(tmp_path):
    grid = Grid(GRID.shape, (1.0, 2.0, 3.0), (0.5, 0.25, 2.0))
    path = write_gz(tmp_path / "a.mnc.gz", minc(labels(), signed=False, grid=grid))
    volume = read_bytes_volume(path, crisp=True)
    np.testing.assert_array_equal(values(volume), labels())
    assert volume.grid == grid


def test_missing_last_scalar_is_padded_where_other_readers_fail(tmp_path):
    content = minc(labels(), signed=False, cut_tail=True)
    path = write_gz(tmp_path / "a.mnc.gz", content)
    with pytest.raises(ValueError, match="cannot reshape"):
        netcdf_file(io.BytesIO(content), mmap=False)
    with pytest.raises(ValueError, match="cannot reshape"):
        nibabel.load(path)
    np.testing.assert_array_equal(values(read_bytes_volume(path, crisp=True)), labels())


def test_fuzzy_minc_is_scaled_plane_by_plane(tmp_path):
    """real value = (int8 + 128) / 255 * image-max[plane]."""
    highest = np.linspace(0.0, 0.996, GRID.shape[0])
    path = write_gz(tmp_path / "a.mnc", minc(LEVELS, image_max=highest))
    volume = read_bytes_volume(path, crisp=False)
    np.testing.assert_allclose(values(volume), LEVELS / 255 * highest[:, None, None], atol=1e-7)


def test_minc_agrees_with_nibabel_where_that_can_read(tmp_path):
    content = minc(LEVELS, image_max=0.9997, image_min=-1.2e-7)
    volume = read_bytes_volume(write_gz(tmp_path / "a.mnc", content), crisp=False)
    image = nibabel.load(tmp_path / "a.mnc")
    np.testing.assert_allclose(values(volume), image.get_fdata(), atol=1e-7)
    x, y, z = volume.grid.start_mm
    np.testing.assert_allclose(image.affine[:3, 3], [x, y, z])
    np.testing.assert_allclose(image.affine[:3, ::-1][:, 1:], np.eye(3) * 0.5)


@pytest.mark.parametrize("name", ["a.i8.gz", "a.rawb.gz", "a.rawb"])
@pytest.mark.parametrize("shift", [0, 128])
def test_headerless_fractions_are_read_with_either_zero(tmp_path, name, shift):
    stored = MOSTLY_EMPTY + np.uint8(shift)  # signed bytes: level 0 is -128, byte 0x80
    path = write_gz(tmp_path / name, stored.tobytes())
    volume = read_bytes_volume(path, crisp=False, grid=GRID)
    np.testing.assert_allclose(values(volume), MOSTLY_EMPTY / 255, atol=1e-7)


def test_headerless_labels_and_the_standard_grid(tmp_path):
    path = write_gz(tmp_path / "a.rawb.gz", labels().tobytes())
    np.testing.assert_array_equal(values(read_bytes_volume(path, True, GRID)), labels())
    assert BRAINWEB_GRID.shape == (362, 434, 362)


WHOLE = gzip.compress(bytes(1000))


@pytest.mark.parametrize(
    ("content", "crisp", "says"),
    [
        (WHOLE[: len(WHOLE) // 2], True, "whole gzip"),
        (b"\n<html>busy</html>", True, "web page"),
        (b"\x89HDF\r\n", True, "MINC 2"),
        (bytes(1000), True, "got 1000 bytes"),
        (minc(labels())[:3000], True, "whole MINC 1"),
        (minc(labels(), step_sign=-1.0), True, r"axes along \+R"),
        (minc(np.full(GRID.shape, 40, "u1"), signed=False), True, "labels up to 3"),
        (minc(LEVELS, image_max=0.99), True, "labels up to 3"),
        (np.full(GRID.shape, 77, "u1").tobytes(), False, "got byte 77"),
    ],
)
def test_other_content_is_refused(tmp_path, content, crisp, says):
    path = tmp_path / "a.mnc.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        read_bytes_volume(path, crisp, GRID)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MissingInput, match=r"nothing\.mnc"):
        read_bytes_volume(tmp_path / "nothing.mnc", crisp=True)
