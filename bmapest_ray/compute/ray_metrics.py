"""What a study tells Prometheus through Ray: the names, their meaning, and the one place they grow.

Ray puts ``ray_`` before every name and ``_total`` behind a counter's, and adds labels of its own
(``WorkerId``, ``NodeAddress``, ...), so a dashboard adds up over them, e.g.
``sum(rate(ray_bmapest_jobs_done_total[1m]))``. The driver reports jobs and queues, every worker its
own memory. `METRICS` is the whole list. Ray counts every value of a histogram as the middle of its
bucket, so ``_sum / _count`` is a mean to within half a bucket.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bmapest_ray.compute.ray_session import import_ray
from bmapest_ray.study.ports import Outcome
from bmapest_ray.study.status import JobStatus

Kind = Literal["counter", "gauge", "histogram"]

_SECONDS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DECIBELS = tuple(float(decibels) for decibels in range(10, 62, 2))


@dataclass(frozen=True)
class MetricSpec:
    """A metric as it is registered with Ray."""

    name: str
    """Without Ray's ``ray_``."""
    kind: Kind
    description: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """Name in Prometheus; a histogram adds ``_bucket``, ``_sum`` and ``_count``."""
        return f"ray_{self.name}_total" if self.kind == "counter" else f"ray_{self.name}"


JOBS_DONE = MetricSpec(
    "bmapest_jobs_done", "counter", "Jobs that were scored.", ("study", "protocol")
)
JOBS_FAILED = MetricSpec(
    "bmapest_jobs_failed",
    "counter",
    "Jobs that ended without scores; status is DIVERGED, FAILED, LOST or TIMED_OUT.",
    ("study", "protocol", "status"),
)
JOBS_RETRIED = MetricSpec(
    "bmapest_jobs_retried",
    "counter",
    "Jobs handed out again after their worker died or they passed the time limit.",
    ("study",),
)
INVERSION_SECONDS = MetricSpec(
    "bmapest_inversion_seconds",
    "histogram",
    "Seconds of one inversion, without set-up.",
    ("study", "protocol"),
    _SECONDS,
)
PSNR_DB = MetricSpec(
    "bmapest_psnr_db",
    "histogram",
    "PSNR of an estimated map against the truth, in dB.",
    ("study", "protocol", "tissue"),
    _DECIBELS,
)
QUEUE_DEPTH = MetricSpec(
    "bmapest_queue_depth", "gauge", "Jobs that wait in the driver for a worker.", ("study",)
)
JOBS_RUNNING = MetricSpec("bmapest_jobs_running", "gauge", "Jobs that workers hold.", ("study",))
WORKERS_UP = MetricSpec("bmapest_workers_up", "gauge", "Workers that answer.", ("study",))
WORKER_MEMORY_BYTES = MetricSpec(
    "bmapest_worker_memory_bytes", "gauge", "Resident memory of a worker process."
)
WORKER_GPU_MEMORY_BYTES = MetricSpec(
    "bmapest_worker_gpu_memory_bytes",
    "gauge",
    "Largest GPU memory a worker has held in tensors; not reported without a GPU.",
)

METRICS = (
    JOBS_DONE,
    JOBS_FAILED,
    JOBS_RETRIED,
    INVERSION_SECONDS,
    PSNR_DB,
    QUEUE_DEPTH,
    JOBS_RUNNING,
    WORKERS_UP,
    WORKER_MEMORY_BYTES,
    WORKER_GPU_MEMORY_BYTES,
)


def _register(spec: MetricSpec) -> Any:  # noqa: ANN401 - Ray's metric classes share no base type
    import_ray()
    from ray.util import metrics

    if spec.kind == "counter":
        return metrics.Counter(spec.name, spec.description, spec.labels)
    if spec.kind == "gauge":
        return metrics.Gauge(spec.name, spec.description, spec.labels)
    return metrics.Histogram(spec.name, spec.description, list(spec.boundaries), spec.labels)


class DriverMetrics:
    """Jobs and queues, as the driver sees them.

    Parameters
    ----------
    study
        Label of everything that is reported here.
    """

    def __init__(self, study: str) -> None:
        self._study = {"study": study}
        specs = [spec for spec in METRICS if "study" in spec.labels]
        self._metrics = {spec.name: _register(spec) for spec in specs}

    def finished(self, outcome: Outcome, protocol: str) -> None:
        """Count a task that came back, with what its value says of an inversion."""
        labels = {**self._study, "protocol": protocol}
        status = getattr(outcome.value, "status", JobStatus.DONE)
        status = outcome.failure.status if outcome.failure else status
        if status == JobStatus.DONE:
            self._metrics[JOBS_DONE.name].inc(1, labels)
        else:
            self._metrics[JOBS_FAILED.name].inc(1, {**labels, "status": str(status)})
        seconds = getattr(outcome.value, "seconds", None)
        if seconds is not None:
            self._metrics[INVERSION_SECONDS.name].observe(seconds, labels)
        self._psnr(getattr(outcome.value, "scores", {}), labels)

    def _psnr(
        self, scores: Mapping[str, Mapping[str, float | None]], labels: Mapping[str, str]
    ) -> None:
        for tissue, row in scores.items():
            value = row.get("psnr_db")
            if value is not None:
                self._metrics[PSNR_DB.name].observe(value, {**labels, "tissue": tissue})

    def retried(self) -> None:
        """Count a task that is handed out again."""
        self._metrics[JOBS_RETRIED.name].inc(1, self._study)

    def queues(self, *, waiting: int, running: int, workers: int) -> None:
        """Say how much waits, how much runs, and on how many workers."""
        self._metrics[QUEUE_DEPTH.name].set(waiting, self._study)
        self._metrics[JOBS_RUNNING.name].set(running, self._study)
        self._metrics[WORKERS_UP.name].set(workers, self._study)


class WorkerMetrics:
    """Memory, as a worker sees its own."""

    def __init__(self) -> None:
        self._memory = _register(WORKER_MEMORY_BYTES)
        self._gpu: Any = None

    def report(self) -> None:
        """Report what this process holds now."""
        self._memory.set(resident_bytes())
        held = gpu_bytes()
        if held is not None:
            self._gpu = self._gpu or _register(WORKER_GPU_MEMORY_BYTES)
            self._gpu.set(held)


def resident_bytes() -> int:
    """Return the resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def gpu_bytes() -> int | None:
    """Return the largest GPU memory this process has held; None where it uses no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())
