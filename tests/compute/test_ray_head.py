"""A head that goes: it is noticed, the study ends with a sentence, and is resumed."""

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.compute.platform_bench import pretended_study
from bmapest_ray.compute.ray import RayRunner
from bmapest_ray.compute.ray_fleet import Fleet, RayCosts
from bmapest_ray.compute.ray_head import ClusterLost, HeadWatch, host_and_port
from bmapest_ray.study.ports import Outcome, Task
from bmapest_ray.study.run import run_study
from bmapest_ray.study.store import load_jobs

PATIENCE_S = 60.0
JOBS = 30


def wait_until_lost(watch: HeadWatch) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not watch.is_lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_head_that_goes_is_lost_after_a_while_and_found_again() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    place = server.getsockname()
    watch = HeadWatch(f"127.0.0.1:{place[1]}", patience_s=0.2, every_s=0.01)
    watch.check()
    server.close()
    wait_until_lost(watch)
    with pytest.raises(ClusterLost, match=r"silent for 0\.2 s \(Connection refused\).*--resume"):
        watch.check()
    with socket.create_server(place):
        deadline = time.monotonic() + PATIENCE_S
        while watch.is_lost and time.monotonic() < deadline:
            time.sleep(0.01)
        watch.check()
    watch.close()


def test_a_head_that_this_process_cannot_reach_is_not_called_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    watch = HeadWatch(f"127.0.0.1:{port}", patience_s=0.0, every_s=0.001)
    assert host_and_port("auto") is None
    for seen in (watch, HeadWatch("auto", patience_s=0.0, every_s=0.001)):
        time.sleep(0.05)
        seen.check()
        seen.close()


@dataclass
class Doomed(Fleet):
    """A fleet whose head goes with the tenth job."""

    given: int = 0

    def outcome_of(self, task: Task) -> Outcome:
        self.given += 1
        return super().outcome_of(task)

    def check(self) -> None:
        self.is_lost = self.given >= 10
        if self.is_lost:
            raise ClusterLost("the head is gone")

    def kill(self, actor: object, no_restart: bool = False) -> None:  # noqa: ARG002
        assert not self.is_lost, "nobody is there to be asked"


def test_a_study_whose_head_goes_ends_and_is_resumed(tmp_path: Path) -> None:
    config = pretended_study(JOBS)
    work = "bmapest_ray.compute.probe:pretend"
    runner = RayRunner(work, pool=Doomed(2, 5.0, RayCosts(0.0, 0.0, 0.0)))
    with pytest.raises(ClusterLost):
        run_study(config, tmp_path / "out", runner=runner)
    runner.shutdown()
    kept = {job.id: job for job in load_jobs(tmp_path / "out")}
    assert 0 < len(kept) < JOBS
    run_study(config, tmp_path / "out", runner=LocalRunner(work), resume=True)
    jobs = {job.id: job for job in load_jobs(tmp_path / "out")}
    assert len(jobs) == JOBS
    assert {job_id: jobs[job_id] for job_id in kept} == kept  # not done again
    assert {job.status for job in jobs.values()} == {"DONE"}
