"""The single entry point: `invert` one measurement, or `invert_batch` many of one protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.checks import check_shapes
from bmapest_ray.inversion.fidelities import is_whitened, make_fidelity
from bmapest_ray.inversion.parametrisation import Direct, Parametrisation, choose_constraint
from bmapest_ray.inversion.prior_neighbours import AdaptivePrior, adapted
from bmapest_ray.inversion.problem import Prior, Problem
from bmapest_ray.inversion.result import Inversion
from bmapest_ray.inversion.session import Session
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.support import support_of

if TYPE_CHECKING:
    from bmapest_ray.inversion.checkpoint import Checkpoint
    from bmapest_ray.inversion.drive import Callback
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
    session = Session(measurement, problem, solver, is_whitened(measurement, solver))
    first = session.run(start, callback, checkpoint)
    return _refitted(session, prior, first) if isinstance(prior, AdaptivePrior) else first


def _refitted(
    session: Session, prior: AdaptivePrior, first: tuple[Inversion, ...]
) -> tuple[Inversion, ...]:
    """Fit again with the prior that the first fits make more specific."""
    usable = [item for item, result in enumerate(first) if result.status.has_maps]
    if not usable:
        return first
    index = torch.tensor(usable)
    maps = torch.stack([first[item].maps for item in usable])
    problem = adapted(session.problem.select(index), prior, maps)
    seen = session.measurement
    second = replace(
        session,
        measurement=BatchMeasurement(seen.images[index], str(seen.signal), seen.sigma),
        problem=problem,
        settings=replace(session.settings, signs="none"),
    ).run(maps, None, None)
    found = dict(enumerate(first))
    found |= {n: first[n].followed_by(result) for n, result in zip(usable, second, strict=True)}
    return tuple(found.values())


def _support(
    measurement: MeasurementLike, settings: SolverSettings, constraints: str | None
) -> Tensor | None:
    """Return where tissue may be, where the settings ask for it and the data can tell."""
    fits = settings.support == "auto" and not settings.first_order and constraints != "none"
    if not fits or measurement.sigma is None:
        return None
    return support_of(measurement.images, measurement.sigma)
