"""The committed page of what the platform costs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bmapest_ray.compute.platform_bench import PlatformFigures


def write_platform_page(figures: PlatformFigures, pairs: int, folder: Path) -> Path:
    """Write platform.md and the figures as platform.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "platform.json").write_text(json.dumps(figures.as_dict(), indent=1) + "\n")
    driver = "The driver was not measured in this run.\n"
    if figures.driver_jobs and figures.driver_ms_per_job and figures.driver_peak_gb:
        driver = (
            f"| jobs through the driver | {figures.driver_jobs} |\n"
            f"| per job, to disk [ms] | {figures.driver_ms_per_job:.2f} |\n"
            f"| peak memory of the driving process [GB] | {figures.driver_peak_gb:.2f} |\n"
        )
    load = os.getloadavg()[2]
    text = _TEXT.format(
        **figures.as_dict(),
        pairs=pairs,
        driver=driver,
        load=load,
        cores=os.cpu_count(),
        rate=1e3 / (figures.driver_ms_per_job or figures.overhead_ms_per_job),
    )
    page = folder / "platform.md"
    page.write_text(text)
    return page


_TEXT = """# What the platform costs

Written by `bmapest bench platform --out studies/results --driver-jobs 100000`, {cores} cores, mean
load of the machine over the 15 minutes before: {load:.1f}. Jobs use one torch thread. Each of
{pairs} pairs runs one list of jobs by two plain processes on one queue, then by two Ray actors.

| figure | value |
|---|---|
| rate of two actors / rate of two plain processes, 0.3 s jobs | {efficiency_0p3s:.3f} |
| the same, 2 s jobs | {efficiency_2s:.3f} |
| wall time per job that does nothing, 1,000 queued [ms] | {overhead_ms_per_job:.2f} |
{driver}
## How cost grows

- **Jobs.** One driver hands out and commits every job: its time grows in proportion, at most about
  {rate:.0f} jobs per second as measured above. Each commit is one file that is flushed to disk,
  which is most of it. Memory grows with the jobs of the trials that are active, not with those
  that are done.
- **Trials.** A proposal reads all earlier trials (Optuna), so the whole search grows with the
  square of their number; TPE itself adds 10 to 100 ms per proposal at some hundred trials.
- **Nodes.** Actors are asked in one `ray.wait`, whose cost grows with the number of actors; jobs
  shorter than 50 ms travel together. Nothing large goes through the driver: protocols are rebuilt
  from their description by each worker and kept in its cache, results are a few maps.
- **Drivers.** With `compute.storage` on PostgreSQL several drivers share a study: each job costs
  one more statement, and committing is spread over the drivers.

## The way to thousands of GPUs

Not measured, computed from the figures above. With inversions of s seconds a driver keeps at most
{rate:.0f} x s actors busy. Thousands of GPUs, four actors each, need that product above their
number, or several drivers on one PostgreSQL (each asks in turn, holds its own jobs and commits
its own files). What would have to change first is the commit of one file per job: a shared file
system takes some thousand small files per second.
"""
