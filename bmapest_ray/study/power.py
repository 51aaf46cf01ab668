"""How many subjects a paired comparison of two protocols needs."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from bmapest_ray.base.errors import InvalidInput

WILCOXON_EFFICIENCY = 3.0 / math.pi
"""Asymptotic relative efficiency of the signed-rank test to the t test for normal differences;
Hodges and Lehmann, Ann Math Stat 1956;27:324."""

MOST_SUBJECTS = 100_000

_CERTAIN = 30.0
"""Differences of so many sd show with any number of subjects; larger ones break the integrals."""


@dataclass(frozen=True)
class SampleSize:
    """What a comparison needs.

    Parameters
    ----------
    subjects
        Smallest number for the Wilcoxon signed-rank test.
    subjects_t
        Smallest number for the paired t test.
    difference, sd
        The mean difference to be shown and the standard deviation of differences over subjects.
    power, alpha
        Probability of showing it, and the two-sided level.
    """

    subjects: int
    subjects_t: int
    difference: float
    sd: float
    power: float
    alpha: float


def paired_power(subjects: int, effect: float, alpha: float) -> float:
    """Return the power of a two-sided paired t test; `effect` is mean over sd of differences."""
    from scipy import stats

    freedom = subjects - 1
    shift = effect * math.sqrt(subjects)
    limit = stats.t.ppf(1 - alpha / 2, freedom)
    above = stats.nct.sf(limit, freedom, shift)
    below = stats.nct.cdf(-limit, freedom, shift)
    return float(above) + (float(below) if math.isfinite(below) else 0.0)


def sample_size(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05
) -> SampleSize:
    """Return how many subjects show a mean difference.

    Raises
    ------
    InvalidInput
        If the difference is zero, the spread is not positive, or more than `MOST_SUBJECTS` are
        needed.
    """
    if difference == 0 or not sd > 0 or not 0 < power < 1 or not 0 < alpha < 1:
        raise InvalidInput(
            "a sample size needs a difference that is not 0, sd > 0, and power and alpha between "
            f"0 and 1, got {difference:g}, {sd:g}, {power:g}, {alpha:g}; correct them"
        )
    effect = min(abs(difference) / sd, _CERTAIN)
    low, high = 2, 2
    while paired_power(high, effect, alpha) < power:
        low, high = high, 2 * high
        if high > MOST_SUBJECTS:
            raise InvalidInput(
                f"a difference of {difference:g} with sd {sd:g} needs more than {MOST_SUBJECTS} "
                "subjects; ask for a larger one"
            )
    while low < high:
        middle = (low + high) // 2
        if paired_power(middle, effect, alpha) >= power:
            high = middle
        else:
            low = middle + 1
    smallest = 1 + math.ceil(math.log2(1 / alpha))  # 2**(1-n) is the smallest two-sided exact p
    wilcoxon = max(smallest, math.ceil(high / WILCOXON_EFFICIENCY))
    return SampleSize(wilcoxon, high, difference, sd, power, alpha)


def paired_differences(
    one: Mapping[str, float], other: Mapping[str, float]
) -> tuple[float, float, int]:
    """Return mean and sd of per-subject differences, and the number of subjects in both.

    Raises
    ------
    InvalidInput
        If fewer than two subjects are in both.
    """
    both = sorted(set(one) & set(other))
    if len(both) < 2:
        raise InvalidInput(
            f"a spread over subjects needs at least 2 in both protocols, got {len(both)}; run "
            "more subjects or give --sd"
        )
    values = [one[name] - other[name] for name in both]
    return statistics.fmean(values), statistics.stdev(values), len(both)
