"""Continuous optimisation: bounded, constrained, from several starts, graphs rebuilt on the way.

Sequential least squares programming on rescaled variables (times on a logarithmic scale). A round
optimises on one linearisation of the events; then graphs and directions are built anew. The best
point is put on the scanner's raster, built, checked and scored afresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.design.guard import Guard, LinearGuard, between
from bmapest_ray.design.objective import DesignProblem, LinearDesign
from bmapest_ray.design.scale import Scale
from bmapest_ray.design.score import ProtocolScore, score_protocol
from bmapest_ray.design.variables import PAUSE, rounded_values
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.plan import Floats

Watch = Callable[[int, float], None]


@dataclass(frozen=True)
class Limits:
    """What a design has to keep.

    Parameters
    ----------
    scan_time_s
        Longest scan.
    rf_energy_t2_s
        Largest integral of the squared B1; None is no limit.
    """

    scan_time_s: float
    rf_energy_t2_s: float | None = None


@dataclass(frozen=True)
class Effort:
    """How long an optimisation may take: rounds of rebuilt graphs, steps in each."""

    rounds: int = 3
    iterations: int = 25
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.rounds < 1 or self.iterations < 1:
            msg = (
                f"rounds and iterations must be at least 1, got {self.rounds} and "
                f"{self.iterations}; raise them"
            )
            raise InvalidInput(msg)


@dataclass(frozen=True, eq=False)
class Optimised:
    """A protocol that came out of an optimisation.

    Parameters
    ----------
    protocol
        On the raster of its scanner.
    values
        Of the variables.
    score
        What it promises.
    history
        Objective after every round (logarithm of a variance).
    seconds
        Time it took.
    """

    protocol: Protocol
    values: tuple[float, ...]
    score: ProtocolScore
    history: tuple[float, ...]
    seconds: float

    @property
    def objective(self) -> float:
        """Last value of the objective."""
        return self.history[-1]


def starting_points(problem: DesignProblem, limits: Limits, count: int, seed: int) -> list[Floats]:
    """Return the protocol's own values and random ones, pauses shrunk to the scan time."""
    scale = Scale(problem)
    points = [problem.start]
    draw = generator("design-starts", seed)
    while len(points) < count:
        points.append(scale.outer(torch.rand(len(problem.low), generator=draw).double().numpy()))
    return [within_time(problem, point, limits.scan_time_s) for point in points]


def within_time(problem: DesignProblem, values: Floats, scan_time_s: float) -> Floats:
    """Shrink pauses, then the other times, until a design fits a scan time.

    Raises
    ------
    InvalidInput
        If even the shortest design is longer.
    """
    grid = problem.setting.acquisition

    def length(x: Floats) -> float:
        return problem.protocol_at(x).scan_time_s(grid.matrix, grid.fov_m)

    seconds = [v.unit(problem.protocol) == "s" for v in problem.variables]
    pauses = np.array([v.parameter == PAUSE for v in problem.variables])
    values = values.copy()
    for chosen in (pauses, np.array(seconds)):
        if length(values) <= scan_time_s:
            return values
        shortest = np.where(chosen, problem.low, values)
        if length(shortest) <= scan_time_s:
            return between(shortest, values, lambda x: length(x) <= scan_time_s)
        values = shortest
    if length(values) <= scan_time_s:
        return values
    msg = (
        f"the scan time must allow the shortest design, {length(values):.4g} s, got a budget of "
        f"{scan_time_s:.4g} s; raise it, lower bounds of times, or take contrasts out"
    )
    raise InvalidInput(msg)


def optimise(
    problem: DesignProblem,
    start: Floats,
    limits: Limits,
    effort: Effort | None = None,
    watch: Watch | None = None,
    guard: Guard | None = None,
) -> Optimised:
    """Optimise from one start, which keeps the guard if there is one.

    Raises
    ------
    InvalidInput
        If the limits cannot be kept or the start cannot be played.
    """
    begun, effort = time.perf_counter(), effort or Effort()
    values = within_time(problem, start, limits.scan_time_s)
    history: list[float] = []
    design = problem.linearised(values)
    _check_energy(design, values, limits)
    history.append(design.value(values))
    for number in range(effort.rounds):
        near = None if guard is None else guard.at(values)
        moved = _round(design, values, limits, effort, near)
        if near is not None:
            moved = near.kept(values, moved)
        values = within_time(problem, moved, limits.scan_time_s)
        design = problem.linearised(values, design)
        history.append(design.value(values))
        if watch is not None:
            watch(number, history[-1])
        if abs(history[-1] - history[-2]) < effort.tolerance:
            break
    return _finish(problem, values, limits, tuple(history), time.perf_counter() - begun)


def _check_energy(design: LinearDesign, values: Floats, limits: Limits) -> None:
    if limits.rf_energy_t2_s is None:
        return
    low = np.where(
        [v.unit(design.problem.protocol) == "deg" for v in design.problem.variables],
        design.problem.low,
        values,
    )
    least, _ = design.rf_energy_t2_s(low)
    if least > limits.rf_energy_t2_s:
        msg = (
            f"the RF energy must allow the smallest flip angles, {least:.4g} T2 s, got a limit of "
            f"{limits.rf_energy_t2_s:.4g} T2 s; raise it or lower bounds of flip angles"
        )
        raise InvalidInput(msg)


def _round(
    design: LinearDesign,
    values: Floats,
    limits: Limits,
    effort: Effort,
    guard: LinearGuard | None = None,
) -> Floats:
    """Optimise on one linearisation."""
    from scipy.optimize import minimize

    scale = Scale(design.problem)

    def cost(u: Floats) -> tuple[float, Floats]:
        value, gradient = design.evaluate(scale.outer(u))
        return value, gradient * scale.slope(u)

    def room(of: Callable[[Floats], tuple[float, Floats]], most: float) -> dict[str, object]:
        return {
            "type": "ineq",
            "fun": lambda u: 1 - of(scale.outer(u))[0] / most,
            "jac": lambda u: -of(scale.outer(u))[1] * scale.slope(u) / most,
        }

    constraints = [room(design.scan_time_s, limits.scan_time_s)]
    if limits.rf_energy_t2_s is not None:
        constraints.append(room(design.rf_energy_t2_s, limits.rf_energy_t2_s))
    if guard is not None:
        constraints.append(guard.constraint(scale))
    found = minimize(
        cost,
        scale.inner(values),
        jac=True,
        bounds=scale.bounds,
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": effort.iterations, "ftol": effort.tolerance / 10},
    )
    return scale.outer(np.clip(found.x, 0.0, 1.0))


def on_raster(problem: DesignProblem, values: Floats, scan_time_s: float) -> Floats:
    """Put values on the scanner's raster, shortening times by what rounding took."""
    values = within_time(problem, values, scan_time_s)
    rounded = np.array(rounded_values(problem.protocol, problem.variables, list(values)))
    grid = problem.setting.acquisition
    for _ in range(5):
        over = problem.protocol_at(rounded).scan_time_s(grid.matrix, grid.fov_m) - scan_time_s
        if over <= 0:
            break
        times = [v.unit(problem.protocol) == "s" for v in problem.variables]
        room = np.where(times, rounded - problem.low, 0.0)
        rounded[int(room.argmax())] -= np.ceil(over / 2e-5) * 2e-5
        rounded = np.array(rounded_values(problem.protocol, problem.variables, list(rounded)))
    return rounded


def _finish(
    problem: DesignProblem,
    values: Floats,
    limits: Limits,
    history: tuple[float, ...],
    seconds: float,
) -> Optimised:
    """Put values on the raster and score them."""
    rounded = on_raster(problem, values, limits.scan_time_s)
    protocol = problem.protocol_at(rounded)
    plain = problem.setting
    if plain.voxels.scenarios > 1:
        plain = replace(plain, voxels=plain.voxels.nominal)
    return Optimised(
        protocol=protocol,
        values=tuple(float(v) for v in rounded),
        score=score_protocol(protocol, plain),
        history=history,
        seconds=seconds,
    )
