"""What every tracker must do: subclass `TrackerContract`, give it a tracker and how to read it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bmapest_ray.study.ports import Tracker
from bmapest_ray.study.records import JobRecord, ProtocolInfo, StudyInfo, TrialKey, TrialRecord
from bmapest_ray.study.status import JobStatus, Stage, TrialStatus
from bmapest_ray.study.summary import StudyResult, StudyStatus

SCORES = {tissue: {"psnr_db": 30.0 + i} for i, tissue in enumerate(("GM", "WM", "CSF"))}


@dataclass
class SeenTrial:
    """A trial as it can be read back from a tracker."""

    status: str
    value: float | None
    jobs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Job id -> ``GM.psnr_db`` -> value."""


def make_study(directory: Path, *, resumed: bool = False, study_id: str = "s1") -> StudyInfo:
    return StudyInfo(
        id=study_id,
        name="contract",
        question="Which protocol measures grey matter best?",
        directory=directory,
        config={"name": "contract", "noise": {"snr": 100.0}},
        protocols=(ProtocolInfo("t1inv", "d" * 64, 50.0, "name: t1inv\n"),),
        resumed=resumed,
    )


def make_trial(number: int, *job_ids: str) -> TrialRecord:
    key = TrialKey("t1inv", Stage.SEARCH, number)
    return TrialRecord(key, {"inversion.settings.damping": 0.1 * (number + 1)}, job_ids)


def make_job(job_id: str, status: JobStatus = JobStatus.DONE) -> JobRecord:
    done = status is JobStatus.DONE
    return JobRecord(
        id=job_id,
        status=status,
        protocol="t1inv",
        subject="42",
        slice="below-top:75",
        draw=0,
        scores=SCORES if done else {},
        message="" if done else "the objective grew",
        iterations=2,
        scan_time_s=50.0,
        history=(
            {"iteration": 0, "objective": 2.0, "seconds": 0.1},
            {"iteration": 1, "objective": 1.0, "seconds": 0.2},
        ),
    )


def make_result(study: StudyInfo, status: StudyStatus = StudyStatus.FINISHED) -> StudyResult:
    return StudyResult(study, status, (), "mean psnr_db (higher is better)", 1)


class TrackerContract(ABC):
    """Tests that run on every tracker."""

    @pytest.fixture
    @abstractmethod
    def tracker(self, tmp_path: Path) -> Tracker:
        """A tracker that knows nothing yet."""

    @abstractmethod
    def reopened(self, tracker: Tracker, tmp_path: Path) -> Tracker:
        """A tracker on the same store, as a driver that was killed and resumed makes it."""

    @abstractmethod
    def seen(self, tracker: Tracker, study: StudyInfo) -> Mapping[str, SeenTrial]:
        """The trials of a study by ``str(trial.key)``, read back from the store."""

    @staticmethod
    def play(tracker: Tracker, study: StudyInfo, numbers: tuple[int, ...] = (0, 1)) -> None:
        tracker.study_started(study)
        for number in numbers:
            jobs = [make_job(f"job-{number}-{i}") for i in range(2)]
            trial = make_trial(number, *(job.id for job in jobs))
            tracker.trial_started(trial)
            for job in jobs:
                tracker.job_done(trial, job)
            tracker.trial_done(replace(trial, status=TrialStatus.COMPLETE, value=31.0 + number))

    def test_trials_and_jobs_nest(self, tracker: Tracker, tmp_path: Path) -> None:
        study = make_study(tmp_path)
        self.play(tracker, study)
        tracker.study_done(make_result(study))
        seen = self.seen(tracker, study)
        assert sorted(seen) == ["t1inv/search/0000", "t1inv/search/0001"]
        for number, trial in enumerate(seen[key] for key in sorted(seen)):
            assert trial.status == "COMPLETE"
            assert trial.value == pytest.approx(31.0 + number)
            assert sorted(trial.jobs) == [f"job-{number}-0", f"job-{number}-1"]
            for scores in trial.jobs.values():
                assert scores["GM.psnr_db"] == pytest.approx(30.0)
                assert scores["CSF.psnr_db"] == pytest.approx(32.0)

    def test_a_trial_without_value_has_none(self, tracker: Tracker, tmp_path: Path) -> None:
        study = make_study(tmp_path)
        tracker.study_started(study)
        trial = make_trial(0, "bad")
        tracker.trial_started(trial)
        tracker.job_done(trial, make_job("bad", JobStatus.DIVERGED))
        tracker.trial_done(replace(trial, status=TrialStatus.FAILED, message="a job diverged"))
        tracker.study_done(make_result(study, StudyStatus.INTERRUPTED))
        seen = self.seen(tracker, study)["t1inv/search/0000"]
        assert (seen.status, seen.value) == ("FAILED", None)
        assert dict(seen.jobs["bad"]) == {}

    def test_telling_again_after_a_resume_leaves_one(
        self, tracker: Tracker, tmp_path: Path
    ) -> None:
        study = make_study(tmp_path)
        tracker.study_started(study)
        trial = make_trial(0, "job-0-0", "job-0-1")
        tracker.trial_started(trial)
        tracker.job_done(trial, make_job("job-0-0"))  # and here the driver died
        again = self.reopened(tracker, tmp_path)
        resumed = make_study(tmp_path, resumed=True)
        self.play(again, resumed)
        again.study_done(make_result(resumed))
        seen = self.seen(again, resumed)
        assert sorted(seen) == ["t1inv/search/0000", "t1inv/search/0001"]
        assert [len(seen[key].jobs) for key in sorted(seen)] == [2, 2]
        assert {trial.status for trial in seen.values()} == {"COMPLETE"}

    def test_a_job_that_two_trials_share_is_in_both(self, tracker: Tracker, tmp_path: Path) -> None:
        study = make_study(tmp_path)
        tracker.study_started(study)
        for number in (0, 1):
            trial = make_trial(number, "shared")
            tracker.trial_started(trial)
            tracker.job_done(trial, make_job("shared"))
            tracker.trial_done(replace(trial, status=TrialStatus.COMPLETE, value=1.0))
        tracker.study_done(make_result(study))
        seen = self.seen(tracker, study)
        assert [list(seen[key].jobs) for key in sorted(seen)] == [["shared"], ["shared"]]
