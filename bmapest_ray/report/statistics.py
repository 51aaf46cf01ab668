"""Paired statistics over subjects: exact signed-rank test, Holm correction, effect size, interval.

The unit is the subject. Slices and noise draws of one subject are averaged before anything here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import seed_of

EXACT_LIMIT = 16
"""Up to this many non-zero differences the test enumerates all 2**n signs."""


@dataclass(frozen=True)
class PairedTest:
    """What paired differences over subjects say.

    Parameters
    ----------
    subjects
        Number of paired subjects.
    mean_difference
        Mean of the differences, in the score's unit.
    interval
        Bootstrap 95 % interval of the mean difference; None below two subjects.
    effect_size
        Matched-pairs rank-biserial correlation in [-1, 1]; None below two subjects.
    p_value
        Two-sided Wilcoxon signed-rank p; None below two subjects.
    smallest_p
        The smallest p that so many subjects can give; None below two subjects.
    """

    subjects: int
    mean_difference: float
    interval: tuple[float, float] | None
    effect_size: float | None
    p_value: float | None
    smallest_p: float | None

    @property
    def sentence(self) -> str:
        """What the test says in words, including that it says nothing."""
        if self.p_value is None or self.smallest_p is None:
            return f"n = {self.subjects}: no test"
        words = f"n = {self.subjects}, Wilcoxon p = {format_p(self.p_value)}"
        if self.smallest_p > 0.05:
            words += f" (no smaller p than {format_p(self.smallest_p)} is possible)"
        return words


def format_p(p_value: float) -> str:
    """Write a p value with two digits, or as a bound below 0.0001."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def paired_test(differences: ArrayLike, *, seed: int = 0) -> PairedTest:
    """Test whether paired differences over subjects centre on zero.

    Parameters
    ----------
    differences
        One difference per subject. Shape `(subject,)`, finite.
    seed
        Seed of the bootstrap.
    """
    values = _checked(differences)
    count = len(values)
    if count < 2:
        return PairedTest(count, float(values.mean()), None, None, None, None)
    return PairedTest(
        subjects=count,
        mean_difference=float(values.mean()),
        interval=bootstrap_interval(values, seed=seed),
        effect_size=rank_biserial(values),
        p_value=signed_rank_p(values),
        smallest_p=min(1.0, 2.0 ** (1 - count)),
    )


def signed_rank_p(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zeros are dropped, ties share their mean rank.

    Exact (all signs enumerated) up to `EXACT_LIMIT` non-zero differences, ties included; beyond
    that SciPy's normal approximation with continuity correction.
    """
    values = _checked(differences)
    values = values[values != 0]
    if len(values) == 0:
        return 1.0
    if len(values) > EXACT_LIMIT:
        from scipy.stats import wilcoxon

        return float(wilcoxon(values, method="approx", correction=True).pvalue)
    ranks = _ranks(values)
    signs = np.array(list(product((0.0, 1.0), repeat=len(values))))
    null = np.abs(signs @ ranks - ranks.sum() / 2)
    observed = abs(ranks[values > 0].sum() - ranks.sum() / 2)
    return float(np.mean(null >= observed - 1e-9))


def rank_biserial(differences: ArrayLike) -> float:
    """Share of favourable minus share of unfavourable signed ranks, in [-1, 1]; 0 if all tie."""
    values = _checked(differences)
    values = values[values != 0]
    if len(values) == 0:
        return 0.0
    ranks = _ranks(values)
    return float(np.sum(np.sign(values) * ranks) / ranks.sum())


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over subjects."""
    data = _checked(values)
    random = np.random.default_rng(seed_of("bootstrap", seed))
    means = data[random.integers(0, len(data), (draws, len(data)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for multiple comparisons by Holm's step-down method."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    # Scores carry about nine digits: differences that agree to that are ties.
    return np.asarray(rankdata(np.round(np.abs(values), 9)), dtype=np.float64)


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise InvalidInput(
            f"paired statistics need one finite difference per subject, got {data.tolist()}; "
            "leave out subjects that one of the two protocols did not solve"
        )
    return data
