import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.maps import TissueMaps, subject_name
from bmapest_ray.anatomy.slices import SliceSpec, extract_slice, extract_volume
from bmapest_ray.anatomy.volume import AnatomyVolume, normalise
from bmapest_ray.base.errors import InvalidInput


def volume(fraction, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return AnatomyVolume(np.asarray(fraction, dtype=np.float32), affine, "sub-7", "phantom")


def block(shape, box, tissue=0):
    """A block of one tissue; shape and box are given along z, y, x."""
    fraction = np.zeros((3, *shape), dtype=np.float32)
    fraction[(tissue, *[slice(a, b) for a, b in box])] = 1
    return fraction


@pytest.mark.parametrize("text", ["below-top:75", "z:12.5", "index:90", "z:-0.1"])
def test_slice_text_round_trips(text):
    assert str(SliceSpec.parse(text)) == text
    assert SliceSpec.parse(str(SliceSpec.parse(text))) == SliceSpec.parse(text)


@pytest.mark.parametrize(
    "text", ["75", "below-top:", "below-top:-1", "index:1.5", "index:-1", "z:1e999", "belowtop:7"]
)
def test_bad_slice_text_is_refused(text):
    with pytest.raises(InvalidInput):
        SliceSpec.parse(text)


def test_planes_are_counted_from_the_top_of_the_brain_mask():
    fraction = block((20, 4, 4), [(3, 16), (0, 4), (0, 4)])
    fraction[0, 16:18] = 0.49  # below the threshold of the mask
    head = volume(fraction, spacing=(1, 1, 2.0), origin=(0, 0, -10.0))
    assert SliceSpec("below-top", 0).plane(head) == 15
    assert SliceSpec("below-top", 8).plane(head) == 11
    assert SliceSpec("below-top", 8.9).plane(head) == 11
    assert SliceSpec("z", -10).plane(head) == 0
    assert SliceSpec("z", 9.1).plane(head) == 10
    assert SliceSpec("index", 19).plane(head) == 19


@pytest.mark.parametrize("where", ["index:20", "z:-11.1", "z:30", "below-top:80"])
def test_slices_outside_the_volume_are_refused(where):
    head = volume(block((20, 4, 4), [(3, 16), (0, 4), (0, 4)]), (1, 1, 2.0), (0, 0, -10.0))
    with pytest.raises(InvalidInput, match="inside the volume of subject 7"):
        extract_slice(head, SliceSpec.parse(where))


def test_a_slice_without_tissue_and_a_head_without_brain_are_refused():
    head = volume(block((20, 4, 4), [(3, 16), (0, 4), (0, 4)]))
    with pytest.raises(InvalidInput, match="no tissue"):
        extract_slice(head, SliceSpec("index", 19))
    only_csf = volume(block((20, 4, 4), [(3, 16), (0, 4), (0, 4)], tissue=2))
    with pytest.raises(InvalidInput, match="GM \\+ WM"):
        extract_slice(only_csf, SliceSpec("index", 5))


def test_pixels_hold_the_exact_overlap_area():
    # one voxel of 1 mm, centred: a 2 x 2 matrix over 4 mm gives each pixel a quarter of 1 mm2 / 4
    head = volume(block((3, 5, 5), [(0, 3), (2, 3), (2, 3)]))
    maps = extract_slice(head, SliceSpec("index", 1), matrix=2, fov_mm=4.0)
    torch.testing.assert_close(maps.fraction[0], torch.full((2, 2), 1 / 16))
    # anisotropic voxels and pixels that cut them: analytic overlap of 3 x 1.5 mm with 1 mm pixels
    wide = volume(block((1, 5, 5), [(0, 1), (2, 3), (2, 3)]), spacing=(3.0, 1.5, 1.0))
    maps = extract_slice(wide, SliceSpec("index", 0), matrix=4, fov_mm=4.0)
    x = torch.tensor([0.5, 1.0, 1.0, 0.5])
    y = torch.tensor([0.0, 0.75, 0.75, 0.0])
    torch.testing.assert_close(maps.fraction[0], y[:, None] * x)


def test_area_is_kept_when_the_field_of_view_holds_the_head_and_lost_where_it_ends():
    rng = np.random.default_rng(0)
    fraction = rng.dirichlet([1, 1, 1, 1], size=(2, 17, 13)).transpose(3, 0, 1, 2)[:3]
    fraction[0, 0] = 1  # the mask spans the whole grid
    fraction[1:, 0] = 0
    head = volume(fraction, spacing=(1.1, 0.9, 1.0), origin=(-3.0, 7.0, 0.0))
    voxel_area = 1.1 * 0.9
    for matrix, fov in [(8, 20.0), (10, 33.3), (64, 20.0)]:
        maps = extract_slice(head, SliceSpec("index", 1), matrix, fov)
        area = maps.fraction.double().sum((1, 2)) * (fov / matrix) ** 2
        np.testing.assert_allclose(area, fraction[:, 1].sum((1, 2)) * voxel_area, rtol=1e-5)
    small = extract_slice(head, SliceSpec("index", 0), 4, 8.0)
    torch.testing.assert_close(small.fraction[0], torch.ones(4, 4))


def test_affine_maps_pixels_of_an_asymmetric_head_to_the_right_world_point():
    shape = (4, 40, 60)
    fraction = block(shape, [(0, 4), (0, 40), (0, 60)])  # GM everywhere places the box
    fraction[:, 2, 31, 9] = (0, 1, 0)  # one WM voxel: left of the middle, anterior
    head = volume(fraction, spacing=(2.0, 3.0, 5.0), origin=(-61.0, -44.0, 12.0))
    world = nibabel.affines.apply_affine(head.affine, [9, 31, 2])
    maps = extract_slice(head, SliceSpec("index", 2), matrix=120, fov_mm=120.0)  # 1 mm pixels
    y, x = torch.nonzero(maps.fraction[1] > 0, as_tuple=True)
    weight = maps.fraction[1][y, x].numpy()
    points = nibabel.affines.apply_affine(maps.affine, np.stack([x, y, 0 * x], 1))
    np.testing.assert_allclose((points * weight[:, None]).sum(0) / weight.sum(), world, atol=1e-5)
    assert nibabel.aff2axcodes(maps.affine) == ("R", "A", "S")
    middle = maps.matrix / 2
    assert x.max() < middle < y.min()
    assert maps.affine[2, 2] == 5.0
    assert maps.fov_mm == pytest.approx(120.0)


def test_field_of_view_is_centred_on_the_brain_box_by_pixel_edges():
    head = volume(block((1, 30, 30), [(0, 1), (4, 10), (11, 22)]), origin=(-5.0, 3.0, 0.0))
    maps = extract_slice(head, SliceSpec("index", 0), matrix=8, fov_mm=24.0)
    corner = np.array([-0.5, -0.5, 0, 1])
    opposite = np.array([7.5, 7.5, 0, 1])
    centre = (maps.affine @ corner + maps.affine @ opposite) / 2
    np.testing.assert_allclose(centre[:2], [-5 + (11 + 21) / 2, 3 + (4 + 9) / 2])
    np.testing.assert_allclose((maps.affine @ opposite - maps.affine @ corner)[:2], 24.0)


def test_corner_labels_are_those_of_the_voxel_at_the_low_corner():
    fraction = np.zeros((3, 1, 8, 8), dtype=np.float32)
    fraction[0] = 1
    fraction[:, 0, 2, 4] = (0, 1, 0)
    fraction[:, 0, 4, 2] = (0, 0, 1)
    fraction[:, 0, 6, 6] = 0
    maps = extract_slice(volume(fraction), SliceSpec("index", 0), matrix=4, fov_mm=8.0)
    expected = torch.ones(4, 4, dtype=torch.int64)
    expected[1, 2], expected[2, 1], expected[3, 3] = 2, 3, 0
    assert torch.equal(maps.corner_labels, expected)
    wide = extract_slice(volume(fraction), SliceSpec("index", 0), matrix=8, fov_mm=16.0)
    assert torch.equal(wide.corner_labels[2:6, 2:6], expected)
    assert int(wide.corner_labels.sum()) == int(expected.sum())


def test_every_plane_with_tissue_equals_its_own_slice():
    rng = np.random.default_rng(1)
    fraction = np.zeros((3, 7, 9, 9))
    fraction[:, 2:6] = rng.dirichlet([1, 1, 1, 1], size=(4, 9, 9)).transpose(3, 0, 1, 2)[:3]
    head = volume(fraction, spacing=(1, 1, 3.0), origin=(0, 0, 100.0))
    planes = extract_volume(head, 4, 9.0)
    assert [z for z, _ in planes] == [106.0, 109.0, 112.0, 115.0]
    for z, maps in planes:
        one = extract_slice(head, SliceSpec("z", z), 4, 9.0)
        assert torch.equal(one.fraction, maps.fraction)
        assert one.digest == maps.digest


@pytest.mark.parametrize(("matrix", "fov"), [(7, 9.0), (0, 9.0), (4, 0.0), (4, float("nan"))])
def test_bad_grids_are_refused(matrix, fov):
    with pytest.raises(InvalidInput):
        extract_slice(
            volume(block((1, 3, 3), [(0, 1), (0, 3), (0, 3)])), SliceSpec("index", 0), matrix, fov
        )


def test_maps_refuse_what_breaks_their_rules_and_have_a_content_digest():
    good = torch.full((3, 4, 4), 0.25)
    maps = TissueMaps(good, np.eye(4), "sub-42", "x")
    assert (maps.subject, maps.matrix, maps.fov_mm) == ("42", 4, 4.0)
    assert subject_name("42") == subject_name("sub-42")
    assert maps.digest == TissueMaps(good.clone(), np.eye(4), "43", "y").digest
    assert maps.digest != TissueMaps(good, 2 * np.eye(4), "42", "x").digest
    nan = good.clone()
    nan[0, 0, 0] = torch.nan
    for bad in [nan, good * 2, good - 0.5, good[:2], good[:, :2]]:
        with pytest.raises(InvalidInput):
            TissueMaps(bad, np.eye(4), "42", "x")
    with pytest.raises(InvalidInput):
        TissueMaps(good, np.eye(4), "42", "x", corner_labels=torch.zeros(2, 2))


def test_oblique_and_flipped_volumes_are_refused_and_rounding_is_not():
    fraction = block((2, 2, 2), [(0, 2), (0, 2), (0, 2)])
    tilted = np.eye(4)
    tilted[0, 1], tilted[1, 0] = -0.02, 0.02
    for affine in (tilted, np.diag([-1.0, 1, 1, 1])):
        with pytest.raises(InvalidInput, match="world axes"):
            AnatomyVolume(fraction, affine, "1", "x")
    AnatomyVolume(fraction, np.eye(4) + np.diag([1e-6] * 3, k=1), "1", "x")


def test_normalising_clips_rounding_and_refuses_real_excess():
    fraction = np.zeros((3, 1, 1, 3), dtype=np.float32)
    fraction[:, 0, 0, 0] = (0.5, 0.503, 0.0)
    fraction[:, 0, 0, 1] = (-0.0005, 0.2, 0.3)
    normalised = normalise(fraction, "x")
    assert normalised.sum(0).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(normalised[:, 0, 0, 1], np.float32([0, 0.2, 0.3]))
    fraction[:, 0, 0, 2] = (0.6, 0.6, 0)
    with pytest.raises(InvalidInput, match="sum to at most 1"):
        normalise(fraction, "x")
