"""All that a report is made of, gathered from a study's results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bmapest_ray.report.compare import Measured, rank
from bmapest_ray.study.pareto import search_fronts
from bmapest_ray.study.records import JobRecord, TrialRecord
from bmapest_ray.study.showcase import Shown
from bmapest_ray.study.status import Stage
from bmapest_ray.study.summary import ObjectiveOf, StudyResult, per_subject, score_of

MOST_SHOWN = 5
"""Protocols whose maps are shown, best first."""


@dataclass(frozen=True)
class Evidence:
    """What a study found.

    Parameters
    ----------
    result
        The study's own summary.
    jobs
        Protocol -> the jobs at its chosen configuration.
    trials
        All trials, those of the search included.
    objective
        Reads the objective from a job.
    score, unit
        The objective in words and its unit.
    higher_is_better
        Direction of the objective.
    importances
        Protocol -> searched setting -> share of the objective's variance.
    shown
        Jobs whose fit and uncertainty are shown, by their ids.
    """

    result: StudyResult
    jobs: Mapping[str, Sequence[JobRecord]]
    trials: Sequence[TrialRecord]
    objective: ObjectiveOf
    score: str
    unit: str
    higher_is_better: bool
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shown: Mapping[str, Shown] = field(default_factory=dict)

    @property
    def measured(self) -> list[Measured]:
        """The objective of every protocol by subject, in the order of the summary."""
        return [
            Measured(
                row.label,
                row.scan_time_s,
                per_subject(self.jobs.get(row.label, ()), self.objective),
            )
            for row in self.result.protocols
        ]

    @property
    def ranked(self) -> list[Measured]:
        """The protocols with values, best first."""
        return rank(self.measured, higher_is_better=self.higher_is_better)

    def by_subject(self, tissue: str, score: str) -> dict[str, dict[str, float]]:
        """Return protocol -> subject -> one score of one tissue."""
        return {
            row.label: per_subject(self.jobs.get(row.label, ()), score_of(tissue, score))
            for row in self.result.protocols
        }

    def typical_subjects(self, count: int) -> list[str]:
        """Return subjects with maps, those nearest the median under the best protocol first."""
        if not self.ranked:
            return []
        best = self.ranked[0]
        with_maps = {job.subject for job in self.jobs.get(best.label, ()) if job.files}
        choice = [s for s in best.by_subject if s in with_maps] or list(best.by_subject)
        middle = median(best.by_subject.values())
        choice.sort(key=lambda subject: abs(best.by_subject[subject] - middle))
        return choice[:count]

    def typical_job(self, label: str, place: int = 0) -> JobRecord | None:
        """Return the first job of a typical subject that left maps."""
        for subject in self.typical_subjects(place + 1)[place:]:
            for job in self.jobs.get(label, ()):
                if job.subject == subject and job.files:
                    return job
        return None

    def jobs_to_show(self, subjects: int) -> list[JobRecord]:
        """Return one job per protocol and typical subject, best protocols first."""
        chosen = [
            self.typical_job(row.label, place)
            for place in range(subjects)
            for row in self.ranked[:MOST_SHOWN]
        ]
        return [job for job in chosen if job is not None]

    @property
    def fronts(self) -> dict[str, list[tuple[TrialRecord, float]]]:
        """Protocol -> Pareto front of its search with scan times; empty unless it searched one."""
        search = self.result.study.config.get("search", {})
        if not search.get("pareto"):
            return {}
        return search_fronts(self.trials, maximize=self.higher_is_better)

    def search_trials(self) -> dict[str, list[TrialRecord]]:
        """Return protocol -> its search trials that have a value, best protocol first."""
        found: dict[str, list[TrialRecord]] = {row.label: [] for row in self.result.protocols}
        for trial in sorted(self.trials, key=lambda trial: trial.key.number):
            if trial.key.stage is Stage.SEARCH and trial.value is not None:
                found.setdefault(trial.key.protocol, []).append(trial)
        return {label: trials for label, trials in found.items() if trials}
