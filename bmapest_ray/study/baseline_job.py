"""A baseline as a job: given exactly the data that an inversion is given, scored the same way."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmapest_ray.base.digests import digest
from bmapest_ray.base.threads import limit_threads
from bmapest_ray.simulate.cache import default_directory
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.data import simulate_data
from bmapest_ray.study.job import finite_scores, run_job
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.spec import JobSpec, Settings
from bmapest_ray.study.status import JobStatus

if TYPE_CHECKING:
    from bmapest_ray.study.unet_job import Estimator

UNET = "unet-"
"""Beginning of the names of U-Nets, which are trained before they estimate."""

WORK = f"{__name__}:work"
"""Name of the work function that runs inversions and baselines alike."""


@dataclass(frozen=True)
class BaselineJob:
    """One baseline on the data of one job.

    Parameters
    ----------
    job
        Whose data, model and cohort the baseline gets.
    baseline
        Name of the baseline.
    settings
        Its settings, sorted by name.
    """

    job: JobSpec
    baseline: str
    settings: Settings = ()

    @cached_property
    def id(self) -> str:
        """Digest of all that decides the result."""
        return digest({"job": self.job, "baseline": self.baseline, "settings": self.settings})

    @property
    def affinity(self) -> str:
        """Jobs of one protocol share its operator."""
        return self.job.affinity


def work(payload: JobSpec | BaselineJob, state: dict[str, Any]) -> JobResult:
    """Run a job or a baseline in a worker; `state` as for `bmapest_ray.study.job.work`."""
    if "cache" not in state:
        limit_threads(1)
        folder = Path(state.get("cache_dir") or default_directory())
        state["cache"] = JobCache(state.get("device", "cpu"), folder)
    if isinstance(payload, BaselineJob):
        return run_baseline(payload, state["cache"])
    return run_job(payload, state["cache"], state.get("checkpoint_dir"))


def run_baseline(payload: BaselineJob, cache: JobCache) -> JobResult:
    """Simulate the data of the job, estimate with the baseline, score.

    Raises
    ------
    InvalidInput
        If the baseline or a setting is unknown, or there are no other subjects.
    """
    from bmapest_ray.baselines.catalogue import make_baseline

    if payload.baseline.startswith(UNET):
        from bmapest_ray.study.unet_job import unet_of

        return estimate(payload, unet_of(payload.job, dict(payload.settings), cache), cache)
    return estimate(payload, make_baseline(payload.baseline, dict(payload.settings)), cache)


def estimate(payload: BaselineJob, baseline: "Estimator", cache: JobCache) -> JobResult:
    """Run one baseline object on the data of a job."""
    from bmapest_ray.metrics.scorecard import scorecard
    from bmapest_ray.simulate.measurement import Signal, measure

    started, setup_before = time.perf_counter(), cache.setup_seconds
    spec = payload.job
    data = simulate_data(spec, cache)
    measurement = measure(data.images, Signal(spec.signal), data.sigma)
    part = spec.anatomy
    truth = cache.truth(part, spec.model.matrix)  # only for the fields on its pixels
    built = cache.operator(spec.protocol, spec.model, truth, part.matrix, part.fov_m)
    cohort = cache.others(part, spec.solve).to(built.operator.device)
    before = time.perf_counter()
    maps = baseline.estimate(measurement, built.operator, cohort).detach().cpu()
    seconds = time.perf_counter() - before
    return JobResult(
        id=payload.id,
        status=JobStatus.DONE,
        solver_status="ESTIMATED",
        message="",
        scores=finite_scores(scorecard(maps, data.truth)),
        maps=maps.numpy().astype(np.float32),
        truth=data.truth.fraction.numpy(),
        affine=data.truth.affine,
        seconds=seconds,
        setup_seconds=cache.setup_seconds - setup_before,
        total_seconds=time.perf_counter() - started,
        scan_time_s=spec.protocol.scan_time_s(spec.model.matrix, spec.sequence_fov_m),
        data=data.description,
    )
