import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.anatomy.catalog import open_anatomy
from bmapest_ray.anatomy.cohort import cohort_mean, cohort_statistics, leave_one_out
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput


def slices(count, matrix=4, spacing=1.0):
    rng = np.random.default_rng(2)
    draws = rng.dirichlet([1, 1, 1, 1], size=(count, matrix, matrix)).transpose(0, 3, 1, 2)
    affine = np.diag([spacing, spacing, 1, 1])
    return [
        TissueMaps(torch.from_numpy(d[:3]), affine, f"{i:02d}", "x") for i, d in enumerate(draws)
    ]


def test_mean_and_covariance_are_those_of_numpy():
    others = slices(5)
    values = np.stack([m.fraction.numpy() for m in others]).astype(float)
    np.testing.assert_allclose(cohort_mean(others, "42"), values.mean(0), atol=1e-6)
    statistics = cohort_statistics(others, "42")
    assert statistics.count == 5
    expected = np.cov(values[:, :, 1, 3], rowvar=False)
    np.testing.assert_allclose(statistics.covariance[:, :, 1, 3], expected, atol=1e-6)
    torch.testing.assert_close(statistics.mean, cohort_mean(others, "42"))


@pytest.mark.parametrize("name", ["03", "sub-03"])
def test_a_cohort_with_the_subject_under_test_is_refused(name):
    others = slices(5)
    for function in (cohort_mean, cohort_statistics):
        with pytest.raises(InvalidInput, match="must not contain the subject under test"):
            function(others, name)


def test_empty_lone_and_mixed_cohorts_are_refused():
    with pytest.raises(InvalidInput, match="empty"):
        cohort_mean([], "42")
    with pytest.raises(InvalidInput, match="at least 2"):
        cohort_statistics(slices(1), "42")
    for other in (slices(1, matrix=6), slices(1, spacing=1.5)):
        with pytest.raises(InvalidInput, match="share matrix and field of view"):
            cohort_mean([*slices(2), *other], "42")


def test_leave_one_out_takes_all_others_or_those_allowed(tmp_path):
    fraction = np.zeros((3, 2, 4, 4))
    fraction[0] = 1
    for name in ("01", "02", "03"):
        write_maps(fraction, np.eye(4), tmp_path, name)
    anatomy, where = open_anatomy(f"bids:{tmp_path}"), SliceSpec("index", 1)
    loo = lambda name, among=None: [  # noqa: E731
        m.subject for m in leave_one_out(anatomy, name, where, 4, 4.0, among)
    ]
    assert loo("02") == loo("sub-02") == ["01", "03"]
    assert loo("02", ["01", "sub-02"]) == ["01"]
    with pytest.raises(InvalidInput, match="other than 02"):
        loo("02", ["02"])
    with pytest.raises(InvalidInput, match="did you mean"):
        loo("02", ["04"])
    mni = open_anatomy("mni152")
    with pytest.raises(InvalidInput, match="other than mni152"):
        leave_one_out(mni, "mni152", where)


def test_mirror_images_fill_up_a_small_cohort():
    others = slices(3)
    values = torch.stack([one.fraction for one in others])
    torch.testing.assert_close(cohort_mean(others, "42", 2), values.mean(0))  # enough as they are
    both = torch.cat([values, values[:2].flip(-1)])
    torch.testing.assert_close(cohort_mean(others, "42", 5), both.mean(0))
    assert not torch.equal(values, values.flip(-1))
    with pytest.raises(InvalidInput, match="7 brains needs at least 4 other subjects, got 3"):
        cohort_mean(others, "42", 7)
