import json

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.bids_io import map_path, read_map, read_maps, sidecar, write_maps
from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.resample import field_on_slice
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.tissues import TISSUES

RNG = np.random.default_rng(5)
FRACTION = RNG.dirichlet([1, 1, 1, 0.3], size=(6, 5, 4)).transpose(3, 0, 1, 2)[:3].astype("f4")
AFFINE = np.array([[2.0, 0, 0, -4], [0, 3, 0, -8], [0, 0, 4, 10], [0, 0, 0, 1]])


@pytest.fixture
def folder(tmp_path):
    for name in ("01", "02"):
        write_maps(FRACTION, AFFINE, tmp_path, name)
    return tmp_path


def rewrite(path, change=lambda data: data, affine=None, unit="mm"):
    old = nibabel.load(path)
    image = nibabel.Nifti1Image(
        change(old.get_fdata().astype("f4")), old.affine if affine is None else affine
    )
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


def test_folder_is_read_back_as_written(folder):
    anatomy = open_anatomy(f"bids:{folder}")
    assert anatomy.subjects == ("01", "02")
    volume = anatomy.volume("sub-01")
    np.testing.assert_array_equal(volume.fraction, FRACTION)
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.subject == "01"
    assert open_anatomy(anatomy.spec).digest("01") == anatomy.digest("sub-01")


def test_digest_follows_content(folder):
    anatomy = open_anatomy(f"bids:{folder}")
    before = anatomy.digest("01")
    assert before == anatomy.digest("02")
    where = SliceSpec("index", 2)
    old = load_slice(anatomy, "01", where, 4, 12.0).fraction
    write_maps(FRACTION[[1, 0, 2]], AFFINE, folder, "01")
    assert anatomy.digest("01") != before
    assert torch.equal(load_slice(anatomy, "01", where, 4, 12.0).fraction, old[[1, 0, 2]])
    assert torch.equal(load_slice(anatomy, "02", where, 4, 12.0).fraction, old)


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SAL", "LPI"])
def test_any_axis_order_is_read_as_ras(folder, codes):
    for tissue in TISSUES:
        path = map_path(folder, "01", tissue, None, "probseg")
        image = nibabel.load(path)
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(image.affine),
            nibabel.orientations.axcodes2ornt(codes),
        )
        turned = image.as_reoriented(turn)
        assert nibabel.aff2axcodes(turned.affine) == tuple(codes)
        nibabel.save(turned, path)
    volume = open_anatomy(f"bids:{folder}").volume("01")
    np.testing.assert_array_equal(volume.fraction, FRACTION)
    np.testing.assert_allclose(volume.affine, AFFINE)


def put_nan(data):
    data[0, 0, 0] = np.nan
    return data


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        ({"change": put_nan}, "finite"),
        ({"change": lambda d: d * 255}, r"in \[0, 1\]"),
        ({"change": lambda d: d - 0.5}, r"in \[0, 1\]"),
        ({"change": lambda d: d * 0 + 1}, "sum to at most 1"),
        ({"change": lambda d: d[1:]}, "share shape and affine"),
        ({"affine": AFFINE + np.eye(4, k=3)}, "share shape and affine"),
        ({"change": lambda d: d[..., None]}, "3-D"),
        ({"unit": "meter"}, "millimetres, its header says meter"),
        ({"unit": "micron"}, "millimetres"),
    ],
)
def test_each_broken_file_is_refused_by_its_rule(folder, edit, rule):
    rewrite(map_path(folder, "01", "WM", None, "probseg"), **edit)
    anatomy = open_anatomy(f"bids:{folder}")
    with pytest.raises(InvalidInput, match=rule):
        anatomy.volume("01")
    anatomy.volume("02")


def test_a_file_that_does_not_say_where_it_lies_is_refused(tmp_path):
    image = nibabel.Nifti1Image(FRACTION[0], None)
    nibabel.save(image, tmp_path / "lost.nii.gz")
    with pytest.raises(InvalidInput, match="say where it lies"):
        read_map(tmp_path / "lost.nii.gz")


def test_unreadable_files_are_refused(folder):
    path = map_path(folder, "01", "WM", None, "probseg")
    whole = path.read_bytes()
    for content in (b"not gzip at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="readable"):
            read_map(path)
    with pytest.raises(MissingInput):
        read_map(folder / "absent.nii.gz")


def test_oblique_maps_are_refused(folder):
    tilted = AFFINE @ nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(z=0.1), np.zeros(3))
    for tissue in TISSUES:
        rewrite(map_path(folder, "01", tissue, None, "probseg"), affine=tilted)
    with pytest.raises(InvalidInput, match="oblique"):
        open_anatomy(f"bids:{folder}").volume("01")


def test_missing_tissue_subject_and_folder_are_named(folder, tmp_path):
    anatomy = open_anatomy(f"bids:{folder}")
    with pytest.raises(InvalidInput, match=r"got '03'; did you mean '0\d'\?"):
        anatomy.volume("sub-03")
    map_path(folder, "01", "CSF", None, "probseg").unlink()
    with pytest.raises(MissingInput, match="CSF is missing"):
        anatomy.volume("01")
    (tmp_path / "empty").mkdir()
    for spec in (f"bids:{tmp_path / 'empty'}", f"bids:{tmp_path / 'nowhere'}"):
        with pytest.raises(MissingInput):
            open_anatomy(spec)
    for spec in ("mni125", "bids", "bids:", "brainweb:", "minc:x"):
        with pytest.raises(InvalidInput):
            open_anatomy(spec)


def test_a_single_set_with_more_entities_is_used_and_two_sets_need_a_plain_one(tmp_path):
    write_maps(FRACTION, AFFINE, tmp_path, "01", desc="truth")
    anatomy = open_anatomy(f"bids:{tmp_path}")
    np.testing.assert_array_equal(anatomy.volume("01").fraction, FRACTION)
    write_maps(FRACTION * 0.5, AFFINE, tmp_path, "01", desc="estimate")
    with pytest.raises(InvalidInput, match="one set of maps"):
        anatomy.volume("01")
    write_maps(FRACTION * 0.25, AFFINE, tmp_path, "01")
    np.testing.assert_array_equal(anatomy.volume("01").fraction, FRACTION * np.float32(0.25))


def test_slice_round_trip_keeps_fractions_affine_and_units(tmp_path):
    affine = np.diag([3.375, 3.375, 1.0, 1.0])
    affine[:3, 3] = (-107.3, -122.3, 9.0)
    fraction = torch.from_numpy(FRACTION[:, 0, :4, :4].copy())
    paths = write_maps(fraction, affine, tmp_path, "sub-42", desc="truth", meta={"Slice": "z:9"})
    assert paths[0].name == "sub-42_label-GM_desc-truth_probseg.nii.gz"
    maps = read_maps(tmp_path, "42", desc="truth")
    assert torch.equal(maps.fraction, fraction)
    np.testing.assert_array_equal(maps.affine, affine.astype("f4"))  # NIfTI stores float32
    for path in paths:
        image = nibabel.load(path)
        assert image.shape == (4, 4, 1)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.header["sform_code"] == image.header["qform_code"] == 2
        np.testing.assert_allclose(image.get_qform(), affine, atol=1e-4)
        assert json.loads(sidecar(path).read_text())["Slice"] == "z:9"
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert not list(tmp_path.rglob(".*"))


def test_estimates_outside_the_unit_range_are_written_and_nan_is_not(tmp_path):
    paths = write_maps(np.full((3, 4, 4), 1.5), np.eye(4), tmp_path, "1", suffix="stdev")
    assert nibabel.load(paths[0]).get_fdata().max() == 1.5
    with pytest.raises(InvalidInput, match="finite"):
        write_maps(np.full((3, 4, 4), np.nan), np.eye(4), tmp_path, "1")
    with pytest.raises(InvalidInput, match="desc"):
        write_maps(np.zeros((3, 4, 4)), np.eye(4), tmp_path, "1", desc="a_b")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InvalidInput, match="writable"):
        write_maps(np.zeros((3, 4, 4)), np.eye(4), blocked, "1")


@pytest.fixture
def head():
    affine = np.diag([2.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = (-7.0, -3.0, 5.0)
    fraction = torch.zeros(3, 8, 8)
    fraction[0, 2:6, 1:7] = 1
    return TissueMaps(fraction, affine, "1", "x")


def linear_field(path, affine, shape, unit="mm"):
    """Save a field that is linear in world coordinates, so that linear resampling is exact."""
    index = np.stack([*np.indices(shape), np.ones(shape)])
    world = np.einsum("ij,jabc->iabc", affine, index)
    image = nibabel.Nifti1Image((3 * world[0] - 5 * world[1] + 7 * world[2]).astype("f4"), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def test_linear_fields_are_resampled_exactly_from_any_orientation(tmp_path, head):
    turn = nibabel.eulerangles.euler2mat(z=0.3, y=0.2)
    affine = nibabel.affines.from_matvec(turn * [-2.5, 3.0, 2.0], [40.0, -30.0, -20.0])
    path = linear_field(tmp_path / "b0.nii.gz", affine, (40, 30, 40))
    field = field_on_slice(path, head, "hz")
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    expected = 3 * (2 * x - 7) - 5 * (2 * y - 3) + 7 * 5
    torch.testing.assert_close(field, expected, atol=1e-3, rtol=0)


def test_fields_that_miss_the_head_or_are_implausible_are_refused(tmp_path, head):
    small = np.diag([2.0, 2.0, 1.0, 1.0])
    small[:3, 3] = (-7.0, -3.0, 5.0)
    covering = linear_field(tmp_path / "thin.nii", small, (7, 6, 1))
    assert bool(torch.isfinite(field_on_slice(covering, head, "hz")).all())
    short = linear_field(tmp_path / "short.nii", small, (6, 6, 1))
    with pytest.raises(InvalidInput, match="misses 4 of 24 pixels"):
        field_on_slice(short, head, "hz")
    with pytest.raises(InvalidInput, match="relative transmit field"):
        field_on_slice(covering, head, "relative")
    rewrite(covering, put_nan)
    with pytest.raises(InvalidInput, match="finite"):
        field_on_slice(covering, head, "hz")
