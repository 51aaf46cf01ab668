"""What every runner must do: subclass `RunnerContract` and give it a way to make a runner."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import pytest

from bmapest_ray.study.ports import Outcome, Runner, Task
from bmapest_ray.study.status import JobStatus

PROBE = "bmapest_ray.compute.probe"
PATIENCE_S = 500.0  # on a busy machine a worker needs long to start
MakeRunner = Callable[[str], Runner]


def run_all(runner: Runner, tasks: list[Task]) -> dict[str, Outcome]:
    """Push tasks through a runner, respecting its back-pressure; each must come back once."""
    waiting, done = list(tasks), dict[str, Outcome]()
    while waiting or runner.pending:
        while waiting and runner.free:
            runner.submit(waiting.pop(0))
        outcome = runner.next_done(PATIENCE_S)
        assert outcome is not None, f"nothing of {runner.pending} came within {PATIENCE_S} s"
        assert outcome.task_id not in done, f"{outcome.task_id} came back twice"
        done[outcome.task_id] = outcome
    assert sorted(done) == sorted(task.id for task in tasks)
    return done


class RunnerContract(ABC):
    """Tests that run on every runner."""

    @abstractmethod
    def make(self, work: str) -> Runner:
        """Make a runner for a work function."""

    @pytest.fixture
    def runner_of(self) -> Iterator[MakeRunner]:
        runners: list[Runner] = []

        def make(work: str) -> Runner:
            runners.append(self.make(f"{PROBE}:{work}"))
            return runners[-1]

        yield make
        for runner in runners:
            runner.shutdown()

    def test_every_task_comes_back_once_with_its_value(self, runner_of: MakeRunner) -> None:
        tasks = [Task(f"t{i}", i, affinity=f"a{i % 3}") for i in range(30)]
        done = run_all(runner_of("echo"), tasks)
        assert {key: outcome.value for key, outcome in done.items()} == {
            t.id: t.payload for t in tasks
        }
        assert all(outcome.failure is None and outcome.attempts == 1 for outcome in done.values())
        assert all(outcome.worker for outcome in done.values())

    def test_an_exception_is_an_outcome_with_its_traceback(self, runner_of: MakeRunner) -> None:
        tasks = [
            Task("bad", {"raise": "no such voxel"}),
            Task("fine", {"value": 7}),
            Task("user", {"invalid": "snr must be above 0, got -1; raise it"}),
        ]
        done = run_all(runner_of("play"), tasks)
        failure = done["bad"].failure
        assert failure is not None
        assert (failure.status, failure.error) == (JobStatus.FAILED, "ValueError")
        assert failure.message == "no such voxel"
        assert "probe.py" in failure.traceback
        assert not failure.invalid_input
        assert done["bad"].value is None
        assert done["fine"].value == 7
        assert done["user"].failure is not None
        assert done["user"].failure.invalid_input

    def test_a_worker_keeps_its_state(self, runner_of: MakeRunner) -> None:
        runner = runner_of("count_calls")
        workers = runner.describe()["workers"]
        done = run_all(runner, [Task(f"t{i}", None) for i in range(12)])
        by_worker: dict[str, list[int]] = {}
        for outcome in done.values():
            by_worker.setdefault(outcome.worker, []).append(outcome.value)
        assert len(by_worker) <= workers
        for counts in by_worker.values():
            assert sorted(counts) == list(range(1, len(counts) + 1))

    def test_back_pressure_refuses_what_it_cannot_hold(self, runner_of: MakeRunner) -> None:
        runner = runner_of("echo")
        count = 0
        while runner.free:
            runner.submit(Task(f"t{count}", count))
            count += 1
            assert count < 10_000
        with pytest.raises(RuntimeError, match="free"):
            runner.submit(Task("too many", 0))
        assert runner.pending == count
        assert len([runner.next_done(PATIENCE_S) for _ in range(count)]) == count
        assert runner.pending == 0

    def test_nothing_pending_gives_none_at_once(self, runner_of: MakeRunner) -> None:
        assert runner_of("echo").next_done() is None

    def test_it_says_what_it_is(self, runner_of: MakeRunner) -> None:
        description = runner_of("echo").describe()
        assert description["kind"] in ("local", "ray")
        assert description["workers"] >= 1

    def test_after_shutdown_it_takes_nothing(self, runner_of: MakeRunner) -> None:
        runner = runner_of("echo")
        runner.submit(Task("dropped", 0))
        runner.shutdown()
        runner.shutdown()
        assert runner.free == runner.pending == 0
        with pytest.raises(RuntimeError, match="open"):
            runner.submit(Task("late", 0))
