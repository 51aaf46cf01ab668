"""What the platform itself costs: against plain processes, per job, and in the driver's memory."""

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING

from bmapest_ray.compute.execution import Worker
from bmapest_ray.study.ports import Progress, Runner, Task

if TYPE_CHECKING:
    from bmapest_ray.study.config import StudyConfig

PROBE = "bmapest_ray.compute.probe"
WORKERS = 2
_NICENESS = int(os.environ.get("RAY_worker_niceness", "15"))  # noqa: SIM112 - its name
"""Ray's workers stand back behind other processes; plain ones must, to be compared with them."""


Tell = Callable[[str], object]


def efficiencies(job_s: float, count: int, pairs: int, tell: Tell) -> list[float]:
    """Return the plain processes' time over the actors' time for every pair of runs."""
    runner = ray_runner("multiply")
    plain = PlainProcesses("multiply")
    ratios: list[float] = []
    try:
        time_runner(runner, [job_s / 10] * (2 * WORKERS))  # both are warm before the first pair
        plain.seconds([job_s / 10] * (2 * WORKERS))
        for _ in range(pairs):
            bare = plain.seconds([job_s] * count)
            ratios.append(bare / time_runner(runner, [job_s] * count))
            tell(f"  pair {len(ratios)}/{pairs}: {ratios[-1]:.3f}")
    finally:
        plain.close()
        runner.shutdown()
    return ratios


def overhead_ms(count: int = 1000) -> float:
    """Return the wall time per job of jobs that do nothing, in milliseconds."""
    runner = ray_runner("echo")
    try:
        time_runner(runner, [0.0] * 200)
        return 1e3 * time_runner(runner, [0.0] * count) / count
    finally:
        runner.shutdown()


def pretended_study(draws: int) -> "StudyConfig":
    """Return a study of so many jobs that tracks nothing and keeps no maps."""
    from bmapest_ray.study.loading import parse_study

    return parse_study(
        {
            "name": "pretended",
            "question": "What does keeping a study cost?",
            "anatomy": {"matrix": 8},
            "protocols": ["t2prep[0]"],
            "noise": {"snr": 100, "draws": draws},
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )


def drive(count: int, runner: Runner, progress: Progress | None = None) -> dict[str, float]:
    """Run a study of pretended jobs and shut its runner down.

    Returns
    -------
    dict
        ``ms_per_job``; and ``before_gb`` and ``peak_gb``, what the process held at most before and
        at the end.
    """
    from bmapest_ray.study.run import run_study

    config = pretended_study(count)
    before_gb = peak_gb()
    with tempfile.TemporaryDirectory(prefix="bmapest-bench-") as folder:
        try:
            started = time.perf_counter()
            run_study(config, Path(folder, "study"), runner=runner, progress=progress)
            seconds = time.perf_counter() - started
        finally:
            runner.shutdown()
    return {"ms_per_job": 1e3 * seconds / count, "before_gb": before_gb, "peak_gb": peak_gb()}


def peak_gb() -> float:
    """Return the most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def ray_runner(work: str) -> Runner:
    """Return two actors of one CPU each on this machine."""
    from bmapest_ray.compute.ray import RayRunner
    from bmapest_ray.compute.ray_slot import RaySettings

    return RayRunner(f"{PROBE}:{work}", RaySettings(actors=WORKERS, num_cpus=1.0))


def time_runner(runner: Runner, payloads: Sequence[float]) -> float:
    """Return the seconds a runner takes for a list of jobs."""
    waiting = [Task(f"job-{number}", payload) for number, payload in enumerate(payloads)]
    waiting.reverse()
    started = time.perf_counter()
    while waiting or runner.pending:
        while waiting and runner.free:
            runner.submit(waiting.pop())
        runner.next_done(5.0)
    return time.perf_counter() - started


class PlainProcesses:
    """Two processes that take jobs from one queue, with nothing around them.

    Parameters
    ----------
    work
        Name of the probe's function.
    """

    def __init__(self, work: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._jobs: Queue[float | None] = context.Queue()
        self._done: Queue[float] = context.Queue()
        self._processes = [
            context.Process(target=_serve, args=(work, self._jobs, self._done), daemon=True)
            for _ in range(WORKERS)
        ]
        for process in self._processes:
            process.start()

    def seconds(self, payloads: Sequence[float]) -> float:
        """Return the seconds that the processes take for a list of jobs."""
        started = time.perf_counter()
        for payload in payloads:
            self._jobs.put(payload)
        for _ in payloads:
            self._done.get()
        return time.perf_counter() - started

    def close(self) -> None:
        """End the processes."""
        for _ in self._processes:
            self._jobs.put(None)
        for process in self._processes:
            process.join(30)


def _serve(work: str, jobs: "Queue[float | None]", done: "Queue[float]") -> None:
    os.nice(_NICENESS)
    worker = Worker(f"{PROBE}:{work}")
    while (payload := jobs.get()) is not None:
        worker.run(Task("job", payload))
        done.put(payload)
