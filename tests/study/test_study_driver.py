"""The loop of a study on the in-process runner, with jobs that only pretend."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import fake_job
import numpy as np
import pytest

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study.answer import read_result
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.desk import StudyError
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.ports import Snapshot
from bmapest_ray.study.run import run_study
from bmapest_ray.study.status import JobStatus, TrialStatus
from bmapest_ray.study.store import load_jobs, load_results, load_trials
from bmapest_ray.study.summary import StudyStatus
from bmapest_ray.tracking.memory import MemoryTracker

SPACE = {"inversion.settings.damping": {"low": 0.0, "high": 1.0, "steps": 5}}


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects of a few voxels."""
    folder = tmp_path_factory.mktemp("brains")
    for number in range(1, 7):
        fraction = np.full((3, 4, 8, 8), 0.05 * number, dtype=np.float32)
        write_maps(fraction, np.eye(4), folder, f"{number:02d}")
    return folder


def make(brains: Path, **sections: Any) -> StudyConfig:
    raw: dict[str, Any] = {
        "name": "pretend",
        "question": "Which is best?",
        "anatomy": {"source": f"bids:{brains}", "subjects": ["01", "02", "03"]},
        "protocols": ["t1inv[0]", "t1inv"],
        "noise": {"snr": 50, "reference": "t1inv[3]", "draws": 2},
        "output": {"maps": False},
    }
    for name, section in sections.items():
        raw[name] = (
            {**raw[name], **section} if isinstance(section, dict) and name in raw else section
        )
    return parse_study(raw)


def runner(folder: Path, **state: Any) -> LocalRunner:
    return LocalRunner(fake_job.WORK, {"log": str(folder), **state})


def test_without_a_search_every_protocol_is_reported_once(brains: Path, tmp_path: Path) -> None:
    tracker, out = MemoryTracker(), tmp_path / "out"
    result = run_study(make(brains), out, runner=runner(tmp_path), tracker=tracker)
    assert result.status is StudyStatus.FINISHED
    assert [row.label for row in result.protocols] == ["t1inv", "t1inv[0]"]
    best = result.protocols[0]
    assert best.objective is not None
    # subjects 01, 02, 03 differ by 0.5 dB; draws of one subject are averaged first
    assert (best.objective.n, best.objective.sd) == (3, pytest.approx(0.5))
    assert best.scores["WM"]["psnr_db"].mean == pytest.approx(20 + 4 + 1.0 - 0.09)
    assert best.spread["WM"]["psnr_db"] == pytest.approx(0.0)
    assert result.n_subjects == 3
    assert result.jobs == {"DONE": 12}
    frame = load_results(out)
    assert len(frame) == 12 * 3
    assert set(frame["stage"]) == {"report"}
    assert set(frame["draw"]) == {0, 1}
    assert sorted(tracker.trials) == ["t1inv/report/0000", "t1inv[0]/report/0000"]
    assert all(trial.closed and len(trial.jobs) == 6 for trial in tracker.trials.values())
    assert tracker.result == result
    told = read_result(out)
    assert told["protocols"][0]["label"] == "t1inv"
    assert set(told["protocols"][0]["job_ids"]) == set(frame[frame.protocol == "t1inv"].job_id)


def test_a_search_finds_the_best_setting_and_reports_it_on_fresh_noise(
    brains: Path, tmp_path: Path
) -> None:
    search = {"space": SPACE, "sampler": "grid", "n_trials": None}
    seen: list[Snapshot] = []

    class Shown:
        def update(self, snapshot: Snapshot) -> None:
            seen.append(snapshot)

        def message(self, text: str) -> None: ...

    out = tmp_path / "out"
    config = make(brains, search=search)
    result = run_study(config, out, runner=runner(tmp_path), progress=Shown())
    for row in result.protocols:
        assert row.settings == {"inversion.settings.damping": 0.25}
        assert row.trials == 5
    frame = load_results(out)
    report = frame[frame.stage == "report"]
    assert len(report) == 2 * 3 * 2 * 3
    assert set(report.draw) == {2, 3}  # no search has seen them
    assert set(frame[frame.stage == "search"].draw) == {0, 1}
    assert any("chosen on the same subjects" in text for text in result.caveats)
    last = seen[-1]
    assert (last.jobs_done, last.jobs_total) == (2 * 5 * 6 + 2 * 6, 2 * 5 * 6 + 2 * 6)
    assert (last.trials_done, last.trials_total) == (12, 12)
    assert last.best["t1inv"] == pytest.approx(20 + 4 + 1.0 - 0.0025)
    assert [s.jobs_done for s in seen] == sorted(s.jobs_done for s in seen)


def test_tune_subjects_choose_and_are_not_reported(brains: Path, tmp_path: Path) -> None:
    search = {"space": SPACE, "sampler": "random", "n_trials": 3, "tune_subjects": ["05", "06"]}
    out = tmp_path / "out"
    result = run_study(make(brains, search=search), out, runner=runner(tmp_path))
    frame = load_results(out)
    assert set(frame[frame.stage == "search"].subject) == {"05", "06"}
    assert set(frame[frame.stage == "report"].subject) == {"01", "02", "03"}
    assert not any("same subjects" in text for text in result.caveats)
    overlapping = {**search, "tune_subjects": ["03", "05"]}
    with pytest.raises(InvalidInput, match="must not be reported, got 03 in both"):
        run_study(make(brains, search=overlapping), tmp_path / "b", runner=runner(tmp_path))


def test_a_configuration_that_diverges_never_wins(brains: Path, tmp_path: Path) -> None:
    search = {"space": SPACE, "sampler": "grid", "n_trials": None}
    out = tmp_path / "out"
    config = make(brains, protocols=["t1inv"], search=search)
    result = run_study(config, out, runner=runner(tmp_path, diverges_above=0.2))
    assert result.protocols[0].settings == {"inversion.settings.damping": 0.0}
    assert result.jobs[JobStatus.DIVERGED] == 4 * 6
    failed = [t for t in load_trials(out) if t.status is TrialStatus.FAILED]
    assert len(failed) == 4
    assert all(t.value is None for t in failed)
    frame = load_results(out)
    assert frame[frame.status == "DIVERGED"].psnr_db.isna().all()
    assert len(frame) == 36 * 3


def test_failed_jobs_keep_their_traceback_and_run_again_only_when_asked(
    brains: Path, tmp_path: Path
) -> None:
    search = {"space": SPACE, "sampler": "grid", "n_trials": None}
    out = tmp_path / "out"
    config = make(brains, protocols=["t1inv"], search=search)
    run_study(config, out, runner=runner(tmp_path, fails_above=0.9))
    failed = [job for job in load_jobs(out) if job.status is JobStatus.FAILED]
    assert len(failed) == 6
    assert all("fake_job.py" in job.traceback for job in failed)
    assert failed[0].message == "ValueError: a fake failure"
    before = len(fake_job.lines(tmp_path, "starts.txt"))
    run_study(config, out, runner=runner(tmp_path), resume=True)
    assert len(fake_job.lines(tmp_path, "starts.txt")) == before


def test_a_study_in_which_everything_fails_stops_early(brains: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match="all of the first 8 jobs failed, the last with ValueError"
    ):
        run_study(make(brains), tmp_path / "out", runner=runner(tmp_path, fails_above=-1.0))
    assert len(fake_job.lines(tmp_path, "starts.txt")) == 8
    assert read_result(tmp_path / "out")["status"] == "FAILED"
    again = run_study(
        make(brains), tmp_path / "out", runner=runner(tmp_path), resume=True, retry_failed=True
    )
    assert again.jobs == {"DONE": 12}
    assert len(load_results(tmp_path / "out")) == 12 * 3


def test_input_that_only_a_job_can_refuse_stops_the_study(brains: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="snr must be right"):
        run_study(make(brains), tmp_path / "out", runner=runner(tmp_path, invalid=True))


def test_a_tracker_that_raises_is_counted_and_stops_nothing(brains: Path, tmp_path: Path) -> None:
    class Broken(MemoryTracker):
        def job_done(self, *_: object) -> None:
            raise ConnectionError("the server is gone")

    tracker = Broken()
    result = run_study(make(brains), tmp_path / "out", runner=runner(tmp_path), tracker=tracker)
    assert result.status is StudyStatus.FINISHED
    assert result.tracking_errors == 12
    assert result.tracking_message == "ConnectionError: the server is gone"


def test_pruning_across_subjects_drops_the_rest_of_a_bad_trial(
    brains: Path, tmp_path: Path
) -> None:
    search = {
        "space": {"inversion.settings.damping": {"choices": [0.3, 0.9, 1.0, 0.8]}},
        "sampler": "grid",
        "n_trials": None,
        "pruner": "wilcoxon",
    }
    config = make(brains, protocols=["t1inv"], search=search, anatomy={"subjects": "all"})
    out = tmp_path / "out"
    result = run_study(config, out, runner=runner(tmp_path))
    trials = {t.settings["inversion.settings.damping"]: t for t in load_trials(out)[:-1]}
    assert trials[0.3].status is TrialStatus.COMPLETE
    assert {t.status for d, t in trials.items() if d != 0.3} == {TrialStatus.PRUNED}
    assert result.jobs["DONE"] <= 4 * 12 + 12 - 6  # unpruned: four trials and the report
    assert result.protocols[0].settings == {"inversion.settings.damping": 0.3}


def test_an_interrupt_leaves_everything_finished_and_resume_goes_on(
    brains: Path, tmp_path: Path
) -> None:
    class Impatient:
        def update(self, snapshot: Snapshot) -> None:
            if snapshot.jobs_done == 17:
                raise KeyboardInterrupt

        def message(self, text: str) -> None: ...

    search = {"space": SPACE, "sampler": "tpe", "n_trials": 6}
    config, out, tracker = make(brains, search=search), tmp_path / "out", MemoryTracker()
    with pytest.raises(KeyboardInterrupt):
        run_study(config, out, runner=runner(tmp_path), tracker=tracker, progress=Impatient())
    assert tracker.result is not None
    assert tracker.result.status is StudyStatus.INTERRUPTED
    assert len(load_results(out)) == 17 * 3
    with pytest.raises(InvalidInput, match="add --resume"):
        run_study(config, out, runner=runner(tmp_path))
    result = run_study(config, out, runner=runner(tmp_path), tracker=tracker, resume=True)
    assert result.status is StudyStatus.FINISHED
    starts = Counter(fake_job.lines(tmp_path, "starts.txt"))
    assert set(starts.values()) == {1}
    assert len(starts) == len(load_jobs(out)) == 2 * 6 * 6 + 2 * 6
    assert len(tracker.trials) == 2 * 6 + 2
    assert all(t.closed and len(t.jobs) == 6 for t in tracker.trials.values())
    assert all(t.trial.status is TrialStatus.COMPLETE for t in tracker.trials.values())


def test_a_resumed_study_must_be_the_same_but_for_its_budget(brains: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    search = {"space": SPACE, "sampler": "random", "n_trials": 2}
    run_study(make(brains, search=search), out, runner=runner(tmp_path))
    with pytest.raises(InvalidInput, match="noise changed"):
        run_study(
            make(brains, search=search, noise={"snr": 60}),
            out,
            runner=runner(tmp_path),
            resume=True,
        )
    more = {**search, "n_trials": 4}
    result = run_study(make(brains, search=more), out, runner=runner(tmp_path), resume=True)
    assert result.protocols[0].trials == 4
    reports = [t for t in load_trials(out) if t.key.stage == "report"]
    assert len(reports) == 2
    for row in result.protocols:
        told = {p["label"]: p for p in read_result(out)["protocols"]}[row.label]
        assert told["settings"] == dict(row.settings)


def test_records_are_json_that_any_program_reads(brains: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(make(brains, protocols=["t1inv"]), out, runner=runner(tmp_path))
    for path in (out / "jobs").glob("*/*.json"):
        record = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert record["id"] == path.stem
        assert record["schema"] == 1
