"""Paired comparisons over subjects between methods and between protocols of the experiments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.report.statistics import PairedTest, holm, paired_test
from bmapest_ray.study.experiments import EXPERIMENTS

if TYPE_CHECKING:
    import pandas as pd

SCORES = (("psnr_db", 1.0), ("mae", -1.0), ("soft_dice", 1.0))
"""What is compared, and the sign that makes a gain positive."""


@dataclass(frozen=True)
class Gain:
    """What ``best`` gains in one experiment over something else, one test per tissue.

    Parameters
    ----------
    experiment
        The experiment of ``best``.
    other
        A baseline, or the experiment with one sequence fewer.
    score
        One of `SCORES`.
    tests, adjusted_p
        By tissue; p after Holm's correction.
    """

    experiment: str
    other: str
    score: str
    tests: tuple[PairedTest, ...]
    adjusted_p: tuple[float | None, ...] = ()


_NOT_TESTED = ("best", "paper", "paper-19")
"""Other data than those of ``best``."""


def against(frame: "pd.DataFrame") -> Iterator[Gain]:
    """Yield ``best`` against every baseline, Holm within each experiment and score."""
    for name in EXPERIMENTS:
        mine = frame[frame.experiment == name]
        best = mine[mine.method == "best"]
        others = [m for m in dict.fromkeys(mine.method) if m not in _NOT_TESTED]
        for score, sign in SCORES:
            gains = [
                _gain(name, other, score, sign, best, mine[mine.method == other])
                for other in others
            ]
            yield from _corrected([gain for gain in gains if gain is not None])


def more_sequences(frame: "pd.DataFrame") -> Iterator[Gain]:
    """Yield ``best`` with one more sequence, Holm over all steps of a score."""
    best = frame[frame.method == "best"]
    done = set(best.experiment)
    ladder = [name for name, e in EXPERIMENTS.items() if e.published and name in done]
    for score, sign in SCORES:
        gains = [
            _gain(more, EXPERIMENTS[less].title, score, sign, best[best.experiment == more],
                  best[best.experiment == less])
            for less, more in pairwise(ladder)
        ]  # fmt: skip
        yield from _corrected([gain for gain in gains if gain is not None])


def _gain(
    name: str, other: str, score: str, sign: float, one: "pd.DataFrame", two: "pd.DataFrame"
) -> Gain | None:
    tests = []
    for tissue in TISSUES:
        left, right = (
            part[part.tissue == tissue].set_index("subject")[score].dropna() for part in (one, two)
        )
        shared = sorted(set(left.index) & set(right.index))
        if not shared:
            return None
        tests.append(paired_test([sign * float(left[s] - right[s]) for s in shared]))
    return Gain(name, other, score, tuple(tests))


def _corrected(gains: Sequence[Gain]) -> Iterator[Gain]:
    known = [t.p_value for gain in gains for t in gain.tests if t.p_value is not None]
    adjusted = iter(holm(known))
    for gain in gains:
        p = tuple(None if t.p_value is None else next(adjusted) for t in gain.tests)
        yield Gain(gain.experiment, gain.other, gain.score, gain.tests, p)
