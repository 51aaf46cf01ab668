"""The objective of a design and its gradient to every continuous parameter.

Events are affine in the parameters as long as no lobe has to be stretched: directions come from
sequences built a step up and down, exactly. The signal is differentiated through the phase graph;
graph and directions are made anew where the design has moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.design.fisher import Bound, soft_bound
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.signals import ChainSignals, chain_signals
from bmapest_ray.design.variables import Variable, with_values
from bmapest_ray.sequence.protocol import Chain, Protocol
from bmapest_ray.simulate.event_tensors import EventTensors, event_tensors, same_structure
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.plan import Floats
from bmapest_ray.simulate.score_events import events_of


class Criterion(StrEnum):
    """What makes one covariance better than another: mean, determinant or largest eigenvalue."""

    A = "A"
    D = "D"
    E = "E"


def criterion_of(covariance: Tensor, criterion: Criterion) -> Tensor:
    """Return the logarithm of a variance, shape ``(...)``, of covariances ``(..., t, t)``.

    A: mean over tissues; D: geometric mean over principal axes; E: the largest axis.
    """
    tissues = covariance.shape[-1]
    if criterion is Criterion.A:
        return torch.log(covariance.diagonal(dim1=-2, dim2=-1).mean(-1))
    if criterion is Criterion.D:
        return torch.logdet(covariance) / tissues
    return torch.log(torch.linalg.eigvalsh(covariance)[..., -1])


def objective_of(found: Bound, criterion: Criterion, scenarios: int) -> Tensor:
    """Return the mean over scenarios of the log variance; voxels are averaged within each."""
    tissues = found.covariance.shape[-1]
    grouped = found.covariance.view(scenarios, -1, tissues, tissues).mean(1)
    return criterion_of(grouped, criterion).mean()


@dataclass(frozen=True, eq=False)
class _LinearChain:
    """A chain at a point of the design, and how its events move with each variable."""

    signals: ChainSignals
    directions: tuple[EventTensors | None, ...]
    pulse_energy: Tensor


class DesignProblem:
    """A protocol whose variables are free.

    Parameters
    ----------
    protocol
        Gives everything that is not varied, and the start.
    variables
        What is varied.
    setting
        Circumstances; several scenarios are averaged.
    criterion
        A, D or E.

    Raises
    ------
    InvalidInput
        If a bound leaves what the sequence or the scanner can do.
    """

    def __init__(
        self,
        protocol: Protocol,
        variables: Sequence[Variable],
        setting: DesignSetting,
        criterion: Criterion = Criterion.A,
    ) -> None:
        self.protocol = protocol
        self.variables = tuple(variables)
        self.setting = setting
        self.criterion = criterion
        if not self.variables:
            msg = "a design needs at least one variable, got none; name what may change"
            raise InvalidInput(msg)
        for variable in self.variables:
            variable.check(protocol)
        self.low = np.array([v.low for v in self.variables])
        self.high = np.array([v.high for v in self.variables])

    @property
    def start(self) -> Floats:
        """Values in the protocol, moved inside the bounds."""
        values = np.array([v.value(self.protocol) for v in self.variables])
        clipped: Floats = np.clip(values, self.low, self.high)
        return clipped

    def protocol_at(self, values: Floats) -> Protocol:
        """Return the protocol with some values."""
        return with_values(self.protocol, self.variables, [float(v) for v in values])

    def linearised(self, values: Floats, known: LinearDesign | None = None) -> LinearDesign:
        """Build graphs and directions at some values.

        Directions of a design nearby are taken over where they still lead from there to here.

        Raises
        ------
        InvalidInput
            If the protocol cannot be played there.
        """
        return LinearDesign(self, np.asarray(values, dtype=np.float64), known)

    def table(self, number: int, values: Floats) -> EventTable:
        """Return the events of a chain at some values."""
        protocol, grid = self.protocol_at(values), self.setting.acquisition
        score = protocol.chains[number].write(grid.matrix, grid.fov_m, protocol.scanner)
        return events_of(score)

    def touches(self, number: int, variable: Variable) -> bool:
        """Whether a variable belongs to a chain."""
        return any(variable.owned_by(c) for c in self.protocol.chains[number].contrasts)


class LinearDesign:
    """A design near one point: value, gradient, scan time, RF energy."""

    def __init__(
        self, problem: DesignProblem, values: Floats, known: LinearDesign | None = None
    ) -> None:
        self.problem = problem
        self.origin = values
        protocol, grid = problem.protocol_at(values), problem.setting.acquisition
        self._chains = [
            self._linear_chain(number, chain, values, known)
            for number, chain in enumerate(protocol.chains)
        ]
        self._scan_time_s = protocol.scan_time_s(grid.matrix, grid.fov_m)

    def evaluate(self, values: Floats) -> tuple[float, Floats]:
        """Return the objective and its gradient."""
        x = torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True)
        cost = self._cost(x)
        (gradient,) = torch.autograd.grad(cost, x)
        return float(cost.detach()), gradient.numpy()

    def value(self, values: Floats) -> float:
        """Return the objective alone."""
        with torch.no_grad():
            return float(self._cost(torch.tensor(np.asarray(values), dtype=torch.float64)))

    def scan_time_s(self, values: Floats) -> tuple[float, Floats]:
        """Return the scan time and its gradient."""
        slope = np.zeros(len(self.origin))
        for chain in self._chains:
            for place, direction in enumerate(chain.directions):
                if direction is not None:
                    slope[place] += float(direction.duration_s.sum())
        return self._scan_time_s + float(slope @ (values - self.origin)), slope

    def rf_energy_t2_s(self, values: Floats) -> tuple[float, Floats]:
        """Return the integral of the squared B1 and its gradient."""
        x = torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True)
        total = torch.zeros((), dtype=torch.float64)
        for chain in self._chains:
            angle = self._events(chain, x).angle_rad
            total = total + (chain.pulse_energy * angle.square()).sum()
        (gradient,) = torch.autograd.grad(total, x)
        return float(total.detach()), gradient.numpy()

    def _linear_chain(
        self, number: int, chain: Chain, values: Floats, known: LinearDesign | None
    ) -> _LinearChain:
        problem = self.problem
        protocol, grid = problem.protocol_at(values), problem.setting.acquisition
        signals = chain_signals(chain, protocol, problem.setting)
        score = chain.write(grid.matrix, grid.fov_m, protocol.scanner)
        energy = torch.tensor([p.energy_t2_s for p in score.pulses], dtype=torch.float64)
        directions = None if known is None else known.directions_to(number, signals, values)
        if directions is None:
            directions = tuple(
                _direction(problem, number, place, values, signals.parametric.table)
                if problem.touches(number, variable)
                else None
                for place, variable in enumerate(problem.variables)
            )
        angle = signals.nominal.angle_rad
        return _LinearChain(signals, directions, energy / angle.square().clamp_min(1e-12))

    def directions_to(
        self, number: int, signals: ChainSignals, values: Floats
    ) -> tuple[EventTensors | None, ...] | None:
        """Return the directions of a chain if they lead exactly to its events at some values."""
        chain = self._chains[number]
        if not same_structure(chain.signals.parametric.table, signals.parametric.table):
            return None
        led = self._events(chain, torch.from_numpy(values))
        return chain.directions if led.is_close(signals.nominal) else None

    def _cost(self, x: Tensor) -> Tensor:
        signals = [c.signals.at(self._events(c, x)) for c in self._chains]
        setting = self.problem.setting
        found = soft_bound(signals, setting)
        return objective_of(found, self.problem.criterion, setting.voxels.scenarios)

    def _events(self, chain: _LinearChain, x: Tensor) -> EventTensors:
        origin = torch.from_numpy(self.origin)
        steps = [
            (x[place] - origin[place], direction)
            for place, direction in enumerate(chain.directions)
            if direction is not None
        ]
        return chain.signals.nominal.moved(steps) if steps else _detached(chain.signals.nominal, x)


def _detached(events: EventTensors, x: Tensor) -> EventTensors:
    return events.moved([(0.0 * x.sum(), events)])


def _direction(
    problem: DesignProblem, number: int, place: int, values: Floats, here: EventTable
) -> EventTensors:
    """Return the derivative of a chain's events by one variable, from sequences built anew.

    Raises
    ------
    InvalidInput
        If the sequence changes its structure on both sides.
    """
    step = problem.variables[place].step(problem.protocol)
    sides: dict[float, EventTable] = {0.0: here}
    for sign in (1.0, -1.0):
        moved = values.copy()
        moved[place] += sign * step
        try:
            table = problem.table(number, moved)
        except InvalidInput:
            continue  # a bound of the sequence: the other side will do
        if same_structure(table, here):
            sides[sign] = table
    low, high = min(sides), max(sides)
    if low == high:
        msg = (
            f"{problem.variables[place].name} must keep the events of its sequence around "
            f"{values[place]:.6g}, got another structure on both sides; narrow its bounds"
        )
        raise InvalidInput(msg)
    return event_tensors(sides[high]).minus(event_tensors(sides[low]), (high - low) * step)
