"""The answer of a study: one row per protocol, with every average taken in the right order.

Slices and noise draws of one anatomy are averaged before any statistics, so that ``n`` counts
subjects: many slices of one brain are not many brains.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bmapest_ray.study.records import JobRecord, StudyInfo

ObjectiveOf = Callable[[JobRecord], float | None]


class StudyStatus(StrEnum):
    """How a run of a study ended."""

    FINISHED = "FINISHED"
    INTERRUPTED = "INTERRUPTED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation over `n` subjects; the latter needs two of them."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class ProtocolSummary:
    """What a protocol achieved on the report subjects at its chosen configuration."""

    label: str
    digest: str
    scan_time_s: float
    settings: Mapping[str, Any]
    """The chosen settings by their path in the study; empty without a search."""
    objective: Statistic | None
    scores: Mapping[str, Mapping[str, Statistic]]
    """Tissue -> score -> mean and sd over subjects."""
    spread: Mapping[str, Mapping[str, float | None]]
    """Tissue -> score -> sd over slices and draws within a subject, averaged over subjects."""
    jobs_done: int
    jobs_lost: int
    """Report jobs without scores (diverged or failed); they are in no average."""
    trials: int = 0
    """Search trials with a value."""


@dataclass(frozen=True)
class StudyResult:
    """What `run_study` returns and a tracker is told last."""

    study: StudyInfo
    status: StudyStatus
    protocols: tuple[ProtocolSummary, ...]
    """Best objective first."""
    objective: str
    """The objective in words, with its direction."""
    n_subjects: int
    caveats: tuple[str, ...] = ()
    """What a reader of the table must know, one sentence each."""
    jobs: Mapping[str, int] = field(default_factory=dict)
    """Jobs by status; ``SKIPPED`` were found finished on disk."""
    seconds: float = 0.0
    tracking_errors: int = 0
    tracking_message: str = ""
    """The last thing that went wrong with tracking."""


def statistic(values: Sequence[float]) -> Statistic | None:
    """Return mean and sample sd of per-subject values; None where there is none."""
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Statistic(statistics.fmean(values), sd, len(values))


def per_subject(records: Iterable[JobRecord], value_of: ObjectiveOf) -> dict[str, float]:
    """Average a value over the slices and draws of each subject, leaving out undefined ones."""
    by_subject: dict[str, list[float]] = defaultdict(list)
    for record in records:
        value = value_of(record) if record.status.is_scored else None
        if value is not None and math.isfinite(value):
            by_subject[record.subject].append(value)
    return {subject: statistics.fmean(values) for subject, values in sorted(by_subject.items())}


def score_of(tissue: str, score: str) -> ObjectiveOf:
    """Return the function that reads one score of a record."""
    return lambda record: record.scores.get(tissue, {}).get(score)


def within_subject_sd(records: Iterable[JobRecord], value_of: ObjectiveOf) -> float | None:
    """Return the sd over slices and draws within a subject, averaged over subjects."""
    by_subject: dict[str, list[float]] = defaultdict(list)
    for record in records:
        value = value_of(record) if record.status.is_scored else None
        if value is not None and math.isfinite(value):
            by_subject[record.subject].append(value)
    spreads = [statistics.stdev(values) for values in by_subject.values() if len(values) > 1]
    return statistics.fmean(spreads) if spreads else None


def score_table(
    records: Sequence[JobRecord],
) -> tuple[dict[str, dict[str, Statistic]], dict[str, dict[str, float | None]]]:
    """Return ``tissue -> score -> Statistic`` over subjects, and the spread within subjects."""
    names = {(t, s): None for r in records for t, scores in r.scores.items() for s in scores}
    table: dict[str, dict[str, Statistic]] = {}
    spread: dict[str, dict[str, float | None]] = {}
    for tissue, score in names:
        value_of = score_of(tissue, score)
        result = statistic(list(per_subject(records, value_of).values()))
        if result is not None:
            table.setdefault(tissue, {})[score] = result
            spread.setdefault(tissue, {})[score] = within_subject_sd(records, value_of)
    return table, spread
