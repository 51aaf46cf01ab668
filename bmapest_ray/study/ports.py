"""What a study needs from the outside: something that runs jobs, and something that is told.

The study works on these protocols alone; `bmapest_ray.compute` and `bmapest_ray.tracking` implement
them, and the tests of ``tests/contracts`` hold every implementation to what is written here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bmapest_ray.study.records import JobRecord, StudyInfo, TrialRecord
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.summary import StudyResult


@dataclass(frozen=True)
class Task:
    """One call of the runner's work function.

    The work function is named when a runner is made, as ``"package.module:function"``, and is
    called as ``function(payload, state)``; `state` is a dictionary that lives with the worker.
    """

    id: str
    payload: Any
    affinity: str = ""
    """Tasks of one affinity share what a worker caches; a runner may keep them together."""


@dataclass(frozen=True)
class Failure:
    """Why a task has no value."""

    status: JobStatus
    """FAILED (the work raised), LOST (its worker died) or TIMED_OUT, after the last attempt."""
    error: str
    """Name of the exception's class."""
    message: str
    traceback: str = ""
    invalid_input: bool = False
    """The work raised InvalidInput or MissingInput: the user's input is at fault, not the task."""
    out_of_memory: bool = False
    """Memory of the device or the machine ran out: with fewer neighbours the task may fit."""


@dataclass(frozen=True)
class Outcome:
    """How one task ended: a value or a failure, never both."""

    task_id: str
    value: Any = None
    failure: Failure | None = None
    attempts: int = 1
    seconds: float = 0.0
    worker: str = ""


class Runner(Protocol):
    """Runs tasks. Every submitted task comes back from `next_done` exactly once, in any order.

    A task whose worker dies or hangs is run again a bounded number of times, so a work function may
    run more than once; what it returns is delivered once. A runner is used from one thread.
    """

    @property
    def free(self) -> int:
        """How many more tasks may be submitted now (back-pressure)."""

    @property
    def pending(self) -> int:
        """How many tasks were submitted and have not come back."""

    def submit(self, task: Task) -> None:
        """Take a task; raises RuntimeError when `free` is 0 or after `shutdown`."""

    def next_done(self, timeout_s: float | None = None) -> Outcome | None:
        """Return a finished task; None when nothing is pending or `timeout_s` has passed."""

    def describe(self) -> Mapping[str, Any]:
        """Say what runs the tasks, as JSON-ready data: kind, workers, devices."""

    def shutdown(self) -> None:
        """Stop the workers, dropping what is pending; calling it again does nothing."""


class Tracker(Protocol):
    """Is told what happened, after it is on disk.

    Calls come from one thread, in the order of the methods below. A resumed study tells everything
    again from disk, so telling the same trial or job twice must leave one. Raising is allowed: the
    study counts it, says so at the end and goes on.
    """

    def study_started(self, study: StudyInfo) -> None:
        """Open the study, or find it again by `study.id` if it is resumed."""

    def trial_started(self, trial: TrialRecord) -> None:
        """Open a trial within the study."""

    def job_done(self, trial: TrialRecord, job: JobRecord) -> None:
        """Record a finished job of a trial; its maps are in `job.files`."""

    def trial_done(self, trial: TrialRecord) -> None:
        """Close a trial; its status and value are final."""

    def study_done(self, result: StudyResult) -> None:
        """Close the study: finished, interrupted or failed as `result.status` says."""


@dataclass(frozen=True)
class Snapshot:
    """How far a study is."""

    jobs_done: int
    jobs_total: int
    """An estimate while a search is running."""
    jobs_failed: int
    jobs_skipped: int
    """Jobs found finished on disk."""
    trials_done: int
    trials_total: int
    best: Mapping[str, float]
    """Protocol -> best value of the objective so far."""
    seconds: float
    seconds_left: float | None
    """None until it can be estimated."""


class Progress(Protocol):
    """Shows a person how far a study is."""

    def update(self, snapshot: Snapshot) -> None:
        """Show a new state; called after every finished job."""

    def message(self, text: str) -> None:
        """Show one line."""
