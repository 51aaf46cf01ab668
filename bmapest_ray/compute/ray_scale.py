"""How the platform's cost grows: with nodes, with trials, and with actors that are pretended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from bmapest_ray.compute.platform_bench import PROBE, drive, ray_runner, time_runner
from bmapest_ray.compute.ray import RayRunner
from bmapest_ray.compute.ray_fleet import Fleet, RayCosts, jobs_for
from bmapest_ray.compute.ray_session import import_ray, secure_token
from bmapest_ray.compute.ray_slot import RaySettings
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.ports import Progress, Runner, Task
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_storage
from bmapest_ray.study.space import make_space
from bmapest_ray.study.status import TrialStatus

_STORE_BYTES = 100 * 1024**2
_PROPOSALS = 5
_WAITS = (10, 2000)
"""Numbers of references between which the cost of one more is found."""


def nodes_ms(count: int, jobs: int = 1000) -> float:
    """Return the wall time per job that does nothing, with one actor on each of so many nodes."""
    with _nodes(count) as address:
        runner = RayRunner(f"{PROBE}:echo", RaySettings(actors=count, address=address))
        try:
            time_runner(runner, [0.0] * 200)
            return 1e3 * time_runner(runner, [0.0] * jobs) / jobs
        finally:
            runner.shutdown()


@contextmanager
def _nodes(count: int) -> Iterator[str]:
    """Run nodes of one CPU each, as processes of this machine."""
    secure_token()
    import_ray()
    from ray.cluster_utils import Cluster

    arguments: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    try:
        for _ in range(count - 1):
            cluster.add_node(**arguments)
        yield str(cluster.address)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def proposal_ms(trials: int) -> float:
    """Return the time of a TPE proposal over five settings after so many trials, in memory."""
    space = {f"inversion.settings.x{i}": {"low": 0.0, "high": 1.0} for i in range(5)}
    storage = open_storage(None)

    def search(sampler: str, total: int) -> Search:
        config = SearchConfig.model_validate({"sampler": sampler, "n_trials": total})
        return Search("growth", config, maximize=True, storage=storage, space=make_space(space))

    for_ = {"random": trials, "tpe": trials + _PROPOSALS}
    seconds = 0.0
    for sampler, total in for_.items():
        opened = search(sampler, total)
        started = time.perf_counter()
        while (proposal := opened.ask()) is not None:
            value = -sum((float(x or 0.0) - 0.4) ** 2 for x in proposal.settings.values())
            opened.tell(proposal.number, TrialStatus.COMPLETE, value, proposal.settings)
        seconds = time.perf_counter() - started
    return 1e3 * seconds / _PROPOSALS


def ray_costs(calls: int = 300) -> RayCosts:
    """Measure what Ray's calls cost their caller."""
    runner = ray_runner("pretend")
    try:
        _run_alone(runner, 20)
        before_s = time.process_time()
        _run_alone(runner, calls)
        call_s = (time.process_time() - before_s) / calls
    finally:
        runner.shutdown()
    few_s, many_s = _wait_s()
    per_ref_s = (many_s - few_s) / (_WAITS[1] - _WAITS[0])
    return RayCosts(call_s, max(0.0, few_s - _WAITS[0] * per_ref_s), per_ref_s)


def _run_alone(runner: Runner, count: int) -> None:
    """Run pretended inversions, each in a call of its own."""
    waiting = [Task(f"job-{n}", SimpleNamespace(id=f"{n}"), f"{n}") for n in range(count)]
    while waiting or runner.pending:
        while waiting and runner.free:
            runner.submit(waiting.pop())
        runner.next_done(5.0)


def _wait_s(repeats: int = 20) -> list[float]:
    """Return what asking for the state of few and of many references takes."""
    runner = RayRunner(f"{PROBE}:play", RaySettings(actors=1))
    ray = import_ray()
    never = ray.remote(num_cpus=10**6)(_nothing)
    seconds = []
    try:
        for count in _WAITS:
            refs = [never.remote() for _ in range(count)]
            started = time.perf_counter()
            for _ in range(repeats):
                ray.wait(refs, num_returns=1, timeout=0)
            seconds.append((time.perf_counter() - started) / repeats)
    finally:
        runner.shutdown()
    return seconds


def _nothing() -> None:
    """Wait for ever, where so many CPUs are asked for."""


def fleet_figures(
    actors: int, job_s: float, costs: RayCosts, progress: Progress | None = None
) -> dict[str, float]:
    """Drive a study on a pretended cluster; returns ``busy_share``, ``jobs`` and the costs."""
    fleet = Fleet(actors, job_s, costs)
    jobs = jobs_for(actors)
    drive(jobs, RayRunner(f"{PROBE}:pretend", pool=fleet), progress)
    return {"busy_share": fleet.busy_share, "jobs": jobs, **asdict(costs)}
