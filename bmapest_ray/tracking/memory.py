"""A tracker that keeps what it is told, for tests, notebooks and studies that track nowhere."""

from dataclasses import dataclass, field

from bmapest_ray.study.records import JobRecord, StudyInfo, TrialRecord
from bmapest_ray.study.summary import StudyResult


@dataclass
class TrackedTrial:
    """A trial and its jobs, as they stand now."""

    trial: TrialRecord
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    closed: bool = False


@dataclass
class MemoryTracker:
    """Keeps studies, trials and jobs by their ids, so that hearing of one twice leaves one."""

    study: StudyInfo | None = None
    trials: dict[str, TrackedTrial] = field(default_factory=dict)
    result: StudyResult | None = None

    def study_started(self, study: StudyInfo) -> None:
        """Open the study; one with another id starts from nothing."""
        if self.study is not None and self.study.id != study.id:
            self.trials.clear()
        self.study = study
        self.result = None

    def trial_started(self, trial: TrialRecord) -> None:
        """Open a trial, keeping the jobs of one that is known."""
        known = self.trials.setdefault(str(trial.key), TrackedTrial(trial))
        known.trial = trial
        known.closed = False

    def job_done(self, trial: TrialRecord, job: JobRecord) -> None:
        """Keep a job under its trial."""
        self.trials[str(trial.key)].jobs[job.id] = job

    def trial_done(self, trial: TrialRecord) -> None:
        """Close a trial."""
        known = self.trials[str(trial.key)]
        known.trial = trial
        known.closed = True

    def study_done(self, result: StudyResult) -> None:
        """Keep the result."""
        self.result = result
