"""The committed page of what the platform costs."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmapest_ray.cli.held import Held


def write_platform_page(held: Held, folder: Path) -> Path:
    """Write platform.md from what is held; parts that were not measured are left out."""
    parts = [_HEAD.format(cores=os.cpu_count()), _rates(held), *_jobs(held), *_growth(held)]
    page = folder / "platform.md"
    page.write_text("\n".join([*parts, _SHARED, *_fleets(held)]))
    return page


def _value(held: Held, key: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    def missing() -> None:
        raise KeyError(key)

    return held.get(key, missing, "")


def _rates(held: Held) -> str:
    lines = ["| figure | median | each pair |\n|---|---|---|"]
    for key in held.keys("efficiency/"):
        ratios = _value(held, key)
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        job = key.split("/")[1]
        lines.append(
            f"| two actors / two plain processes, {job} jobs | {median(ratios):.3f} | {each} |"
        )
    overhead = _value(held, "overhead/1000")
    lines.append(f"| wall time per job that does nothing, 1,000 queued [ms] | {overhead:.2f} | |")
    return "\n".join(lines) + "\n"


def _jobs(held: Held) -> list[str]:
    keys = held.keys("driver/")
    if not keys:
        return []
    lines = [_JOBS]
    for key in keys:
        found = _value(held, key)
        lines.append(
            f"| {int(key.split('/')[1]):,} | {found['ms_per_job']:.2f} | "
            f"{found['before_gb']:.2f} | {found['peak_gb']:.2f} |"
        )
    rates = [1e3 / _value(held, key)["ms_per_job"] for key in keys]
    return [*lines, _JOBS_END.format(slowest=min(rates), fastest=max(rates))]


def _growth(held: Held) -> list[str]:
    found = []
    for start, text in (("nodes/", _NODES), ("trials/", _TRIALS)):
        rows = [f"| {int(k.split('/')[1]):,} | {_value(held, k):.2f} |" for k in held.keys(start)]
        found += [text, *rows, ""] if rows else []
    return found


def _fleets(held: Held) -> list[str]:
    keys = held.keys("fleet/")
    if not keys:
        return []
    costs = _value(held, "ray")
    lines = [
        _FLEET.format(
            call=1e3 * costs["call_s"],
            wait=1e6 * costs["wait_s"],
            per_ref=1e6 * costs["wait_per_ref_s"],
        )
    ]
    for key in keys:
        _, actors, job_s = key.split("/")
        row = _value(held, key)
        rate = int(actors) * row["busy_share"] / int(job_s)
        lines.append(
            f"| {int(actors):,} | {int(job_s)} | {row['jobs']:,} | {rate:.1f} | "
            f"{100 * row['busy_share']:.1f} % |"
        )
    return [*lines, _FLEET_END]


_HEAD = """# What the platform costs

Written by `bmapest bench platform --json --out studies/results --driver-jobs 100000 --scale` on
{cores} cores; the pieces are in `platform.json`, delete one to measure it again. Jobs use one torch
thread. Each pair runs one list of jobs by two plain processes on one queue, then by two Ray actors.
"""

_JOBS = """
## Jobs

A study of pretended inversions, which return at once: proposing, sending, committing to disk and
the table of results. Memory is that of the driving process, what it held at most before and at the
end.

| jobs | per job [ms] | before [GB] | peak [GB] |
|---|---|---|---|"""

_JOBS_END = """
One driver hands out and commits every job: {slowest:.0f} to {fastest:.0f} per second in these runs.
Each commit is one file that is flushed to disk together with its folder. The largest study lay in
memory (TMPDIR), the others on a disk that other programs used too: flushing makes them slower.
Memory grows with the jobs of the trials that are active: all of them here, in one trial.
"""

_NODES = """## Nodes

Nodes are processes of one machine here and share its cores; each has one actor. 1,000 jobs that do
nothing:

| nodes | per job [ms] |
|---|---|"""

_TRIALS = """## Trials

A proposal reads all earlier trials. TPE over five settings, all modelled together:

| trials before | per proposal [ms] |
|---|---|"""

_SHARED = """## Drivers and data

With `compute.storage` on PostgreSQL several drivers share a study: each job costs one more
statement, and committing is spread over the drivers. Nothing large goes through a driver: protocols
are rebuilt from their description by each worker and kept in its cache, results are a few maps.
Jobs shorter than 50 ms travel together.
"""

_FLEET = """## The way to thousands of GPUs

Simulated: the driver and the runner are the real ones, and so are the files they write; the actors
are pretended. The clock counts what the driving process does and jumps over what it would wait for.
Ray's calls are added as they were measured here: {call:.2f} ms per call, and
{wait:.0f} us + {per_ref:.2f} us per actor each time Ray is asked which jobs have ended. Jobs take
their mean time, 20 % more or less.

| actors | mean job [s] | jobs | results per second | actors busy |
|---|---|---|---|---|"""

_FLEET_END = """
An actor waits from the end of a job until the driver has sent it the next; each had two. These
studies lay in memory too: where flushing is slow, a driver is limited to the lower rate under Jobs.
What else is left out: the network, a shared file system, Ray's own head with so many nodes, and
proposals (above). Where one driver is too slow, several share the study.
"""
