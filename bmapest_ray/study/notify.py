"""Telling others without depending on them."""

from collections.abc import Callable
from typing import Any

from bmapest_ray.study.ports import Progress, Snapshot, Tracker
from bmapest_ray.study.records import JobRecord, StudyInfo, TrialRecord
from bmapest_ray.study.summary import StudyResult


class Notifier:
    """A tracker that may be absent and may fail: a failure is counted and never stops a study."""

    def __init__(self, tracker: Tracker | None) -> None:
        self._tracker = tracker
        self.errors = 0
        self.last_error = ""

    def study_started(self, study: StudyInfo) -> None:
        """Pass on."""
        self._pass(lambda t: t.study_started(study))

    def trial_started(self, trial: TrialRecord) -> None:
        """Pass on."""
        self._pass(lambda t: t.trial_started(trial))

    def job_done(self, trial: TrialRecord, job: JobRecord) -> None:
        """Pass on."""
        self._pass(lambda t: t.job_done(trial, job))

    def trial_done(self, trial: TrialRecord) -> None:
        """Pass on."""
        self._pass(lambda t: t.trial_done(trial))

    def study_done(self, result: StudyResult) -> None:
        """Pass on."""
        self._pass(lambda t: t.study_done(result))

    def _pass(self, tell: Callable[[Tracker], Any]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:  # noqa: BLE001 - tracking must never stop a study
            self.errors += 1
            self.last_error = f"{type(error).__name__}: {error}"


class Silent(Progress):
    """Shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""
