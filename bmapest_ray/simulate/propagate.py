"""Play the pulses of a plan: the magnetisation of every heard state for sets of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch

from bmapest_ray.simulate.plan import Plan, RepetitionPlan, Transition
from bmapest_ray.simulate.trains import find_trains

if TYPE_CHECKING:
    from bmapest_ray.simulate.play import PackedPlan

_FROM_Z = (Transition.Z_TO_Z, Transition.Z_TO_PLUS)
_CONJUGATE = (Transition.CONJ_TO_Z, Transition.CONJ_TO_PLUS)


@dataclass(frozen=True)
class SpinParameters:
    """What decides the magnetisation of a set of points, SI units, each of shape ``(point,)``.

    B0 and T2' are not here: in a phase graph they act when a state is heard.
    """

    t1_s: torch.Tensor
    t2_s: torch.Tensor
    diffusivity_m2_per_s: torch.Tensor
    b1: torch.Tensor

    @property
    def n_points(self) -> int:
        """Number of parameter sets."""
        return int(self.t1_s.shape[0])

    def to(self, dtype: torch.dtype, device: torch.device | str) -> SpinParameters:
        """Return the parameters in another real dtype and on another device."""
        return SpinParameters(
            self.t1_s.to(device, dtype),
            self.t2_s.to(device, dtype),
            self.diffusivity_m2_per_s.to(device, dtype),
            self.b1.to(device, dtype),
        )


_MANY_POINTS = 128
"""From here on compiled loops pay on a CPU; below, torch is quick and needs no compilation."""


_PULSE_BLOCK = 65536
"""Pulses times points whose factors are computed at once."""


@dataclass(frozen=True)
class _Step:
    """One repetition with its indices as tensors."""

    angle_rad: float
    phase_rad: float
    duration_s: float
    n_z: int
    n_states: int
    sources: tuple[torch.Tensor, ...]
    target: torch.Tensor
    attenuation: torch.Tensor
    heard: torch.Tensor


class Propagator:
    """A plan with its index arrays on a device.

    Parameters
    ----------
    plan
        The static graph.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    """

    def __init__(
        self,
        plan: Plan,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.plan = plan
        self.dtype = dtype
        self.real_dtype = torch.float64 if dtype == torch.complex128 else torch.float32
        self.device = torch.device(device)
        self._trains = find_trains(plan)
        self._steps = [self._step(rep) for rep in plan.repetitions]

    def _step(self, rep: RepetitionPlan) -> _Step:
        def index(values: object) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=self.device)

        return _Step(
            angle_rad=rep.angle_rad,
            phase_rad=rep.phase_rad,
            duration_s=rep.duration_s,
            n_z=rep.n_longitudinal,
            n_states=rep.n_longitudinal + rep.n_transversal,
            sources=tuple(index(edges.source) for edges in rep.edges),
            target=torch.cat([index(edges.target) for edges in rep.edges]),
            attenuation=torch.as_tensor(
                rep.attenuation_s_per_m2, dtype=self.real_dtype, device=self.device
            ),
            heard=index(rep.heard),
        )

    def heard(self, parameters: SpinParameters) -> torch.Tensor:
        """Return the magnetisation of every heard state right after its pulse.

        Differentiable in all parameters. Shape ``(emission, point)``, complex.
        """
        parameters = parameters.to(self.real_dtype, self.device)
        if self.device.type == "cpu" and parameters.n_points >= _MANY_POINTS:
            return self._played(parameters)
        return self._stepped(parameters)

    def slopes(self, parameters: SpinParameters) -> torch.Tensor:
        """Return what is heard and its slopes to T1, T2 and D, ``(4, emission, point)``, detached.

        On a CPU in one go; elsewhere from automatic differentiation.
        """
        parameters = parameters.to(self.real_dtype, self.device)
        t1, t2, d = parameters.t1_s, parameters.t2_s, parameters.diffusivity_m2_per_s
        if self.device.type == "cpu":
            points = torch.stack([t1, t2, d, parameters.b1]).detach()
            return self._packed.run(points, 4)
        planes: list[torch.Tensor] = []
        for number in range(3):

            def heard(value: torch.Tensor, number: int = number) -> torch.Tensor:
                x = [value if place == number else x for place, x in enumerate((t1, t2, d))]
                return self._stepped(SpinParameters(x[0], x[1], x[2], parameters.b1))

            point = (t1, t2, d)[number]
            value, slope = torch.func.jvp(heard, (point,), (torch.ones_like(point),))[:2]
            planes += [slope] if planes else [value, slope]
        return torch.stack(planes)

    @cached_property
    def _packed(self) -> PackedPlan:
        from bmapest_ray.simulate.play import pack  # numba loads in half a second

        return pack(self.plan)

    def _played(self, parameters: SpinParameters) -> torch.Tensor:
        from bmapest_ray.simulate.play import Played

        heard: torch.Tensor = Played.apply(  # type: ignore[no-untyped-call]
            self._packed,
            parameters.t1_s,
            parameters.t2_s,
            parameters.diffusivity_m2_per_s,
            parameters.b1,
        )
        return heard

    def _stepped(self, parameters: SpinParameters) -> torch.Tensor:
        z = torch.ones((1, parameters.n_points), dtype=self.dtype, device=self.device)
        plus = z[:0]
        heard: list[torch.Tensor] = []
        pulses = self._pulse_factors(parameters.b1)
        number = 0
        while number < len(self._steps):
            if number in self._trains:
                train = self._trains[number]
                emitted, z = train.play(z, parameters.t1_s, parameters.b1)
                plus, number = z[:0], train.stop
                heard.append(emitted)
                continue
            step = self._steps[number]
            states = self._pulse(step, z, plus, pulses(number))
            number += 1
            z, plus = states[: step.n_z], states[step.n_z :]
            if step.heard.numel():
                heard.append(plus[step.heard])
            z, plus = self._relax(step, z, plus, parameters)
        return torch.cat(heard)

    def _pulse_factors(self, b1: torch.Tensor) -> Callable[[int], tuple[torch.Tensor, ...]]:
        """Return the factors of a pulse by its number, computed for many pulses at once."""
        size = max(1, _PULSE_BLOCK // len(b1))

        @lru_cache(maxsize=1)
        def block(index: int) -> list[tuple[torch.Tensor, ...]]:
            steps = self._steps[index * size : (index + 1) * size]
            told = [(step.angle_rad, step.phase_rad) for step in steps]
            angle, phase = torch.tensor(told, dtype=torch.float64, device=self.device).T
            angles = angle[:, None].to(self.real_dtype) * b1
            return list(zip(*pulse_factors(angles, phase[:, None], self.dtype), strict=True))

        return lambda number: block(number // size)[number % size]

    def _pulse(
        self,
        step: _Step,
        z: torch.Tensor,
        plus: torch.Tensor,
        factors: tuple[torch.Tensor, ...],
    ) -> torch.Tensor:
        parts = []
        for kind in Transition:
            source = z if kind in _FROM_Z else plus
            picked = source[step.sources[kind]]
            parts.append(factors[kind] * (picked.conj() if kind in _CONJUGATE else picked))
        states = z.new_zeros((step.n_states, z.shape[1]))
        return states.index_add(0, step.target, torch.cat(parts))

    def _relax(
        self, step: _Step, z: torch.Tensor, plus: torch.Tensor, parameters: SpinParameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        diffusion = -step.attenuation[:, None] * parameters.diffusivity_m2_per_s
        r1 = -step.duration_s / parameters.t1_s
        r2 = -step.duration_s / parameters.t2_s
        z = z * torch.exp(diffusion[: step.n_z] + r1)
        plus = plus * torch.exp(diffusion[step.n_z :] + r2)
        recovered = torch.cat([z[:1] - torch.expm1(r1), z[1:]])
        return recovered, plus


def pulse_factors(
    angle_rad: torch.Tensor, phase_rad: float | torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    """Return one factor per :class:`Transition`, each of shape ``(..., point)``."""
    phase = torch.as_tensor(phase_rad, dtype=torch.float64, device=angle_rad.device)
    turn = torch.polar(torch.ones_like(phase), phase).to(dtype)
    to_plus = (-1j * 2**-0.5) * torch.sin(angle_rad) * turn
    stay = torch.cos(angle_rad / 2) ** 2
    return (
        torch.cos(angle_rad).to(dtype),
        to_plus,
        stay.to(dtype),
        -to_plus.conj(),
        -to_plus,
        (1 - stay) * turn**2,
    )
