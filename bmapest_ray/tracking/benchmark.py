"""What tracking costs a study: the same jobs with MLflow and without, and how far MLflow lags."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from bmapest_ray.anatomy.bids_io import map_path, write_maps
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.compute.factory import make_runner
from bmapest_ray.study.config import ComputeConfig
from bmapest_ray.study.ports import Runner, Task, Tracker
from bmapest_ray.study.records import JobRecord, ProtocolInfo, StudyInfo, TrialKey, TrialRecord
from bmapest_ray.study.status import JobStatus, Stage, TrialStatus
from bmapest_ray.study.summary import StudyResult, StudyStatus
from bmapest_ray.tracking.memory import MemoryTracker
from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

WORK = "bmapest_ray.compute.probe:spin"
PER_TRIAL = 50
MATRIX = 64
ITERATIONS = 20


@dataclass(frozen=True)
class TrackingCost:
    """What was measured.

    Parameters
    ----------
    jobs, job_seconds
        How many jobs there were and how long each kept a core busy.
    bare_s, tracked_s
        Wall time from the first job to the last, without and with MLflow, of every pair.
    lag_s
        How long MLflow took after the last job until everything was written; the longest.
    written, problem
        Calls that were made, and one sentence on what MLflow misses; empty where it has all.
    """

    jobs: int
    job_seconds: float
    bare_s: tuple[float, ...]
    tracked_s: tuple[float, ...]
    lag_s: float
    written: int
    problem: str

    @property
    def ratio(self) -> float:
        """Wall time with tracking over that without, the median of the pairs."""
        return median(t / b for t, b in zip(self.tracked_s, self.bare_s, strict=True))


def measure_tracking(
    directory: Path,
    uri: str | None,
    jobs: int,
    job_seconds: float,
    compute: ComputeConfig,
    pairs: int = 1,
) -> TrackingCost:
    """Run the same jobs without and with MLflow in turn, so that both meet the same machine.

    Parameters
    ----------
    directory
        An empty folder for maps and, without `uri`, the database.
    uri
        An MLflow server; None is the SQLite file in `directory`.
    jobs, job_seconds
        How many, and how long each keeps a core busy.
    compute
        Where they run.
    pairs
        How often both run.
    """
    files = _maps(directory)
    runner = make_runner(compute, WORK, {})
    bare_s, tracked_s, lag_s, written, problem = list[float](), list[float](), 0.0, 0, ""
    try:
        for _ in range(2 * int(runner.describe()["workers"])):  # actors start, imports are done
            runner.submit(Task("warm", 0.0))
            runner.next_done(120)
        for _ in range(pairs):
            bare_s.append(_play(MemoryTracker(), runner, directory, files, jobs, job_seconds))
            tracker = MlflowTracker(uri)
            tracked_s.append(_play(tracker, runner, directory, files, jobs, job_seconds))
            began = time.monotonic()
            tracker.drain()
            lag_s = max(lag_s, time.monotonic() - began)
            tracker.close(0.0)
            written, problem = written + tracker.state.written, problem or tracker.problem
    finally:
        runner.shutdown()
    told = (lag_s, written, problem)
    return TrackingCost(jobs, job_seconds, tuple(bare_s), tuple(tracked_s), *told)


def _play(
    tracker: Tracker,
    runner: Runner,
    directory: Path,
    files: dict[str, str],
    jobs: int,
    job_seconds: float,
) -> float:
    """Tell a tracker of jobs as they end; returns the wall time."""
    study = StudyInfo(
        id=f"bench-{time.time_ns()}",
        name="bench",
        question="What does tracking cost?",
        directory=directory,
        config={"name": "bench"},
        protocols=(ProtocolInfo("t1inv", "d" * 64, 50.0, "name: t1inv\n"),),
    )
    tracker.study_started(study)
    began, done, sent = time.monotonic(), 0, 0
    while done < jobs:
        while sent < jobs and runner.free:
            runner.submit(Task(str(sent), job_seconds))
            sent += 1
        if runner.next_done(300) is None:
            continue
        trial = _trial(done // PER_TRIAL, min(PER_TRIAL, jobs - PER_TRIAL * (done // PER_TRIAL)))
        if done % PER_TRIAL == 0:
            tracker.trial_started(trial)
        tracker.job_done(trial, _job(done, files))
        done += 1
        if done % PER_TRIAL == 0 or done == jobs:
            tracker.trial_done(replace(trial, status=TrialStatus.COMPLETE, value=30.0))
    wall_s = time.monotonic() - began
    tracker.study_done(StudyResult(study, StudyStatus.FINISHED, (), "none", 1))
    return wall_s


def _trial(number: int, size: int) -> TrialRecord:
    ids = tuple(f"job-{PER_TRIAL * number + index}" for index in range(size))
    settings = {"inversion.settings.damping": 0.1}
    return TrialRecord(TrialKey("t1inv", Stage.SEARCH, number), settings, ids)


def _job(number: int, files: dict[str, str]) -> JobRecord:
    names = ("psnr_db", "ssim", "dice", "dice_paper", "soft_dice", "mae", "volume_error")
    return JobRecord(
        id=f"job-{number}",
        status=JobStatus.DONE,
        protocol="t1inv",
        subject=f"{number % 10:02d}",
        slice="below-top:75",
        draw=number // 10,
        scores={tissue: dict.fromkeys(names, 0.5) for tissue in TISSUES},
        iterations=ITERATIONS,
        scan_time_s=50.0,
        configuration={"solver": "gauss-newton", "settings": {"damping": 0.1}},
        history=tuple(
            {"iteration": i, "objective": 1.0 / (1 + i), "seconds": 0.1 * i}
            for i in range(ITERATIONS)
        ),
        files=files,
    )


def _maps(directory: Path) -> dict[str, str]:
    """Write one job's maps, which stand for those of all jobs."""
    random = np.random.default_rng(0)
    files = {}
    for prefix, desc in (("", None), ("truth_", "truth")):
        maps = (random.random((3, MATRIX, MATRIX)) / 3).astype(np.float32)
        write_maps(maps, np.diag([3.375, 3.375, 3.375, 1.0]), directory, "00", desc)
        for tissue in TISSUES:
            path = map_path(directory, "00", tissue, desc, "probseg")
            files[f"{prefix}{tissue}"] = path.relative_to(directory).as_posix()
    return files
