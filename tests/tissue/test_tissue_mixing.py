"""Properties of a voxel from its fractions, under the three mixing models."""

import pytest
import torch

from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import mixed_properties
from bmapest_ray.tissue.table import PAPER_3T

ROWS = ("pd", "t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")


def fractions(*voxels):
    return torch.tensor(voxels, dtype=torch.float64).T


def test_only_compartments_are_linear():
    assert [mixing.is_linear for mixing in Mixing] == [True, False, False]
    assert Mixing("average-normalised") is Mixing.AVERAGE_NORMALISED


@pytest.mark.parametrize("tissue", [0, 1, 2])
def test_a_voxel_of_one_tissue_is_that_tissue_in_every_model(tissue):
    pure = torch.eye(3, dtype=torch.float64)[tissue][:, None]
    for mixing in Mixing:
        properties = mixed_properties(pure, PAPER_3T, mixing)
        part = tissue if mixing is Mixing.COMPARTMENTS else 0
        for row in ROWS:
            expected = getattr(PAPER_3T, row)[tissue]
            assert float(properties[row][part, 0]) == pytest.approx(expected, rel=1e-12)
        others = properties["pd"].sum() - properties["pd"][part, 0]
        assert float(others) == 0


def test_compartments_keep_pure_tissues_and_split_the_density():
    properties = mixed_properties(fractions((0.2, 0.3, 0.1)), PAPER_3T, Mixing.COMPARTMENTS)
    assert properties["pd"][:, 0].tolist() == pytest.approx([0.2 * 0.8, 0.3 * 0.7, 0.1 * 1.0])
    for row in ROWS[1:]:
        assert properties[row].shape == (3, 1)
        assert properties[row][:, 0].tolist() == list(getattr(PAPER_3T, row))


def test_average_sums_every_property_with_its_fraction():
    voxel = (0.2, 0.3, 0.1)
    properties = mixed_properties(fractions(voxel), PAPER_3T, Mixing.AVERAGE)
    for row in ROWS:
        expected = sum(p * x for p, x in zip(voxel, getattr(PAPER_3T, row), strict=True))
        assert float(properties[row]) == pytest.approx(expected, rel=1e-12)


def test_normalised_average_divides_all_but_the_density():
    voxel = (0.2, 0.3, 0.1)
    plain = mixed_properties(fractions(voxel), PAPER_3T, Mixing.AVERAGE)
    divided = mixed_properties(fractions(voxel), PAPER_3T, Mixing.AVERAGE_NORMALISED)
    assert float(divided["pd"]) == float(plain["pd"])
    for row in ROWS[1:]:
        assert float(divided[row]) == pytest.approx(float(plain[row]) / 0.6, rel=1e-12)


def test_normalised_average_does_not_see_how_full_a_voxel_is():
    scaled = fractions((0.5, 0.3, 0.2), (0.05, 0.03, 0.02))
    divided = mixed_properties(scaled, PAPER_3T, Mixing.AVERAGE_NORMALISED)
    for row in ROWS[1:]:
        full, rim = divided[row][0].tolist()
        assert rim == pytest.approx(full, rel=1e-12)
    assert float(divided["pd"][0, 1]) == pytest.approx(float(divided["pd"][0, 0]) / 10)


@pytest.mark.parametrize("mixing", [Mixing.AVERAGE, Mixing.AVERAGE_NORMALISED])
def test_an_empty_voxel_has_no_density_and_no_zero_time(mixing):
    empty = torch.zeros(3, 1, requires_grad=True)
    properties = mixed_properties(empty, PAPER_3T, mixing)
    assert float(properties["pd"].detach()) == 0
    for row in ROWS[1:4]:
        assert float(properties[row].detach()) == pytest.approx(1e-6)
    assert 0 < float(properties["diffusivity_m2_per_s"].detach()) <= 1e-14
    sum(value.sum() for value in properties.values()).backward()
    assert bool(torch.isfinite(empty.grad).all())


@pytest.mark.parametrize("mixing", Mixing)
def test_derivatives_match_finite_differences(mixing):
    point = fractions((0.3, 0.2, 0.1), (0.6, 0.1, 0.2)).requires_grad_()

    def properties(p):
        return tuple(mixed_properties(p, PAPER_3T, mixing)[row] for row in ("pd", "t1_s", "t2_s"))

    assert torch.autograd.gradcheck(properties, (point,), eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_properties_keep_the_dtype_of_the_fractions(dtype):
    for mixing in Mixing:
        properties = mixed_properties(fractions((0.2, 0.3, 0.1)).to(dtype), PAPER_3T, mixing)
        assert {value.dtype for value in properties.values()} == {dtype}
