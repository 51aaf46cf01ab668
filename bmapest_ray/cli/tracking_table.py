"""The committed page of what tracking costs: one row per case that was measured."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bmapest_ray.cli.held import Held

NAME = "tracking"
HEADER = (
    "store",
    "jobs",
    "seconds of a job",
    "without [s]",
    "with [s]",
    "with / without",
    "longest lag [s]",
    "lag per job [ms]",
    "entries",
    "errors",
)


@dataclass(frozen=True)
class TrackingCase:
    """What is measured.

    Parameters
    ----------
    jobs, seconds
        How many jobs there are, and how long each keeps a core busy.
    actors
        Ray actors that run them; 0 runs them in the driver.
    pairs
        Times that both alternate.
    server
        URI of an MLflow server; None is the SQLite file.
    store
        What keeps the runs, in words.
    """

    jobs: int
    seconds: float
    actors: int
    pairs: int
    server: str | None
    store: str

    @property
    def key(self) -> str:
        """Name of the case among those that were measured."""
        return f"{self.store}, {self.jobs} jobs of {self.seconds:g} s, {self.actors} actors"

    def measure(self) -> dict[str, Any]:
        """Return the case, what was measured, and how busy the machine was before."""
        from bmapest_ray.study.config import ComputeConfig
        from bmapest_ray.tracking.benchmark import measure_tracking

        load = os.getloadavg()[2]
        runner = ComputeConfig(runner="ray", actors=self.actors) if self.actors else None
        compute = runner or ComputeConfig(runner="local")
        with TemporaryDirectory() as folder:
            path = Path(folder)
            cost = measure_tracking(path, self.server, self.jobs, self.seconds, compute, self.pairs)
        known = asdict(self) | {"load": load, "cores": os.cpu_count(), "ratio": cost.ratio}
        return known | asdict(cost)


def write_tracking_page(case: TrackingCase, out: Path) -> dict[str, Any]:
    """Measure a case that is not held yet, write tracking.json and tracking.md; returns the row."""
    held = Held(out / f"{NAME}.json")
    row = held.get(case.key, case.measure)
    rows: list[dict[str, Any]] = [held.get(key, dict) for key in held.keys("")]
    rows.sort(key=lambda row: (-row["job_seconds"], row["jobs"], row["store"]))
    header = f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}"
    table = "\n".join(_line(row) for row in rows)
    cores = max(row["cores"] for row in rows)
    (out / f"{NAME}.md").write_text(
        _TEXT.format(header=header, table=table, cores=cores, load=_loads(rows))
    )
    return row


def _loads(rows: list[dict[str, Any]]) -> str:
    values = sorted(row["load"] for row in rows)
    return f"{values[0]:.1f} to {values[-1]:.1f}"


def _line(row: dict[str, Any]) -> str:
    ratios = [t / b for t, b in zip(row["tracked_s"], row["bare_s"], strict=True)]
    spread = f"{row['ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"
    if not row["job_seconds"]:
        spread = "-"
    cells = (
        row["store"],
        str(row["jobs"]),
        f"{row['job_seconds']:g}",
        f"{median(row['bare_s']):.2f}",
        f"{median(row['tracked_s']):.2f}",
        spread,
        f"{row['lag_s']:.1f}",
        f"{1e3 * row['lag_s'] / row['jobs']:.0f}",
        str(row["written"]),
        row["problem"] or "none",
    )
    return f"| {' | '.join(cells)} |"


_TEXT = """# What tracking costs

Written by `bmapest bench tracking --out studies/results`, one row per call; {cores} cores, mean
load of the machine over the 15 minutes before: {load}. Every row is the same list of jobs without
MLflow and with it, in turn. A job writes what a reported one of 20 iterations does: 21 scores, a
curve, parameters, tags, digests and a picture of its maps. Jobs of 0 s do nothing, so all of the
writing is left when they are done: the lag is the time that it takes.

{header}
{table}

Wall time is from the first job to the last. One thread of the driver writes, so a study waits for
nothing; the lag is how long after the last job MLflow was complete. It includes opening the store
(some 7 s for a new SQLite file, most of it MLflow's own migrations) where there was no time to do
so before. Errors are entries that were not written.

The rows are made by

```bash
bmapest bench tracking --out studies/results                                   # 20 jobs of 2 s
bmapest bench tracking --out studies/results --jobs 100 --seconds 0.2
bmapest bench tracking --out studies/results --jobs 5000 --seconds 0 --actors 0 --pairs 1
bmapest bench tracking --out studies/results --jobs 5000 --seconds 0 --actors 0 --pairs 1 \\
  --server http://127.0.0.1:5000 --store "MLflow server on PostgreSQL"
```

the last one beside a server of its own, e.g. of a PostgreSQL that keeps its data in `/data/pg`:

```bash
initdb -D /data/pg -A trust -U mlflow && pg_ctl -D /data/pg -o "-p 5433 -k /tmp" start
mlflow server --host 127.0.0.1 --port 5000 --workers 1 --artifacts-destination /data/artifacts \\
  --backend-store-uri postgresql+psycopg://mlflow@127.0.0.1:5433/postgres
```
"""
