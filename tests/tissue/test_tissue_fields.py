"""Field maps: the analytic ones on the default slice, from files, coils, and what is refused."""

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.tissue.fields import Fields, analytic_coils, make_fields, pixel_coordinates
from bmapest_ray.tissue.table import PAPER_3T


@pytest.fixture(scope="module")
def default_slice():
    anatomy = open_anatomy("mni152")
    return load_slice(anatomy, anatomy.subjects[0], SliceSpec.parse("below-top:75"))


def maps_of(fraction, fov_mm=160.0):
    pixel = fov_mm / fraction.shape[-1]
    affine = np.diag([pixel, pixel, 8.0, 1.0])
    affine[:2, 3] = (0.5 - fraction.shape[-1] / 2) * pixel
    return TissueMaps(fraction, affine, "test", "test")


def random_maps(seed, matrix=16):
    generator = torch.Generator().manual_seed(seed)
    return maps_of(torch.rand((3, matrix, matrix), generator=generator) / 3)


def write(path, data, affine=None):
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), affine), path)
    return str(path)


def test_analytic_fields_are_centred_by_density_on_the_default_slice(default_slice):
    fields = make_fields("analytic", "analytic", default_slice)
    density = (default_slice.fraction.double() * PAPER_3T.column("pd")[:, None, None]).sum(0)
    weight = density / density.sum()
    assert float((weight * fields.b1).sum()) == pytest.approx(1.0, abs=1e-6)
    assert float((weight * fields.b0_hz).sum()) == pytest.approx(0.0, abs=1e-4)


def test_analytic_b0_spans_the_stated_range_in_the_head(default_slice):
    fields = make_fields("analytic", "analytic", default_slice)
    inside = fields.b0_hz[default_slice.head]
    assert float(inside.min()) == pytest.approx(-10.9, abs=0.2)
    assert float(inside.max()) == pytest.approx(44.9, abs=0.2)
    assert float(fields.b1[default_slice.head].min()) > 0.85
    assert float(fields.b1.max()) < 1.1


def test_analytic_fields_follow_their_formula():
    fields = make_fields("analytic", "analytic", random_maps(0))
    shapes = []
    for row, column in ((12, 3), (2, 9)):
        x, y = (column + 0.5) / 8 - 1, (row + 0.5) / 8 - 1
        assert (pixel_coordinates(16)[1][row, column], pixel_coordinates(16)[0][row, column]) == (
            x,
            y,
        )
        d = 0.4 * x**2 + 0.2 * (y - 0.7) ** 2
        shapes.append((7 / (0.05 + d) - 45 / (0.3 + d), 0.4 * x**2 + 0.2 * y**2))
    (b0_one, b1_one), (b0_two, b1_two) = shapes
    # a difference removes the stored shift, a ratio the stored scale
    difference = float(fields.b0_hz[12, 3] - fields.b0_hz[2, 9])
    assert difference == pytest.approx(b0_one - b0_two, rel=1e-12)
    ratio = float(fields.b1[12, 3] / fields.b1[2, 9])
    assert ratio == pytest.approx(np.exp(b1_two - b1_one), rel=1e-12)


@pytest.mark.parametrize("matrix", [8, 16, 64])
def test_analytic_fields_are_symmetric_in_x_and_not_in_y(matrix):
    fields = make_fields("analytic", "analytic", random_maps(0, matrix))
    assert torch.allclose(fields.b0_hz, fields.b0_hz.flip(1), atol=1e-10)
    assert torch.allclose(fields.b1, fields.b1.flip(1), atol=1e-12)
    assert not torch.allclose(fields.b0_hz, fields.b0_hz.flip(0), atol=1.0)


def test_every_subject_sees_the_same_analytic_fields():
    one, other = (make_fields("analytic", "analytic", random_maps(seed)) for seed in (1, 2))
    assert one.digest == other.digest
    assert make_fields("analytic", "none", random_maps(1)).digest != one.digest


def test_none_is_on_resonance_and_nominal():
    fields = make_fields("none", "none", random_maps(0))
    assert not fields.b0_hz.any()
    assert bool((fields.b1 == 1).all())
    assert (fields.matrix, fields.n_coils, fields.coils) == (16, 1, None)


def test_field_files_land_on_the_slice_by_their_affine(tmp_path):
    maps = random_maps(0)
    axis = np.arange(-40, 41) * 2.5
    affine = np.diag([2.5, 2.5, 8.0, 1.0])
    affine[:3, 3] = -100.0, -100.0, -8.0
    x, y = np.meshgrid(axis, axis, indexing="ij")
    field = np.repeat((0.3 * x - 0.1 * y + 5)[..., None], 3, axis=2)
    b0 = write(tmp_path / "b0.nii.gz", field, affine)
    b1 = write(tmp_path / "b1.nii.gz", 1 + 1e-3 * field, affine)
    fields = make_fields(b0, b1, maps)
    pixel = (torch.arange(16, dtype=torch.float64) - 7.5) * 10.0
    expected = 0.3 * pixel[None, :] - 0.1 * pixel[:, None] + 5
    assert torch.allclose(fields.b0_hz, expected, atol=1e-4)
    assert torch.allclose(fields.b1, 1 + 1e-3 * expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "b0", "b1", "message"),
    [
        (np.nan, "FILE", "none", "NaN|finite"),
        (-1.0, "none", "FILE", "relative transmit field.*-1"),
        (9e5, "FILE", "none", "off-resonance map in Hz.*900000"),
        (110.0, "none", "FILE", "relative transmit field.*110"),
    ],
)
def test_field_files_that_cannot_be_are_refused(tmp_path, value, b0, b1, message):
    data = np.full((40, 40, 3), value)
    affine = np.diag([5.0, 5.0, 8.0, 1.0])
    affine[:3, 3] = -97.5, -97.5, -8.0
    path = write(tmp_path / "field.nii.gz", data, affine)
    with pytest.raises(InvalidInput, match=message):
        make_fields(b0.replace("FILE", path), b1.replace("FILE", path), random_maps(0))


def test_a_field_choice_that_is_no_file_is_refused():
    with pytest.raises(InvalidInput, match="none, analytic, paper or a NIfTI file, got 'analitic'"):
        make_fields("analitic", "none", random_maps(0))
    with pytest.raises(MissingInput, match=r"nowhere.nii.gz"):
        make_fields("nowhere.nii.gz", "none", random_maps(0))


def test_coils_surround_the_head_and_differ():
    coils = analytic_coils(4, 32)
    assert (coils.shape, coils.dtype) == ((4, 32, 32), torch.complex64)
    power = coils.abs().square()
    y, x = pixel_coordinates(32)
    for number in range(4):
        weight = (power[number] / power[number].sum()).double()
        centre = torch.stack([(weight * x).sum(), (weight * y).sum()])
        angle = float(torch.atan2(centre[1], centre[0]))
        assert np.exp(1j * angle) == pytest.approx(np.exp(0.5j * np.pi * number), abs=1e-3)
    total = power.sum(0)
    assert 0.3 < float(total.min()) <= float(total.max()) < 3
    gram = torch.einsum("ayx,byx->ab", coils.conj(), coils)
    correlation = gram.abs() / (gram.diagonal().abs().sqrt().outer(gram.diagonal().abs().sqrt()))
    assert float((correlation - torch.eye(4)).max()) < 0.9


def test_coils_are_part_of_the_fields():
    single = make_fields("analytic", "analytic", random_maps(0))
    several = make_fields("analytic", "analytic", random_maps(0), n_coils=3)
    assert (single.n_coils, several.n_coils) == (1, 3)
    assert several.digest == single.with_coils(3).digest != single.digest
    with pytest.raises(InvalidInput, match="at least 1, got 0"):
        make_fields("none", "none", random_maps(0), n_coils=0)


def test_fields_of_two_shapes_are_refused():
    zero, one = torch.zeros(8, 8), torch.ones(8, 8)
    with pytest.raises(InvalidInput, match=r"got \(8, 8\) and \(6, 6\); resample"):
        Fields(zero, torch.ones(6, 6))
    with pytest.raises(InvalidInput, match=r"got \(8,\) and \(8,\)"):
        Fields(zero[0], one[0])
    with pytest.raises(InvalidInput, match=r"\(coil, 8, 8\), got \(2, 6, 6\)"):
        Fields(zero, one, torch.ones(2, 6, 6, dtype=torch.complex64))


def test_values_that_no_field_has_are_refused():
    zero, one = torch.zeros(8, 8), torch.ones(8, 8)
    holed = zero.index_put((torch.tensor(3), torch.tensor(4)), torch.tensor(float("nan")))
    with pytest.raises(InvalidInput, match="b0_hz must be finite everywhere, got NaN"):
        Fields(holed, one)
    with pytest.raises(InvalidInput, match="b1 must be finite everywhere"):
        Fields(zero, one + holed)
    with pytest.raises(InvalidInput, match="coils must be finite everywhere"):
        Fields(zero, one, torch.complex(one, holed)[None])
    with pytest.raises(InvalidInput, match=r"b1 must be at least 0 .*got -0.2"):
        Fields(zero, one - 1.2)
