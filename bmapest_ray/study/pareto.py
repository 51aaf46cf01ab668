"""What nothing beats both in the objective and in scan time."""

from collections.abc import Sequence

from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.status import Stage, TrialStatus


def not_beaten(points: Sequence[tuple[float, float]], *, maximize: bool) -> list[int]:
    """Return the indices of points that no other one beats.

    Parameters
    ----------
    points
        Seconds, of which fewer are better, and value.
    maximize
        Whether a higher value is better.
    """
    sign = 1.0 if maximize else -1.0
    signed = [(seconds, sign * value) for seconds, value in points]
    return [
        index
        for index, (seconds, value) in enumerate(signed)
        if not any(s <= seconds and v >= value and (s < seconds or v > value) for s, v in signed)
    ]


def search_points(trials: Sequence[TrialRecord]) -> dict[str, list[tuple[TrialRecord, float]]]:
    """Return protocol -> its complete search trials with a value, and the scan time [s] of each."""
    found: dict[str, list[tuple[TrialRecord, float]]] = {}
    for trial in trials:
        complete = trial.status is TrialStatus.COMPLETE and trial.key.stage is Stage.SEARCH
        if complete and trial.value is not None and trial.scan_time_s is not None:
            found.setdefault(trial.key.protocol, []).append((trial, trial.scan_time_s))
    return found


def search_fronts(
    trials: Sequence[TrialRecord], *, maximize: bool
) -> dict[str, list[tuple[TrialRecord, float]]]:
    """Return protocol -> its Pareto front: trial and scan time [s], the fastest first."""
    fronts = {}
    for label, points in search_points(trials).items():
        plain = [(seconds, trial.value or 0.0) for trial, seconds in points]
        kept = [points[index] for index in not_beaten(plain, maximize=maximize)]
        fronts[label] = sorted(kept, key=lambda point: point[1])
    return fronts
