"""The contract on Ray actors, and what only they can do: survive. One Ray instance for all."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner_contract import PROBE, RunnerContract, run_all

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.ray import RayRunner
from bmapest_ray.compute.ray_session import connect, import_ray
from bmapest_ray.compute.ray_slot import Queued, RaySettings, Slot
from bmapest_ray.study.ports import Task
from bmapest_ray.study.status import JobStatus


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray instance with a HOME of its own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        session = connect(None)
        yield home
        session.close()


@pytest.mark.usefixtures("cluster")
class TestRayRunner(RunnerContract):
    def make(self, work: str) -> RayRunner:
        return RayRunner(work, RaySettings(actors=2, num_cpus=0.5))


def play(**settings: float) -> RayRunner:
    return RayRunner(f"{PROBE}:play", RaySettings(actors=2, num_cpus=0.5, **settings))  # type: ignore[arg-type]


@pytest.mark.usefixtures("cluster")
class TestSurvival:
    def test_a_task_runs_again_when_its_worker_dies_but_not_for_ever(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runner = play(retries=1)
        tasks = [Task(f"t{i}", {"value": i}) for i in range(6)]
        tasks.insert(1, Task("unlucky", {"exit_once": str(tmp_path / "flag"), "value": "alive"}))
        tasks.insert(2, Task("poison", {"die": True}))
        done = run_all(runner, tasks)
        runner.shutdown()
        assert done["unlucky"].value == "alive"
        assert done["poison"].attempts == 2
        failure = done["poison"].failure
        assert failure is not None
        assert failure.status is JobStatus.LOST
        assert "died 2 times" in failure.message
        assert [done[f"t{i}"].value for i in range(6)] == list(range(6))
        assert capsys.readouterr().out == ""  # a program that prints JSON shares this stream

    def test_a_task_that_hangs_is_stopped(self) -> None:
        runner = play(retries=0, time_limit_s=1.0)
        done = run_all(runner, [Task("hang", {"hang": True}), Task("fine", {"value": 1})])
        runner.shutdown()
        failure = done["hang"].failure
        assert failure is not None
        assert failure.status is JobStatus.TIMED_OUT
        assert "within 1 s, it was stopped once" in failure.message
        assert done["fine"].value == 1

    def test_where_memory_runs_out_fewer_actors_go_on(self, tmp_path: Path) -> None:
        runner = RayRunner(f"{PROBE}:share", RaySettings(actors=2, num_cpus=0.5, retries=2))
        while not all(slot.is_up for slot in runner._slots):
            runner._step(0.1)
        payload = {"folder": str(tmp_path), "places": 1, "patience_s": 300.0}
        done = run_all(runner, [Task(f"t{i}", payload) for i in range(12)])
        workers = runner.describe()["workers"]
        runner.shutdown()
        assert all(outcome.failure is None for outcome in done.values())
        assert max(outcome.attempts for outcome in done.values()) > 1
        assert workers == 1

    def test_what_never_fits_is_given_up(self, tmp_path: Path) -> None:
        runner = RayRunner(f"{PROBE}:share", RaySettings(actors=2, num_cpus=0.5, retries=2))
        done = run_all(runner, [Task("large", {"folder": str(tmp_path), "places": 0})])
        runner.shutdown()
        failure = done["large"].failure
        assert failure is not None
        assert failure.out_of_memory
        assert "no place is left" in failure.message


@pytest.mark.usefixtures("cluster")
class TestPlacement:
    def test_tasks_of_one_affinity_stay_on_few_workers(self) -> None:
        runner = play()
        tasks = [Task(f"{n}{i}", {"sleep": 0.02}, affinity=n) for i in range(10) for n in "ab"]
        done = run_all(runner, tasks)
        runner.shutdown()
        homes = {n: [o.worker for k, o in done.items() if k[0] == n] for n in "ab"}
        most = sum(max(h.count(w) for w in set(h)) for h in homes.values())
        assert most >= 14, homes  # of 20; blind placement gives about 10

    def test_short_tasks_travel_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        carried: list[int] = []
        send = Slot.send

        def count(slot: Slot, tasks: list[Queued], time_limit_s: float | None) -> None:
            carried.append(len(tasks))
            send(slot, tasks, time_limit_s)

        monkeypatch.setattr(Slot, "send", count)
        runner = RayRunner(f"{PROBE}:echo", RaySettings(actors=2, num_cpus=0.5))
        done = run_all(runner, [Task(f"t{i}", i) for i in range(2000)])
        runner.shutdown()
        assert len(done) == sum(carried) == 2000
        assert len(carried) <= 500  # about 80 where nothing else runs

    def test_an_actor_that_cannot_fit_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match=r"lower compute\.num_cpus or compute\.num_gpus"):
            RayRunner(f"{PROBE}:echo", RaySettings(num_gpus=64))


def test_the_token_is_private_and_nothing_phones_home(cluster: Path) -> None:
    token = cluster / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()
    assert import_ray().is_initialized()
