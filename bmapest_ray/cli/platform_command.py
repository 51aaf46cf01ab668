"""``bmapest bench platform``: pieces that are kept as they are measured, and what they say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import typer

from bmapest_ray.cli.held import Held
from bmapest_ray.cli.progress import PlainProgress

NODES = (1, 2, 4)
TRIALS = (10, 100, 1000)
FLEETS = ((64, 2.0), (512, 2.0), (512, 30.0), (4096, 30.0), (4096, 300.0))
"""Actors and mean seconds of a job."""


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


def measure(held: Held, pairs: int, driver_jobs: int | None, *, scale: bool) -> PlatformFigures:
    """Measure every piece that is not held yet."""
    from bmapest_ray.compute.platform_bench import efficiencies, overhead_ms

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    short = held.get(f"efficiency/0.3 s/{pairs}", partial(efficiencies, 0.3, 40, pairs, tell))
    long = held.get(f"efficiency/2 s/{pairs}", partial(efficiencies, 2.0, 8, pairs, tell))
    overhead = held.get("overhead/1000", overhead_ms)
    figures = PlatformFigures(median(short), median(long), overhead)
    if driver_jobs is not None:
        driven = {n: _driven(held, n) for n in (driver_jobs // 100, driver_jobs // 10, driver_jobs)}
        last = driven[driver_jobs]
        figures = PlatformFigures(
            median(short), median(long), overhead, driver_jobs, last["ms_per_job"], last["peak_gb"]
        )
    if scale:
        _measure_scale(held)
    return figures


def _driven(held: Held, jobs: int) -> dict[str, float]:
    from bmapest_ray.compute.platform_bench import drive, ray_runner

    return held.get(
        f"driver/{jobs:07d}", lambda: drive(jobs, ray_runner("pretend"), PlainProgress())
    )


def _measure_scale(held: Held) -> None:
    from bmapest_ray.compute.ray_fleet import RayCosts
    from bmapest_ray.compute.ray_scale import fleet_figures, nodes_ms, proposal_ms, ray_costs

    for nodes in NODES:
        held.get(f"nodes/{nodes}", partial(nodes_ms, nodes))
    for trials in TRIALS:
        held.get(f"trials/{trials:05d}", partial(proposal_ms, trials))
    costs = RayCosts(**held.get("ray", lambda: asdict(ray_costs())))
    for actors, job_s in FLEETS:
        key = f"fleet/{actors:05d}/{job_s:05.0f}"
        held.get(key, partial(fleet_figures, actors, job_s, costs, PlainProgress()))


def run_platform(
    pairs: int, driver_jobs: int | None, out: Path, *, scale: bool, page: bool
) -> dict[str, Any]:
    """Measure, write the page if it is asked for, and return the figures."""
    from bmapest_ray.cli.platform_page import write_platform_page

    held = Held(out / "platform.json")
    figures = asdict(measure(held, pairs, driver_jobs, scale=scale))
    if page:
        typer.echo(f"page: {write_platform_page(held, out)}", err=True)
    return figures
