"""Many experiments at once: their jobs in one pool, tuned first, then reported.

A *case* is one experiment solved in one way. A way with several candidate settings is first tried
with each of them on the tune subjects; the best then runs on the report subjects, on noise that no
tuning has seen. Jobs are committed one by one, so a programme goes on where it was stopped, and a
case that another list of subjects shares jobs with finds them done.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.study.baseline_job import BaselineJob
from bmapest_ray.study.notify import Silent
from bmapest_ray.study.plan import Plan
from bmapest_ray.study.ports import Progress, Runner, Snapshot, Task
from bmapest_ray.study.recording import record_of
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.space import grid
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus, Stage
from bmapest_ray.study.store import StudyStore

Payload = JobSpec | BaselineJob
_POLL_S = 5.0


@dataclass(frozen=True)
class Case:
    """One experiment solved in one way.

    Parameters
    ----------
    experiment, method
        Names.
    plan
        The experiment: anatomy, subjects, the one protocol, noise.
    baseline
        Name of a baseline; None is the inversion that the plan describes.
    candidates
        Settings to choose from on the tune subjects; none or one needs no tuning.
    """

    experiment: str
    method: str
    plan: Plan
    baseline: str | None = None
    candidates: tuple[Mapping[str, Any], ...] = ()
    by_subject: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further settings of a baseline by the subject under test: who a network is trained on."""

    def __post_init__(self) -> None:
        """Refuse to tune on subjects that are reported."""
        both = sorted(set(self.plan.subjects) & set(self.plan.tune_subjects))
        if self.tuned and both:
            raise InvalidInput(
                f"{self.experiment} must not tune on subjects that it reports, got "
                f"{', '.join(both)} in both; name others in search.tune_subjects"
            )

    @property
    def tuned(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.candidates) > 1

    def trial(self, stage: Stage, number: int) -> str:
        """Name what a job belongs to."""
        return f"{self.experiment}/{self.method}/{stage}/{number:04d}"

    def jobs(self, stage: Stage, settings: Mapping[str, Any]) -> tuple[Payload, ...]:
        """Return the jobs of one configuration."""
        (label,) = self.plan.protocols
        if self.baseline is None:
            return self.plan.jobs(label, settings, stage)
        made = []
        for spec in self.plan.jobs(label, {}, stage):
            own = {**settings, **self.by_subject.get(spec.anatomy.subject, {})}
            made.append(BaselineJob(spec, self.baseline, tuple(sorted(own.items()))))
        return tuple(made)


@dataclass(frozen=True)
class CaseResult:
    """The report jobs of a case and how its settings were found."""

    case: Case
    settings: Mapping[str, Any]
    evaluations: int
    """Settings that were compared on the tune subjects."""
    records: tuple[JobRecord, ...]
    tuning: tuple[JobRecord, ...] = ()
    """Jobs that compared the settings."""


def searched(plan: Plan) -> tuple[Mapping[str, Any], ...]:
    """Return every point of a plan's search space."""
    return tuple(grid(plan.config.search.space)) if plan.searches else ()


def run_programme(
    cases: Sequence[Case], store: StudyStore, runner: Runner, progress: Progress | None = None
) -> tuple[CaseResult, ...]:
    """Run what is missing of all cases and return their results in order.

    Raises
    ------
    InvalidInput
        If a job finds that the user's input is at fault.
    """
    pool = _Pool(store, runner, progress or Silent())
    tune = [
        (payload, case.trial(Stage.SEARCH, number))
        for case in cases
        if case.tuned
        for number, settings in enumerate(case.candidates)
        for payload in case.jobs(Stage.SEARCH, settings)
    ]
    pool.run(tune)
    chosen = [_chosen(case, pool.done) for case in cases]
    report = [
        (payload, case.trial(Stage.REPORT, number))
        for case, (number, settings) in zip(cases, chosen, strict=True)
        for payload in case.jobs(Stage.REPORT, settings)
    ]
    pool.run(report)
    return collect(cases, store)


def begun_cases(store: StudyStore) -> set[tuple[str, str]]:
    """Return experiment and method of every job that a store holds."""
    records = (store.job(name) for name in store.job_ids())
    trials = (record.trial.split("/") for record in records if record is not None)
    return {(trial[0], trial[1]) for trial in trials if len(trial) == 4}


def collect(cases: Sequence[Case], store: StudyStore) -> tuple[CaseResult, ...]:
    """Return what a store holds of the cases, running nothing."""
    found = []
    for case in cases:
        tune = [case.jobs(Stage.SEARCH, c) for c in case.candidates] if case.tuned else []
        records = [store.job(payload.id) for jobs in tune for payload in jobs]
        done = {record.id: record for record in records if record is not None}
        if len(done) < len(records):
            found.append(CaseResult(case, {}, 0, ()))
            continue
        _, settings = _chosen(case, done)
        reported = (store.job(p.id) for p in case.jobs(Stage.REPORT, settings))
        kept = tuple(record for record in reported if record is not None)
        tuning = tuple(done.values())
        found.append(CaseResult(case, settings, len(case.candidates), kept, tuning))
    return tuple(found)


def _chosen(case: Case, done: Mapping[str, JobRecord]) -> tuple[int, Mapping[str, Any]]:
    """Return the candidate with the best objective on the tune subjects, the first of equals."""
    if not case.tuned:
        return 0, (case.candidates[0] if case.candidates else {})
    objective = case.plan.objective
    best: tuple[int, float] | None = None
    for number, settings in enumerate(case.candidates):
        jobs = case.jobs(Stage.SEARCH, settings)
        value = objective.of_jobs(done[p.id] for p in jobs if p.id in done)
        if value is not None and (best is None or objective.better(value, best[1])):
            best = number, value
    number = 0 if best is None else best[0]
    return number, case.candidates[number]


class _Pool:
    """Runs payloads that the store lacks."""

    def __init__(self, store: StudyStore, runner: Runner, progress: Progress) -> None:
        self._store, self._runner, self._progress = store, runner, progress
        self._out: dict[str, tuple[Payload, str]] = {}
        self.done: dict[str, JobRecord] = {}
        self._failed, self._began, self._ran = 0, time.monotonic(), 0

    def run(self, jobs: Iterable[tuple[Payload, str]]) -> None:
        """Run all jobs, those of one protocol together."""
        waiting: dict[str, tuple[Payload, str]] = {}
        for payload, trial in jobs:
            known = self._store.job(payload.id)
            if known is None:
                waiting.setdefault(payload.id, (payload, trial))
            else:
                self.done[payload.id] = known
        skipped = len(self.done)
        queue = sorted(waiting.values(), key=lambda job: job[0].affinity, reverse=True)
        while queue or self._out:
            while queue and self._runner.free > 0:
                payload, trial = queue.pop()
                self._out[payload.id] = payload, trial
                self._runner.submit(Task(payload.id, payload, payload.affinity))
            self._collect()
            self._show(skipped, len(queue) + len(self._out))

    def _collect(self) -> None:
        outcome = self._runner.next_done(_POLL_S)
        if outcome is None:
            return
        payload, trial = self._out.pop(outcome.task_id)
        if outcome.failure is not None and outcome.failure.invalid_input:
            raise InvalidInput(outcome.failure.message)
        spec = payload.job if isinstance(payload, BaselineJob) else payload
        record = replace(record_of(spec, outcome, trial), id=payload.id)
        if isinstance(payload, BaselineJob):
            settings = dict(payload.settings)
            record = replace(record, configuration={"solver": payload.baseline, **settings})
        self._failed += record.status is not JobStatus.DONE
        self._store.commit(record)
        self.done[payload.id] = record
        self._ran += 1

    def _show(self, skipped: int, left: int) -> None:
        done, seconds = len(self.done), time.monotonic() - self._began
        self._progress.update(
            Snapshot(
                jobs_done=done,
                jobs_total=done + left,
                jobs_failed=self._failed,
                jobs_skipped=skipped,
                trials_done=0,
                trials_total=0,
                best={},
                seconds=seconds,
                seconds_left=seconds / self._ran * left if self._ran else None,
            )
        )
