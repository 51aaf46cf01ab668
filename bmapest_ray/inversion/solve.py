"""The single entry point: `invert` one measurement, or `invert_batch` many of one protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.checks import check_shapes, hopeless, underdetermined
from bmapest_ray.inversion.drive import Callback, drive, outcomes
from bmapest_ray.inversion.fidelities import is_whitened, make_fidelity
from bmapest_ray.inversion.first_order import FirstOrder
from bmapest_ray.inversion.gauss_newton import GaussNewton
from bmapest_ray.inversion.parametrisation import Direct, Parametrisation, choose_constraint
from bmapest_ray.inversion.problem import Prior, Problem, feasible
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.result import Inversion, Status
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.support import support_of

if TYPE_CHECKING:
    from bmapest_ray.inversion.checkpoint import Checkpoint
    from bmapest_ray.inversion.ports import ForwardModel, LinearModel, MeasurementLike


@dataclass(frozen=True)
class BatchMeasurement:
    """Measurements of several subjects or slices with one protocol.

    Parameters
    ----------
    images
        Shape ``(batch, channel, y, x)``, complex or real magnitude.
    signal
        ``"magnitude"`` or ``"complex"``.
    sigma
        Noise standard deviation per channel, ``(channel,)``, or None.
    """

    images: Tensor
    signal: str
    sigma: Tensor | None = None


def invert(
    measurement: MeasurementLike,
    operator: ForwardModel,
    *,
    solver: SolverSettings,
    start: Tensor,
    prior: Prior | None = None,
    constraints: str | None = None,
    parametrisation: Parametrisation | None = None,
    preconditioner: LinearModel | None = None,
    callback: Callback | None = None,
    checkpoint: Checkpoint | None = None,
) -> Inversion:
    """Estimate the tissue maps of one measurement.

    Parameters
    ----------
    measurement
        Images ``(channel, y, x)``, their kind and noise level.
    operator
        Scanner model with the same channels.
    solver
        Method, loss, tolerances.
    start
        Maps to start from, ``(tissue, y, x)``; projected onto the constraints.
    prior
        Penalty on the maps; its scale is that of a negative log density, so it needs a noise
        level to balance against.
    constraints
        ``"simplex"`` (fractions >= 0, sum <= 1), ``"box"`` ([0, 1] each) or ``"none"``. The
        default is the parametrisation's own for Gauss-Newton and ``"none"`` for first-order
        methods (as in the paper).
    parametrisation
        Unknowns of the fit; None is the fractions themselves.
    preconditioner
        Linear model whose diagonal blocks precondition a non-linear operator.
    callback
        Called after every iteration; returning False stops.
    checkpoint
        File to write the state to and to resume from, bit-identically.

    Returns
    -------
    Inversion
        Maps, status with a sentence, history. Hopeless data give ``INVALID``, no exception.

    Raises
    ------
    InvalidInput
        If shapes, settings or constraints do not fit together.
    """
    if measurement.images.ndim != 3:
        shape = tuple(measurement.images.shape)
        msg = f"images must have shape (channel, y, x), got {shape}; use invert_batch for many"
        raise InvalidInput(msg)
    batch = BatchMeasurement(measurement.images[None], str(measurement.signal), measurement.sigma)
    (result,) = invert_batch(
        batch, operator, solver=solver, start=start[None], prior=prior, constraints=constraints,
        parametrisation=parametrisation, preconditioner=preconditioner, callback=callback,
        checkpoint=checkpoint,
    )  # fmt: skip
    return result


def invert_batch(
    measurement: MeasurementLike,
    operator: ForwardModel,
    *,
    solver: SolverSettings,
    start: Tensor,
    prior: Prior | None = None,
    constraints: str | None = None,
    parametrisation: Parametrisation | None = None,
    preconditioner: LinearModel | None = None,
    callback: Callback | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Inversion, ...]:
    """Estimate the maps of many measurements of one protocol in one call; see `invert`.

    Every item has its own step lengths, damping and stopping, so its result does not depend on
    its neighbours. ``measurement.images`` are ``(batch, channel, y, x)``, ``start`` is
    ``(batch, tissue, y, x)`` or ``(tissue, y, x)`` for all.
    """
    start = start.expand(len(measurement.images), *start.shape[-3:])
    check_shapes(measurement, operator, start)
    wanted = "none" if constraints is None and solver.first_order else constraints
    unknowns = parametrisation
    if unknowns is None:
        unknowns = Direct(support=_support(measurement, solver, wanted))
    problem = Problem(
        fidelity=make_fidelity(measurement, operator.channels, solver),
        model=operator,
        parametrisation=unknowns,
        prior=prior,
        constraint=choose_constraint(unknowns, wanted),
        preconditioner=preconditioner,
    )
    return _solve(measurement, problem, solver, start, callback, checkpoint)


def _support(
    measurement: MeasurementLike, settings: SolverSettings, constraints: str | None
) -> Tensor | None:
    """Return where tissue may be, where the settings ask for it and the data can tell."""
    fits = settings.support == "auto" and not settings.first_order and constraints != "none"
    if not fits or measurement.sigma is None:
        return None
    return support_of(measurement.images, measurement.sigma)


def _solve(
    measurement: MeasurementLike, problem: Problem, settings: SolverSettings, start: Tensor,
    callback: Callback | None, checkpoint: Checkpoint | None,
) -> tuple[Inversion, ...]:  # fmt: skip
    engine = _engine(problem, settings, is_whitened(measurement, settings))
    key = "" if checkpoint is None else _problem_digest(measurement, problem, settings, start)
    progress = checkpoint.read(key) if checkpoint is not None else None
    if progress is None:
        progress = _begin(measurement, problem, engine, start)
    drive(engine, progress, callback, checkpoint, key)
    maps = problem.parametrisation.forward(progress.x)
    results = outcomes(progress, maps, settings.name)
    if underdetermined(problem):
        results = tuple(_underdetermined(result, problem) for result in results)
    return tuple(_clamped(result) for result in results) if settings.clamp_result else results


def _engine(
    problem: Problem, settings: SolverSettings, noise_known: bool
) -> GaussNewton | FirstOrder:
    if settings.first_order:
        return FirstOrder(problem, settings)
    if problem.fidelity.name == "ssim":
        msg = "gauss-newton needs a loss with a linearisation, got 'ssim'; use adam or lbfgs"
        raise InvalidInput(msg)
    return GaussNewton(problem, settings, noise_known)


def _begin(
    measurement: MeasurementLike,
    problem: Problem,
    engine: GaussNewton | FirstOrder,
    start: Tensor,
) -> Progress:
    reasons = hopeless(measurement)
    usable = torch.tensor([reason is None for reason in reasons])
    x = feasible(problem.parametrisation.inverse(start), problem)
    progress = engine.begin(x) if bool(usable.any()) else Progress.start(x)
    for item, reason in enumerate(reasons):
        if reason is not None:
            progress.close(item, Status.INVALID, reason)
    return progress


def _problem_digest(
    measurement: MeasurementLike, problem: Problem, settings: SolverSettings, start: Tensor
) -> str:
    return digest(
        {
            "images": torch.nan_to_num(torch.view_as_real(measurement.images + 0j)),
            "sigma": measurement.sigma,
            "start": start,
            "settings": settings,
            "constraint": problem.constraint,
            "parametrisation": problem.parametrisation.name,
            "prior": None if problem.prior is None else problem.prior.name,
            "channels": [channel.image for channel in problem.model.channels],
        }
    )


def _underdetermined(result: Inversion, problem: Problem) -> Inversion:
    if not result.status.has_maps:
        return result
    images = len({channel.image for channel in problem.model.channels})
    reason = (
        f"{Status.UNDERDETERMINED.sentence} {images} contrast(s) stand against "
        f"{result.maps.shape[0]} unknown fractions per voxel: add contrasts, or a prior "
        "(prior 'cohort')."
    )
    return replace(result, status=Status.UNDERDETERMINED, message=f"{reason} {result.message}")


def _clamped(result: Inversion) -> Inversion:
    outside = bool(((result.maps < 0) | (result.maps > 1)).any())
    if not outside:
        return result
    clamped = replace(result, maps=result.maps.clamp(0.0, 1.0))
    return clamped.with_message("The maps were clamped to [0, 1] after the fit, as in the paper.")
