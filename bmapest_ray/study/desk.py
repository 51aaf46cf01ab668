"""Where jobs leave for the runner and where their results are made permanent."""

import time
from collections import Counter
from dataclasses import replace

from bmapest_ray.base.errors import BmapestError, InvalidInput
from bmapest_ray.study.crew import Alone, Crew
from bmapest_ray.study.maps import write_job_maps
from bmapest_ray.study.ports import Outcome, Runner, Task
from bmapest_ray.study.recording import record_of
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.store import StudyStore
from bmapest_ray.study.trials import ActiveTrial

SKIPPED = "SKIPPED"
_LOOK_S, _TAKE_S = 0.3, 2.0
"""How often to look for results of other drivers, and whether those have died."""
_HOPELESS = 8
"""So many failed jobs and not one that ran: something is wrong with all of them."""


class StudyError(BmapestError, RuntimeError):
    """A study cannot go on though its input is fine."""


class Desk:
    """Hands out jobs and commits what comes back.

    Parameters
    ----------
    store
        Where results go.
    runner
        Who runs jobs.
    maps
        Whether NIfTI maps are written.
    crew
        Other drivers: a job that one of them has taken is waited for, not run again.
    """

    def __init__(
        self, store: StudyStore, runner: Runner, *, maps: bool, crew: Crew | None = None
    ) -> None:
        self._store = store
        self._runner = runner
        self._maps = maps
        self._crew = crew or Alone()
        self._out: dict[str, tuple[JobSpec, list[ActiveTrial]]] = {}
        self._elsewhere: dict[str, tuple[JobSpec, list[ActiveTrial]]] = {}
        self._looked = self._tried = 0.0
        self.counts: Counter[str] = Counter()

    @property
    def is_free(self) -> bool:
        """Whether the runner takes another job."""
        return self._runner.free > 0

    def finished(self, job: JobSpec) -> JobRecord | None:
        """Return the committed result of a job; None if it has to run."""
        record = self._store.job(job.id)
        if record is not None:
            self.counts[SKIPPED] += 1
        return record

    def submit(self, trial: ActiveTrial, job: JobSpec) -> None:
        """Run a job for a trial; a job that another trial or driver has running is shared."""
        for held in (self._out, self._elsewhere):
            if job.id in held:
                held[job.id][1].append(trial)
                return
        if self._crew.take(f"job/{job.id}"):
            self._run(job, [trial])
        else:
            self._elsewhere[job.id] = (job, [trial])

    def _run(self, job: JobSpec, trials: list[ActiveTrial]) -> None:
        self._out[job.id] = (job, trials)
        self._runner.submit(Task(job.id, job, job.affinity))

    def _from_elsewhere(self) -> tuple[JobRecord, list[ActiveTrial]] | None:
        """Return a job that another driver has committed; run those whose driver has died."""
        now = time.monotonic()
        if not self._elsewhere or now - self._looked < _LOOK_S:
            return None
        for job_id, (_, trials) in self._elsewhere.items():
            record = self._store.job(job_id)
            if record is not None:
                del self._elsewhere[job_id]
                self.counts[SKIPPED] += 1
                return record, trials
        self._looked = now
        if now - self._tried >= _TAKE_S:
            self._tried = now
            self._take_over()
        return None

    def _take_over(self) -> None:
        for job_id, (job, trials) in list(self._elsewhere.items()):
            if not self.is_free:
                return
            if self._crew.take(f"job/{job_id}") and self._store.job(job_id) is None:
                del self._elsewhere[job_id]
                self._run(job, trials)

    def collect(self, timeout_s: float) -> tuple[JobRecord | None, list[ActiveTrial]]:
        """Wait for a job; returns its record, which is committed, and the trials that share it.

        Raises
        ------
        InvalidInput
            If the job finds that the user's input is at fault, or the disk refuses the result.
        StudyError
            If every job so far has failed, or the runner has lost one.
        """
        ended = self._from_elsewhere()
        if ended is not None:
            return ended
        if self._elsewhere:
            timeout_s = min(timeout_s, _LOOK_S)
        if self._elsewhere and not self._runner.pending:
            time.sleep(timeout_s)
            return None, []
        outcome = self._runner.next_done(timeout_s)
        if outcome is None:
            if not self._runner.pending:
                raise StudyError(
                    f"a runner must give every job back, it lost {len(self._out)}; go on with "
                    "--resume"
                )
            return None, []
        job, trials = self._out.pop(outcome.task_id)
        record = self._commit(job, outcome, trials[0])
        self.counts[record.status] += 1
        self._stop_if_hopeless(record)
        return record, trials

    def _commit(self, job: JobSpec, outcome: Outcome, trial: ActiveTrial) -> JobRecord:
        if outcome.failure is not None and outcome.failure.invalid_input:
            raise InvalidInput(outcome.failure.message)
        record = record_of(job, outcome, str(trial.record.key))
        if self._maps and record.status.is_scored:
            record = replace(record, files=write_job_maps(self._store.root, job, outcome.value))
        if self._store.commit(record):
            return record
        kept = self._store.job(record.id)  # another writer was first: its result stays
        return record if kept is None else kept

    def _stop_if_hopeless(self, record: JobRecord) -> None:
        failed = self.counts[JobStatus.FAILED]
        if failed >= _HOPELESS and failed == sum(self.counts.values()):
            raise StudyError(
                f"all of the first {failed} jobs failed, the last with {record.message}; its "
                f"traceback is in jobs/{record.id[:2]}/{record.id}.json"
            )
