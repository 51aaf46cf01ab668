"""A trial while it runs: which jobs it waits for, and how it ends."""

import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bmapest_ray.base.seeding import seed_of
from bmapest_ray.study.objective import Objective
from bmapest_ray.study.records import JobRecord, TrialRecord
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import TrialStatus


class ActiveTrial:
    """A trial with the jobs it still needs.

    Parameters
    ----------
    record
        The trial as it stands on disk.
    jobs
        All of its jobs, subject by subject.
    shuffle
        Whether subjects run in an order of the trial's own, as pruning across subjects needs.
    """

    def __init__(
        self, record: TrialRecord, jobs: Sequence[JobSpec], *, shuffle: bool = False
    ) -> None:
        self.record = record
        self._subjects = list(dict.fromkeys(job.anatomy.subject for job in jobs))
        self._jobs = dict.fromkeys(job.id for job in jobs)
        self._done: dict[str, JobRecord] = {}
        self._of_subject: dict[str, list[str]] = {}
        for job in jobs:
            self._of_subject.setdefault(job.anatomy.subject, []).append(job.id)
        self._left = {name: len(ids) for name, ids in self._of_subject.items()}
        self._waiting: deque[JobSpec] = deque(_shuffled(jobs, str(record.key)) if shuffle else jobs)
        self.pruned = False

    @property
    def records(self) -> list[JobRecord]:
        """Jobs that are done, without their details, in the trial's order."""
        return [self._done[job_id] for job_id in self._jobs if job_id in self._done]

    @property
    def in_flight(self) -> bool:
        """Whether jobs were handed out that have not come back."""
        return len(self._done) + len(self._waiting) < len(self._jobs)

    @property
    def has_waiting(self) -> bool:
        """Whether jobs wait to be handed out."""
        return bool(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self._waiting and not self.in_flight

    def next_job(self) -> JobSpec | None:
        """Hand out a job; None when all are."""
        return self._waiting.popleft() if self._waiting else None

    def add(self, record: JobRecord) -> None:
        """Take a finished job."""
        self._left[record.subject] -= record.id not in self._done
        self._done[record.id] = record.without_details()

    def go_on(self) -> None:
        """Take note that the trial was compared with others and not stopped."""

    def stop(self) -> None:
        """Drop the jobs that were not handed out: the trial is pruned."""
        self.pruned = True
        for job in self._waiting:
            del self._jobs[job.id]
        self._waiting.clear()

    def finished_subject(self, record: JobRecord, objective: Objective) -> tuple[int, float] | None:
        """Return index and value of the subject of `record` if this was its last job."""
        if self._left[record.subject]:
            return None
        ids = self._of_subject[record.subject]
        values = [objective.of_job(self._done[i]) for i in ids]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            return None
        return self._subjects.index(record.subject), statistics.fmean(known)

    def ended(self, objective: Objective) -> TrialRecord:
        """Return the trial with its final status and value.

        A job that diverged or failed fails the trial: a configuration must not win by losing its
        hard subjects.
        """
        lost = [r for r in self.records if not r.status.is_scored]
        if lost:
            message = f"{len(lost)} of {len(self._jobs)} jobs have no scores: {lost[0].message}"
            return replace(self.record, status=TrialStatus.FAILED, message=message)
        if self.pruned:
            message = f"stopped after {len(self._done)} jobs"
            return replace(self.record, status=TrialStatus.PRUNED, message=message)
        value = objective.of_jobs(self.records)
        if value is None:
            message = f"the objective is not defined: {objective.text}"
            return replace(self.record, status=TrialStatus.FAILED, message=message)
        return replace(self.record, status=TrialStatus.COMPLETE, value=value)


def _shuffled(jobs: Sequence[JobSpec], key: str) -> Iterator[JobSpec]:
    by_subject: dict[str, list[JobSpec]] = {}
    for job in jobs:
        by_subject.setdefault(job.anatomy.subject, []).append(job)
    for subject in subject_order(list(by_subject), key):
        yield from by_subject[subject]


def subject_order(subjects: Sequence[str], key: str) -> list[str]:
    """Return subjects in the order in which the trial of a key runs them."""
    return sorted(subjects, key=lambda name: seed_of("order", key, name))
