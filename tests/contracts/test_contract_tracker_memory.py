from collections.abc import Mapping
from pathlib import Path

import pytest
from tracker_contract import SeenTrial, TrackerContract, make_study, make_trial

from bmapest_ray.study.records import StudyInfo
from bmapest_ray.tracking.memory import MemoryTracker


class TestMemoryTracker(TrackerContract):
    @pytest.fixture
    def tracker(self, tmp_path: Path) -> MemoryTracker:  # noqa: ARG002
        return MemoryTracker()

    def reopened(self, tracker: MemoryTracker, tmp_path: Path) -> MemoryTracker:  # noqa: ARG002
        return tracker

    def seen(self, tracker: MemoryTracker, study: StudyInfo) -> Mapping[str, SeenTrial]:
        assert tracker.study is not None
        assert tracker.study.id == study.id
        return {
            key: SeenTrial(
                known.trial.status,
                known.trial.value,
                {
                    job.id: {f"{t}.{s}": v for t, row in job.scores.items() for s, v in row.items()}
                    for job in known.jobs.values()
                },
            )
            for key, known in tracker.trials.items()
        }

    def test_another_study_starts_from_nothing(self, tmp_path: Path) -> None:
        tracker = MemoryTracker()
        self.play(tracker, make_study(tmp_path))
        tracker.study_started(make_study(tmp_path, study_id="s2"))
        assert tracker.trials == {}
        tracker.trial_started(make_trial(0))
        assert list(tracker.trials) == ["t1inv/search/0000"]
