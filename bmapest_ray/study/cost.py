"""What a study will cost: time from jobs like its own, memory from a model that was measured.

Jobs like its own are those of earlier studies with the same protocol, matrix and solver. Where
there are none, a law in contrasts and pixels is fitted to ``studies/results/jobs.json``
(`bmapest bench jobs`).
"""

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.plan import Plan

CUDA_CONTEXT_GB = 0.6
"""Memory of a GPU that a process takes before its first tensor; not measured here."""
SHOWN_GPU_GB = 24.0
_CACHED_OPERATORS = 8
_SPARE = 1.2


@dataclass(frozen=True)
class JobCost:
    """What one job took: seconds of CPU time with one thread, and the peak of its process."""

    solver: str
    mixing: str
    matrix: int
    contrasts: int
    seconds: float
    setup_seconds: float
    peak_gb: float

    @property
    def size(self) -> float:
        """Contrasts times pixels, in millions."""
        return size_of(self.contrasts, self.matrix)


def size_of(contrasts: int, matrix: int) -> float:
    """Return contrasts times pixels, in millions."""
    return contrasts * matrix**2 / 1e6


class CostModel:
    """Scales measured jobs.

    Parameters
    ----------
    rows
        What was measured.
    """

    def __init__(self, rows: Sequence[JobCost]) -> None:
        self._rows = rows
        sizes, peaks = [row.size for row in rows], [row.peak_gb for row in rows]
        slope, base = np.polyfit(sizes, peaks, 1) if len(set(sizes)) > 1 else (0.0, max(peaks))
        self.base_gb, self.gb_per_size = float(base), max(0.0, float(slope))

    def seconds(
        self, solver: str, mixing: str, contrasts: int, matrix: int
    ) -> tuple[float, float] | None:
        """Return seconds of an inversion and of setting it up; None without a job of its kind."""
        rows = [row for row in self._rows if (row.solver, row.mixing) == (solver, mixing)]
        if not rows:
            return None
        at = (contrasts, matrix)
        kinds = [(row.contrasts, row.matrix) for row in rows]
        job = _fitted(_JOB, kinds, [row.seconds for row in rows], at)
        return job, _fitted(_SETUP, kinds, [row.setup_seconds for row in rows], at)

    def worker_gb(self, sizes: Iterable[float]) -> float:
        """Return the most memory of a worker that keeps the largest of these operators."""
        kept = sorted(sizes, reverse=True)[:_CACHED_OPERATORS]
        return self.base_gb + self.gb_per_size * sum(kept)

    def gpu_gb(self, sizes: Iterable[float]) -> float:
        """Return what a worker takes of a GPU, if tensors are as large there as on a CPU."""
        return CUDA_CONTEXT_GB + self.worker_gb(sizes) - self.base_gb


_Law = tuple[Callable[[int, int], float], ...]
_JOB: _Law = (
    lambda contrasts, matrix: contrasts * matrix**2,
    lambda _, __: 1.0,
    lambda _, matrix: matrix**2,
)
_SETUP: _Law = (lambda _, __: 1.0, lambda contrasts, _: contrasts)
"""Terms of what time grows with, those first that stand alone where few jobs were measured."""


def _fitted(
    law: _Law, kinds: Sequence[tuple[int, int]], seconds: Sequence[float], at: tuple[int, int]
) -> float:
    """Return seconds at a size, by non-negative least squares of relative errors."""
    from scipy.optimize import nnls

    terms = law[: len(seconds)]
    scale = np.maximum(np.array(seconds), 1e-3)
    matrix = np.array([[term(*kind) for term in terms] for kind in kinds]) / scale[:, None]
    size = np.abs(matrix).max(0)
    factors, _ = nnls(matrix / size, np.array(seconds) / scale)
    return float(sum(f * term(*at) for f, term in zip(factors / size, terms, strict=True)))


@dataclass(frozen=True)
class Estimate:
    """What a study will cost.

    Parameters
    ----------
    seconds_per_job
        Protocol -> seconds of one inversion; None where nothing like it was measured.
    worker_seconds
        Of all jobs and of setting every protocol up on every worker.
    workers
        How many share them; None where the cluster decides.
    wall_seconds
        `worker_seconds` over `workers`.
    worker_gb, gpu_gb
        Most memory of a worker on a CPU, and on a GPU.
    num_gpus
        Share of a GPU of `gpu_total_gb` to ask for.
    source
        Where the times come from.
    """

    seconds_per_job: Mapping[str, float | None]
    worker_seconds: float | None
    workers: int | None
    wall_seconds: float | None
    worker_gb: float
    gpu_gb: float
    num_gpus: float
    gpu_total_gb: float
    source: str


def estimate(plan: Plan, model: CostModel, earlier: Mapping[str, float], trials: int) -> Estimate:
    """Say what a study will cost.

    Parameters
    ----------
    plan
        The study.
    model
        Measured jobs.
    earlier
        Protocol digest -> seconds of a job of an earlier study, see `seconds_of_earlier_jobs`.
    trials
        Search trials per protocol.
    """
    config = plan.config
    sizes = {
        label: size_of(len(planned.protocol.contrasts), config.anatomy.matrix)
        for label, planned in plan.protocols.items()
    }
    kind = (config.inversion.solver, config.mixing)
    scaled = {
        label: model.seconds(*kind, len(planned.protocol.contrasts), config.anatomy.matrix)
        for label, planned in plan.protocols.items()
    }
    seconds: dict[str, float | None] = {}
    for label, planned in plan.protocols.items():
        guess = scaled[label]
        known = earlier.get(planned.info.digest)
        seconds[label] = known if known is not None else (None if guess is None else guess[0])
    workers = _workers(config)
    jobs = plan.n_jobs(trials * len(sizes)) / len(sizes)
    known_s = [s for s in seconds.values() if s is not None]
    total = None
    if len(known_s) == len(sizes):
        setup = sum(guess[1] for guess in scaled.values() if guess is not None)
        total = sum(known_s) * jobs + setup * (workers or 1)
    gpu_gb, gpu_total = model.gpu_gb(sizes.values()), _gpu_total_gb()
    return Estimate(
        seconds_per_job=seconds,
        worker_seconds=total,
        workers=workers,
        wall_seconds=None if total is None or workers is None else total / workers,
        worker_gb=model.worker_gb(sizes.values()),
        gpu_gb=gpu_gb,
        num_gpus=min(1.0, math.ceil(100 * _SPARE * gpu_gb / gpu_total) / 100),
        gpu_total_gb=gpu_total,
        source=_source(plan, earlier),
    )


def _source(plan: Plan, earlier: Mapping[str, float]) -> str:
    found = sum(p.info.digest in earlier for p in plan.protocols.values())
    if found == len(plan.protocols):
        return "jobs of earlier studies"
    return "jobs of earlier studies and measured rates" if found else "measured rates"


def _workers(config: StudyConfig) -> int | None:
    compute = config.compute
    if compute.runner == "local":
        return 1
    if compute.actors is not None:
        return compute.actors
    if compute.address is not None:
        return None
    return max(1, int((os.cpu_count() or 1) / max(compute.num_cpus, 1e-3)))


def _gpu_total_gb() -> float:
    import torch

    if not torch.cuda.is_available():
        return SHOWN_GPU_GB
    return float(torch.cuda.get_device_properties(0).total_memory) / 1e9


def seconds_of_earlier_jobs(folder: Path, config: StudyConfig) -> dict[str, float]:
    """Return protocol digest -> median seconds of jobs like this study's, in studies of a folder.

    Alike are matrix, solver, prior, mixing and signal; the protocol's digest is the key.
    """
    from bmapest_ray.study.overview import config_of, find_studies
    from bmapest_ray.study.store import load_results

    found: dict[str, list[float]] = {}
    for path in find_studies(folder) if folder.is_dir() else ():
        try:
            other = config_of(path)
        except InvalidInput:
            continue  # written by another version
        if not _is_alike(config, other):
            continue
        table = load_results(path)
        done = table[(table["status"] == "DONE") & (table["tissue"] == "GM")]
        for digests, seconds in zip(done["digests"], done["seconds"], strict=True):
            found.setdefault(json.loads(digests)["protocol"], []).append(float(seconds))
    return {digest: statistics.median(values) for digest, values in found.items()}


def _is_alike(one: StudyConfig, other: StudyConfig) -> bool:
    return (one.anatomy.matrix, one.mixing, one.signal) == (
        other.anatomy.matrix,
        other.mixing,
        other.signal,
    ) and (one.inversion.solver, one.inversion.prior) == (
        other.inversion.solver,
        other.inversion.prior,
    )


def read_costs(path: Path) -> list[JobCost]:
    """Read what `write_costs` wrote."""
    return [JobCost(**row) for row in json.loads(path.read_text())]


def write_costs(path: Path, rows: Sequence[JobCost]) -> None:
    """Write measured jobs as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
