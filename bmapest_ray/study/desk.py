"""Where jobs leave for the runner and where their results are made permanent."""

from collections import Counter
from dataclasses import replace

from bmapest_ray.base.errors import BmapestError, InvalidInput
from bmapest_ray.study.maps import write_job_maps
from bmapest_ray.study.ports import Outcome, Runner, Task
from bmapest_ray.study.recording import record_of
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.store import StudyStore
from bmapest_ray.study.trials import ActiveTrial

SKIPPED = "SKIPPED"
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
    """

    def __init__(self, store: StudyStore, runner: Runner, *, maps: bool) -> None:
        self._store = store
        self._runner = runner
        self._maps = maps
        self._out: dict[str, tuple[JobSpec, list[ActiveTrial]]] = {}
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
        """Run a job for a trial; a job that another trial has running is shared."""
        if job.id in self._out:
            self._out[job.id][1].append(trial)
            return
        self._out[job.id] = (job, [trial])
        self._runner.submit(Task(job.id, job, job.affinity))

    def collect(self, timeout_s: float) -> tuple[JobRecord | None, list[ActiveTrial]]:
        """Wait for a job; returns its record, which is committed, and the trials that share it.

        Raises
        ------
        InvalidInput
            If the job finds that the user's input is at fault, or the disk refuses the result.
        StudyError
            If every job so far has failed, or the runner has lost one.
        """
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
