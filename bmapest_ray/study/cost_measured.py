"""Measures what jobs take, each in a process of its own, for `bmapest run --dry-run`."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from bmapest_ray.study.cost import JobCost, read_costs, write_costs

CASES = tuple(
    (protocol, matrix, solver, mixing)
    for solver, mixing, matrices, protocols in (
        ("gauss-newton", "compartments", (32, 64), ("t1inv", "t1inv,t2prep,t2star")),
        ("adam", "compartments", (32, 64), ("t1inv",)),
        ("gauss-newton", "average", (32,), ("t1inv",)),
    )
    for matrix in matrices
    for protocol in protocols
)


def measure_jobs(path: Path, told: Callable[[str], object]) -> list[JobCost]:
    """Measure the cases that a file does not hold yet, and write them to it.

    Parameters
    ----------
    path
        ``jobs.json``.
    told
        Is told which case comes next.
    """
    from bmapest_ray.sequence.parse import parse_protocol

    rows = read_costs(path) if path.is_file() else []
    for protocol, matrix, solver, mixing in CASES:
        contrasts = len(parse_protocol(protocol).contrasts)
        key = (solver, mixing, matrix, contrasts)
        if any((r.solver, r.mixing, r.matrix, r.contrasts) == key for r in rows):
            continue
        told(f"{solver}, {mixing}, {protocol}, {matrix} x {matrix}")
        seconds, setup, peak = _in_a_process(protocol, matrix, solver, mixing)
        rows.append(JobCost(*key, seconds, setup, peak))
        write_costs(path, rows)
    return rows


def _in_a_process(
    protocol: str, matrix: int, solver: str, mixing: str
) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(there, protocol, matrix, solver, mixing))
    process.start()
    there.close()
    try:
        measured: tuple[float, float, float] = here.recv()
    finally:
        process.join()
    return measured


def _measure(answer: Connection, protocol: str, matrix: int, solver: str, mixing: str) -> None:
    """Run a job twice: what the first takes more is set-up."""
    from bmapest_ray.base.threads import limit_threads
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.job import run_job
    from bmapest_ray.study.loading import parse_study
    from bmapest_ray.study.plan import one_job

    limit_threads(1)
    config = parse_study(
        {
            "name": "measured",
            "question": "What does a job take?",
            "anatomy": {"matrix": matrix},
            "protocols": [protocol],
            "noise": {"snr": 100},
            "mixing": mixing,
            "inversion": {"solver": solver},
        }
    )
    spec, cache = one_job(config), JobCache(folder=None)
    times = []
    for _ in range(2):
        started = time.process_time()
        run_job(spec, cache)
        times.append(time.process_time() - started)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    answer.send((times[1], max(0.0, times[0] - times[1]), peak_gb))
