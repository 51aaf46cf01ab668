import numpy as np
import pytest
from scipy import stats

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.report.statistics import (
    bootstrap_interval,
    holm,
    paired_test,
    rank_biserial,
    signed_rank_p,
)


def test_all_differences_of_one_sign_reach_the_smallest_p() -> None:
    for count in (2, 5, 10, 14):
        test = paired_test(np.linspace(0.1, 1.0, count))
        assert test.p_value == pytest.approx(2.0 ** (1 - count), rel=1e-12)
        assert test.p_value == test.smallest_p
        assert test.effect_size == 1.0


def test_exact_p_equals_scipys_exact_p() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 12)
    assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)


def test_p_beyond_the_exact_limit_stays_close_to_the_exact_one() -> None:
    values = np.random.default_rng(2).normal(0.4, 1, 20)
    exact = stats.wilcoxon(values, method="exact").pvalue
    assert signed_rank_p(values) == pytest.approx(exact, rel=0.1)


def test_ties_and_zeros_by_hand() -> None:
    # Ranks of |1|, |-1|, |2| are 1.5, 1.5, 3: W+ = 4.5 of 6. Of the 8 sign patterns those with
    # |W+ - 3| >= 1.5 are 0, 1.5 (twice), 4.5 (twice) and 6.
    assert signed_rank_p([1.0, -1.0, 2.0, 0.0]) == pytest.approx(6 / 8)
    assert rank_biserial([1.0, -1.0, 2.0, 0.0]) == pytest.approx(0.5)


def test_swapping_the_protocols_turns_the_signs_round() -> None:
    values = np.random.default_rng(3).normal(0.2, 1, 9)
    there, back = paired_test(values), paired_test(-values)
    assert there.p_value == back.p_value
    assert there.effect_size == -back.effect_size
    assert there.mean_difference == -back.mean_difference


def test_no_difference_is_p_one() -> None:
    assert signed_rank_p([0.0, 0.0]) == 1.0
    assert rank_biserial([0.0, 0.0]) == 0.0


def test_one_subject_has_no_test() -> None:
    test = paired_test([2.5])
    assert (test.p_value, test.interval, test.effect_size) == (None, None, None)
    assert test.sentence == "n = 1: no test"


def test_few_subjects_say_what_they_cannot_show() -> None:
    assert "no smaller p than 0.25 is possible" in paired_test([1.0, 2.0, 3.0]).sentence


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_bootstrap_interval_is_close_to_the_normal_one_and_repeats() -> None:
    values = np.random.default_rng(4).normal(3.0, 1.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    assert (low, high) == bootstrap_interval(values)


def test_a_nan_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one finite difference per subject"):
        paired_test([1.0, float("nan")])
