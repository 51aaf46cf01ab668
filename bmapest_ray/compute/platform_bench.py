"""What the platform itself costs: against plain processes, per job, and in the driver's memory."""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from bmapest_ray.compute.execution import Worker
from bmapest_ray.study.ports import Runner, Task

PROBE = "bmapest_ray.compute.probe"
WORKERS = 2


@dataclass(frozen=True)
class PlatformFigures:
    """What was measured.

    Parameters
    ----------
    efficiency_0p3s, efficiency_2s
        Rate of two Ray actors over the rate of two plain processes on the same list of jobs of
        0.3 and 2 s of CPU time; median of paired runs.
    overhead_ms_per_job
        Wall time per job of 1,000 that do nothing.
    driver_jobs, driver_ms_per_job, driver_peak_gb
        A study of so many pretended jobs through the driver to disk; None where it was left out.
        The peak is of the whole process that drives.
    """

    efficiency_0p3s: float
    efficiency_2s: float
    overhead_ms_per_job: float
    driver_jobs: int | None = None
    driver_ms_per_job: float | None = None
    driver_peak_gb: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def measure_platform(pairs: int = 3, driver_jobs: int | None = None) -> PlatformFigures:
    """Measure on a Ray instance of this machine's own.

    Parameters
    ----------
    pairs
        How often Ray and plain processes alternate.
    driver_jobs
        Jobs of the pretended study; None leaves it out.
    """
    seconds = [efficiency(0.3, 40, pairs), efficiency(2.0, 8, pairs)]
    overhead = overhead_ms()
    figures = PlatformFigures(seconds[0], seconds[1], overhead)
    if driver_jobs is None:
        return figures
    ms, peak_gb = drive(driver_jobs)
    return PlatformFigures(seconds[0], seconds[1], overhead, driver_jobs, ms, peak_gb)


def efficiency(job_s: float, count: int, pairs: int) -> float:
    """Return the median over pairs of the plain processes' time over the actors' time."""
    runner = ray_runner("multiply")
    plain = PlainProcesses("multiply")
    try:
        time_runner(runner, [job_s / 10] * (2 * WORKERS))  # both are warm before the first pair
        plain.seconds([job_s / 10] * (2 * WORKERS))
        ratios = []
        for _ in range(pairs):
            bare = plain.seconds([job_s] * count)
            ratios.append(bare / time_runner(runner, [job_s] * count))
    finally:
        plain.close()
        runner.shutdown()
    return statistics.median(ratios)


def overhead_ms(count: int = 1000) -> float:
    """Return the wall time per job of jobs that do nothing, in milliseconds."""
    runner = ray_runner("echo")
    try:
        time_runner(runner, [0.0] * 200)
        return 1e3 * time_runner(runner, [0.0] * count) / count
    finally:
        runner.shutdown()


def drive(count: int) -> tuple[float, float]:
    """Run a study of pretended jobs; returns milliseconds per job and the peak memory in GB."""
    from bmapest_ray.study.loading import parse_study
    from bmapest_ray.study.run import run_study

    config = parse_study(
        {
            "name": "pretended",
            "question": "What does keeping a study cost?",
            "anatomy": {"matrix": 8},
            "protocols": ["t2prep[0]"],
            "noise": {"snr": 100, "draws": count},
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )
    runner = ray_runner("pretend")
    with tempfile.TemporaryDirectory(prefix="bmapest-bench-") as folder:
        try:
            started = time.perf_counter()
            run_study(config, Path(folder, "study"), runner=runner)
            seconds = time.perf_counter() - started
        finally:
            runner.shutdown()
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return 1e3 * seconds / count, peak_gb


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
    worker = Worker(f"{PROBE}:{work}")
    while (payload := jobs.get()) is not None:
        worker.run(Task("job", payload))
        done.put(payload)
