"""``kill -9`` of the driver in the middle, then resume: nothing is lost, nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fake_job
import pytest
import study_driver_process

from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.store import load_jobs, load_results, load_trials
from bmapest_ray.study.summary import StudyStatus

HERE = Path(__file__).parent
JOBS = 2 * 5 * 3 + 2 * 3  # protocols x trials x draws, and the reports
IN_FLIGHT = 1 + 4  # at most, on the local runner and on one Ray actor


def start(out: Path, log: Path, kind: str, seconds: float, *rest: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(HERE.parent / "contracts"), os.environ.get("PYTHONPATH", "")])
    seed = "7" if kind == "ray" else "11"  # ids must not depend on the process's hash seed
    return subprocess.Popen(
        [
            sys.executable,
            str(HERE / "study_driver_process.py"),
            out,
            log,
            kind,
            str(seconds),
            *rest,
        ],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed, "HOME": str(log)},
    )


def kill_after(driver: subprocess.Popen[bytes], out: Path, jobs: int) -> dict[str, JobRecord]:
    """Kill a driver once so many jobs are committed; returns what is on disk then."""
    deadline = time.monotonic() + 500
    while len(list((out / "jobs").glob("*/[!.]*.json"))) < jobs:
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(30)
    time.sleep(0.5)  # what was in flight in other processes ends, or dies with its driver
    committed = {job.id: job for job in load_jobs(out)}
    assert jobs <= len(committed) < JOBS
    return committed


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was_on_either_runner(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()
    first = kill_after(start(out, log, "local", 0.02), out, 7)
    second = kill_after(start(out, log, "ray", 0.1, "--resume"), out, len(first) + 7)
    study_driver_process.run(out, log, "local", 0.0, resume=True)

    after = {job.id: job for job in load_jobs(out)}
    assert len(after) == JOBS
    for before in (first, second):
        assert {job_id: after[job_id] for job_id in before} == before  # kept, not done again
    starts = Counter(fake_job.lines(log, "starts.txt"))
    assert set(starts) == set(after)
    again = {job_id for job_id, count in starts.items() if count > 1}
    assert sum(starts.values()) - JOBS <= IN_FLIGHT  # only what was in flight ran again
    assert not again & set(first)
    frame = load_results(out)
    assert len(frame) == JOBS * 3
    assert not frame.duplicated(["job_id", "tissue"]).any()
    trials = load_trials(out)
    assert len(trials) == 2 * 5 + 2
    assert {trial.status for trial in trials} == {"COMPLETE"}
    assert set().union(*(trial.job_ids for trial in trials)) == set(after)
    assert not list(out.rglob(".tmp-*"))
    assert StudyStatus.FINISHED in (out / "result.json").read_text()
    assert all((out / file).is_file() for job in after.values() for file in job.files.values())
