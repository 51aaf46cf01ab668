"""The life of a job and of a trial, and who may try a job again.

A job::

    QUEUED -> RUNNING -> DONE        scored; its result is committed, nobody runs it again
                      -> DIVERGED    the solver says so; committed, nobody (it would diverge again)
                      -> FAILED      it raised; committed with its traceback, the user may
                      -> LOST        its worker or node died; the runner, up to `retries` times
                      -> TIMED_OUT   it passed its time limit; the runner, up to `retries` times
    LOST, TIMED_OUT -> QUEUED again, and FAILED once the runner's retries are spent

A job that was QUEUED, RUNNING or LOST when its driver died left nothing behind: resuming runs it.
"""

from enum import StrEnum


class Retry(StrEnum):
    """Who may run a job again."""

    NOBODY = "nobody"
    RUNNER = "runner"
    USER = "user"


class JobStatus(StrEnum):
    """Where a job is in its life (diagram in the module's docstring)."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"
    LOST = "LOST"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        """Whether a job in this status has a committed result."""
        return self in (JobStatus.DONE, JobStatus.DIVERGED, JobStatus.FAILED)

    @property
    def is_scored(self) -> bool:
        """Whether a job in this status has scores."""
        return self is JobStatus.DONE

    @property
    def who_may_retry(self) -> Retry:
        """Who may run a job in this status again."""
        if self in (JobStatus.LOST, JobStatus.TIMED_OUT):
            return Retry.RUNNER
        return Retry.USER if self is JobStatus.FAILED else Retry.NOBODY


class Stage(StrEnum):
    """Why a trial runs: to choose a configuration, or to report the chosen one."""

    SEARCH = "search"
    REPORT = "report"


class TrialStatus(StrEnum):
    """How a trial ended.

    ``FAILED`` is a trial with a job that diverged or failed: it never has a value, so that a
    configuration cannot win by losing its hard subjects. ``PRUNED`` was stopped early.
    """

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAILED = "FAILED"
