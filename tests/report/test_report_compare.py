import numpy as np
import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.report.compare import (
    Measured,
    answer,
    best_against_others,
    compare,
    find,
    pair_sentence,
    pareto_front,
    rank,
)


def measured(label: str, seconds: float, values: list[float]) -> Measured:
    return Measured(label, seconds, {f"{i:02d}": value for i, value in enumerate(values)})


BASE = list(np.random.default_rng(0).normal(30, 2, 10))
SHORT = measured("short", 10.0, BASE)
LONG = measured("long", 40.0, [value + 1.5 + 0.1 * i for i, value in enumerate(BASE)])
WASTE = measured("waste", 50.0, [value + 0.5 for value in BASE])


def test_the_better_protocol_stands_first_in_either_direction() -> None:
    row = compare(SHORT, LONG, higher_is_better=True)
    assert (row.better, row.worse, row.seconds_longer) == ("long", "short", 30.0)
    assert row.test.mean_difference == pytest.approx(1.95)
    row = compare(SHORT, LONG, higher_is_better=False)
    assert (row.better, row.worse, row.seconds_longer) == ("short", "long", -30.0)
    assert "ahead of long by 1.95" in pair_sentence(row)
    assert "30.0 s less scan time" in pair_sentence(row)


def test_only_subjects_that_both_have_count() -> None:
    fewer = Measured("long", 40.0, {k: v for k, v in LONG.by_subject.items() if k < "04"})
    assert compare(SHORT, fewer, higher_is_better=True).test.subjects == 4


def test_the_best_is_compared_with_all_others_and_corrected() -> None:
    rows = best_against_others([SHORT, WASTE, LONG], higher_is_better=True)
    assert [(row.better, row.worse) for row in rows] == [("long", "waste"), ("long", "short")]
    assert [row.adjusted_p for row in rows] == pytest.approx([2 * 2**-9, 2 * 2**-9])
    assert all(row.significant for row in rows)


def test_one_subject_is_ranked_but_not_tested() -> None:
    one = [measured("a", 1.0, [30.0]), measured("b", 2.0, [31.0])]
    (row,) = best_against_others(one, higher_is_better=True)
    assert row.adjusted_p is None
    assert not row.significant
    assert answer(one, higher_is_better=True, score="PSNR", unit="dB").endswith("n = 1: no test.")


def test_the_answer_is_one_sentence_with_value_time_and_certainty() -> None:
    text = answer([SHORT, LONG], higher_is_better=True, score="PSNR", unit="dB")
    assert text.startswith("long reaches the best PSNR,")
    assert "in 40.0 s of scan time" in text
    assert "n = 10, Wilcoxon p = 0.002" in text
    assert text.count(". ") == 0


def test_no_evidence_is_said_to_be_none() -> None:
    noise = measured("other", 10.0, [v + d for v, d in zip(BASE, [1, -1] * 5, strict=True)])
    text = pair_sentence(compare(SHORT, noise, higher_is_better=True))
    assert "no evidence of a difference" in text
    assert "at the same scan time" in text


def test_pareto_front_drops_what_is_beaten_in_both() -> None:
    assert pareto_front([SHORT, LONG, WASTE], higher_is_better=True) == ["short", "long"]
    assert pareto_front([SHORT, LONG, WASTE], higher_is_better=False) == ["short"]


def test_a_protocol_without_values_is_ranked_nowhere() -> None:
    assert rank([Measured("none", 1.0, {}), SHORT], higher_is_better=True) == [SHORT]
    assert answer([], higher_is_better=True, score="PSNR") == "No protocol has a result."


def test_an_unknown_protocol_is_named_with_the_closest() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'short'"):
        find([SHORT, LONG], "shrt")


def test_protocols_without_common_subjects_are_not_compared() -> None:
    with pytest.raises(InvalidInput, match="both protocols solved"):
        compare(SHORT, Measured("x", 1.0, {"99": 1.0}), higher_is_better=True)
