"""Starts by name."""

import pytest
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.starts import cohort_brains, is_simple_start, simple_start


def test_uniform_leaves_the_background_its_share() -> None:
    assert torch.equal(simple_start("uniform", 4), torch.full((3, 4, 4), 0.25))


def test_the_ellipse_has_its_area_and_no_tissue_outside() -> None:
    maps = simple_start("ellipse", 200)
    total = maps.sum(0)
    assert set(total.unique().tolist()) == {0.0, 1.0}
    assert total.mean() == pytest.approx(torch.pi * 0.45 * 0.36, rel=0.01)
    assert total[100, 100] == 1
    assert total[0, 0] == 0
    assert total[100 + 85, 100] == 1  # longer along y
    assert total[100, 100 + 85] == 0


def test_a_constant_must_leave_room_for_three() -> None:
    assert simple_start("constant:0.2", 2).unique().tolist() == pytest.approx([0.2])
    for text in ("constant:0.5", "constant:-1", "constant:nan", "constant:some"):
        assert is_simple_start(text)
        with pytest.raises(InvalidInput, match="must lie in"):
            simple_start(text, 2)
    assert not is_simple_start("maps/constant")


def test_a_cohort_start_says_how_many_brains() -> None:
    assert [cohort_brains(n) for n in ("cohort", "cohort:19", "uniform")] == [0, 19, None]
    for text in ("cohort:", "cohort:0", "cohort:many", "cohort:-3"):
        with pytest.raises(InvalidInput, match="how many brains"):
            cohort_brains(text)
