"""All baselines by name, and their tuning with equal effort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.baselines.baseline import Baseline
from bmapest_ray.baselines.bias_fuzzy import BiasFuzzyCMeans
from bmapest_ray.baselines.clusterings import FuzzyCMeans, GaussianMixture, KMeans
from bmapest_ray.baselines.cohort_mean import CohortMean
from bmapest_ray.baselines.nnls import VoxelNnls

_KINDS: tuple[type[Baseline], ...] = (
    CohortMean,
    VoxelNnls,
    KMeans,
    GaussianMixture,
    FuzzyCMeans,
    BiasFuzzyCMeans,
)
BASELINES: Mapping[str, type[Baseline]] = {kind.name: kind for kind in _KINDS}
"""Name -> kind of baseline, in the order of tables."""


def make_baseline(name: str, settings: Mapping[str, object] | None = None) -> Baseline:
    """Return a baseline by name, with its defaults where nothing else is asked for.

    Raises
    ------
    InvalidInput
        If the name or a setting is unknown, or a value is out of range or of the wrong kind.
    """
    kind = BASELINES[require_choice("a baseline", name, BASELINES)]
    known = tuple(entry.name for entry in fields(kind))  # type: ignore[arg-type]
    for key in settings or {}:
        require_choice(f"a setting of {name}", key, known)
    try:
        return kind(**(settings or {}))
    except TypeError as error:
        raise InvalidInput(f"a setting of {name} has the wrong kind: {error}") from error


def tuning_grid(name: str) -> tuple[Baseline, ...]:
    """Return the settings that are compared, equally many for every baseline.

    Raises
    ------
    InvalidInput
        If the name is unknown.
    """
    return BASELINES[require_choice("a baseline", name, BASELINES)].grid()


@dataclass(frozen=True)
class Tuned:
    """The best of a grid."""

    baseline: Baseline
    score: float
    evaluations: int
    """How many settings were compared."""


def tune(name: str, score: Callable[[Baseline], float]) -> Tuned:
    """Compare a baseline's settings and keep the best, the first one among equals.

    Parameters
    ----------
    score
        Higher is better; on the tune subjects, never on those that are reported.

    Raises
    ------
    InvalidInput
        If the name is unknown.
    """
    grid = tuning_grid(name)
    scores = [score(baseline) for baseline in grid]
    best = max(range(len(grid)), key=scores.__getitem__)
    return Tuned(grid[best], scores[best], len(grid))
