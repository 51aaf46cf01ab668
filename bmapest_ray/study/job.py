"""One job: simulate a subject's data, estimate the maps from them, score the estimate."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.threads import limit_threads
from bmapest_ray.simulate.cache import default_directory
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.data import SimulatedData, simulate_data
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus
from bmapest_ray.tissue.mixing import Mixing

if TYPE_CHECKING:
    from bmapest_ray.anatomy.maps import TissueMaps
    from bmapest_ray.inversion.checkpoint import Checkpoint
    from bmapest_ray.inversion.drive import Callback
    from bmapest_ray.inversion.ports import LinearModel
    from bmapest_ray.inversion.result import Inversion, Step

WORK = f"{__name__}:work"
"""Name of the work function that a runner calls for a study."""

_CHECKPOINT_EVERY = 10
"""Iterations between two checkpoints: a linear Gauss-Newton solve is over by then, Adam is not.
Gauss-Newton through a non-linear model takes long for each, and keeps every one."""

_CURVE_POINTS = 100
"""Longest convergence curve that is kept."""


def work(spec: JobSpec, state: dict[str, Any]) -> JobResult:
    """Run a job in a worker.

    `state` keeps the cache between jobs, and may name ``device``, ``cache_dir`` (of operators; the
    user's own by default) and ``checkpoint_dir``.
    """
    if "cache" not in state:
        limit_threads(1)
        folder = Path(state.get("cache_dir") or default_directory())
        state["cache"] = JobCache(state.get("device", "cpu"), folder)
    return run_job(spec, state["cache"], state.get("checkpoint_dir"))


def run_job(
    spec: JobSpec,
    cache: JobCache | None = None,
    checkpoint_dir: str | Path | None = None,
    callback: "Callback | None" = None,
) -> JobResult:
    """Simulate, estimate and score.

    Parameters
    ----------
    spec
        All that decides the result.
    cache
        Operators and maps that earlier jobs of this process left.
    checkpoint_dir
        Where the solve keeps its state, so that a job that lost its worker goes on.
    callback
        Looks on after every iteration; returning False stops the fit.

    Returns
    -------
    JobResult
        With status DONE, or DIVERGED where the solver gave no maps; the latter has no scores.

    Raises
    ------
    InvalidInput
        If maps, fields, protocol and settings do not fit together.
    """
    from bmapest_ray.metrics.scorecard import scorecard

    cache = cache or JobCache(folder=default_directory())
    started, setup_before = time.perf_counter(), cache.setup_seconds
    data = simulate_data(spec, cache)
    solved = _solve(spec, cache, data, checkpoint_dir, callback)
    has_maps = solved.status.has_maps
    maps = solved.maps.detach().cpu()
    return JobResult(
        id=spec.id,
        status=JobStatus.DONE if has_maps else JobStatus.DIVERGED,
        solver_status=str(solved.status),
        message=solved.message,
        scores=finite_scores(scorecard(maps, data.truth)) if has_maps else {},
        maps=maps.numpy().astype(np.float32),
        truth=data.truth.fraction.numpy(),
        affine=data.truth.affine,
        history=thin(solved.history),
        iterations=solved.iterations,
        seconds=solved.seconds,
        setup_seconds=cache.setup_seconds - setup_before,
        total_seconds=time.perf_counter() - started,
        scan_time_s=spec.protocol.scan_time_s(spec.model.matrix, spec.sequence_fov_m),
        data=data.description,
    )


def _solve(
    spec: JobSpec,
    cache: JobCache,
    data: SimulatedData,
    checkpoint_dir: str | Path | None,
    callback: "Callback | None" = None,
) -> "Inversion":
    from bmapest_ray.inversion.solve import invert
    from bmapest_ray.simulate.measurement import Signal, measure

    solve = spec.solve
    if solve.prior != "none" and data.sigma is None:
        raise InvalidInput(
            f"prior '{solve.prior}' needs a noise level to weigh the data by, got noise-free data; "
            "add noise (--snr, noise.snr) or drop the prior"
        )
    part = spec.anatomy
    maps = cache.truth(part, spec.model.matrix)  # only for the fields on its pixels
    built = cache.operator(spec.protocol, spec.model, maps, part.matrix, part.fov_m)
    checkpoint = _checkpoint(spec, checkpoint_dir)
    device = built.operator.device
    posed = partial(
        invert,
        measure(data.images, Signal(spec.signal), data.sigma),
        solver=solve.solver,
        prior=cache.prior(part, solve, device),
        parametrisation=cache.parametrisation(part, solve, data.truth, device),
        constraints=solve.constraints,
    )
    start, linear = cache.start(part, solve).to(device), _linear_model(spec, cache, maps)
    if linear is not None:  # an order of magnitude cheaper, and closer than any cohort
        first = posed(linear, start=start, solver=replace(solve.solver, max_iterations=None))
        start = first.maps if first.status.has_maps else start
    solved = posed(
        built.operator, start=start, preconditioner=linear, callback=callback, checkpoint=checkpoint
    )
    if checkpoint is not None:
        checkpoint.path.unlink(missing_ok=True)
    return solved


def _linear_model(spec: JobSpec, cache: JobCache, maps: "TissueMaps") -> "LinearModel | None":
    """Return the compartments of a non-linear model: their fit starts it, blocks precondition."""
    if not _takes_long_steps(spec):
        return None
    linear = replace(spec.model, mixing=Mixing.COMPARTMENTS.value, engine="auto")
    part = spec.anatomy
    operator = cache.operator(spec.protocol, linear, maps, part.matrix, part.fov_m).operator
    return cast("LinearModel", operator)


def _checkpoint(spec: JobSpec, folder: str | Path | None) -> "Checkpoint | None":
    """Return where a solve keeps its state; None where it cannot, which costs only time."""
    from bmapest_ray.inversion.checkpoint import Checkpoint

    if folder is None:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    every = 1 if _takes_long_steps(spec) else _CHECKPOINT_EVERY
    return Checkpoint(Path(folder) / f"{spec.id}.pt", every=every)


def _takes_long_steps(spec: JobSpec) -> bool:
    """Whether every iteration linearises a non-linear model."""
    return not (Mixing(spec.model.mixing).is_linear or spec.solve.solver.first_order)


def thin(history: "Sequence[Step]", most: int = _CURVE_POINTS) -> tuple[dict[str, float], ...]:
    """Keep at most `most` steps, evenly spaced, the first and the last among them."""
    last = len(history) - 1
    kept = sorted({round(i * last / max(1, most - 1)) for i in range(most)} & set(range(last + 1)))
    if last < most:
        kept = list(range(last + 1))
    names = ("iteration", "objective", "relative_decrease", "projected_gradient", "seconds")
    return tuple({name: getattr(history[i], name) for name in names} for i in kept)


def finite_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Write a score that is not a finite number as None."""
    return {
        tissue: {name: value if math.isfinite(value) else None for name, value in row.items()}
        for tissue, row in scores.items()
    }
