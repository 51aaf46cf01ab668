"""Which protocol is best, and how sure that is: paired over the subjects that both measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.report.statistics import PairedTest, format_p, holm, paired_test
from bmapest_ray.study.pareto import not_beaten

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Measured:
    """What one protocol reached.

    Parameters
    ----------
    label
        Name of the protocol.
    scan_time_s
        Its scan time.
    by_subject
        Subject -> value, slices and noise draws averaged.
    """

    label: str
    scan_time_s: float
    by_subject: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Mean over subjects."""
        return sum(self.by_subject.values()) / len(self.by_subject)


@dataclass(frozen=True)
class Comparison:
    """Protocol `better` against protocol `worse`, in the direction of the score.

    Parameters
    ----------
    better, worse
        Names; differences are `better` minus `worse`.
    seconds_longer
        Scan time of `better` minus that of `worse`.
    test
        The paired test.
    adjusted_p
        p after Holm's correction; None where there is no test.
    """

    better: str
    worse: str
    seconds_longer: float
    test: PairedTest
    adjusted_p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below 0.05."""
        return self.adjusted_p is not None and self.adjusted_p < SIGNIFICANT


def compare(one: Measured, other: Measured, *, higher_is_better: bool) -> Comparison:
    """Compare two protocols on the subjects that both have.

    Raises
    ------
    InvalidInput
        They share no subject.
    """
    shared = sorted(one.by_subject.keys() & other.by_subject.keys())
    if not shared:
        raise InvalidInput(
            f"a paired comparison needs subjects that both protocols solved, got none for "
            f"'{one.label}' and '{other.label}'; run both on the same subjects"
        )
    gain = sum(one.by_subject[s] - other.by_subject[s] for s in shared)
    if (gain < 0) == higher_is_better and gain != 0:
        one, other = other, one
    differences = [one.by_subject[s] - other.by_subject[s] for s in shared]
    test = paired_test(differences)
    return Comparison(
        one.label, other.label, one.scan_time_s - other.scan_time_s, test, test.p_value
    )


def rank(measured: Sequence[Measured], *, higher_is_better: bool) -> list[Measured]:
    """Return the protocols that have values, best mean first."""
    valued = [row for row in measured if row.by_subject]
    return sorted(valued, key=lambda row: row.mean, reverse=higher_is_better)


def best_against_others(
    measured: Sequence[Measured], *, higher_is_better: bool
) -> list[Comparison]:
    """Compare the best protocol with each other one, corrected by Holm's method.

    The best is chosen on the same subjects, so its lead is a little flattering; a report says so.
    """
    ranked = rank(measured, higher_is_better=higher_is_better)
    found = [compare(ranked[0], other, higher_is_better=higher_is_better) for other in ranked[1:]]
    tested = [row.test.p_value for row in found if row.test.p_value is not None]
    if len(tested) < len(found):
        return found
    return [replace(row, adjusted_p=p) for row, p in zip(found, holm(tested), strict=True)]


def find(measured: Sequence[Measured], label: str) -> Measured:
    """Return the protocol of that name.

    Raises
    ------
    InvalidInput
        Names the closest protocol of the study.
    """
    names = [row.label for row in measured]
    return measured[names.index(require_choice("a protocol to compare", label, names))]


def pareto_front(measured: Sequence[Measured], *, higher_is_better: bool) -> list[str]:
    """Return the protocols that no other one beats in both mean and scan time."""
    valued = [row for row in measured if row.by_subject]
    points = [(row.scan_time_s, row.mean) for row in valued]
    return [valued[index].label for index in not_beaten(points, maximize=higher_is_better)]


def answer(
    measured: Sequence[Measured],
    *,
    higher_is_better: bool,
    score: str,
    unit: str = "",
) -> str:
    """Say in one sentence which protocol is best and how sure that is."""
    ranked = rank(measured, higher_is_better=higher_is_better)
    if not ranked:
        return "No protocol has a result."
    best = ranked[0]
    reached = f"{best.label} reaches the best {score}, {best.mean:.2f}{_unit(unit)}"
    reached += f", in {best.scan_time_s:.1f} s of scan time"
    if len(ranked) == 1:
        return f"{reached}; no other protocol was compared."
    comparisons = best_against_others(measured, higher_is_better=higher_is_better)
    return f"{reached}; {pair_sentence(comparisons[0], unit, corrected=len(comparisons) > 1)}"


def pair_sentence(row: Comparison, unit: str = "", *, corrected: bool = False) -> str:
    """Say how much one protocol beats another by, at what p and at what cost in scan time."""
    test = row.test
    text = f"{row.better} is ahead of {row.worse} by {abs(test.mean_difference):.2f}{_unit(unit)}"
    if test.interval is not None:
        sign = -1.0 if test.mean_difference < 0 else 1.0
        low, high = sorted(sign * bound for bound in test.interval)
        text += f" (95 % interval {low:.2f} to {high:.2f})"
    text += _cost(row.seconds_longer)
    if row.adjusted_p is None:
        return f"{text}; n = {test.subjects}: no test."
    how = "Wilcoxon, Holm-corrected p" if corrected else "Wilcoxon p"
    verdict = "" if row.significant else ", which is no evidence of a difference"
    equals = "" if row.adjusted_p < 1e-4 else "= "
    return f"{text}; n = {test.subjects}, {how} {equals}{format_p(row.adjusted_p)}{verdict}."


def _cost(seconds_longer: float) -> str:
    if abs(seconds_longer) < 0.05:
        return " at the same scan time"
    word = "more" if seconds_longer > 0 else "less"
    return f" with {abs(seconds_longer):.1f} s {word} scan time"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
