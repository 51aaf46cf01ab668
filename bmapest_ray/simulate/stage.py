"""States of a repetition while a graph is searched; what a pulse and a gradient do to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.simulate.events import Repetition
from bmapest_ray.simulate.plan import Floats, Ints, Transition

Complexes = NDArray[np.complex128]


@dataclass(frozen=True)
class Probes:
    """Parameter sets that the graph must serve, all of shape ``(probe,)``, SI units.

    ``b1`` may be ``(probe, point)``: what a pulse does is then averaged over the points.
    """

    t1_s: Floats
    t2_s: Floats
    t2dash_s: Floats
    diffusivity_m2_per_s: Floats
    b1: Floats

    @cached_property
    def rates(self) -> Floats:
        """1 / T2, 1 / T2' and D, shape ``(3, probe)``."""
        return np.array([1 / self.t2_s, 1 / self.t2dash_s, self.diffusivity_m2_per_s])

    def rotation(self, rep: Repetition) -> dict[Transition, Complexes]:
        """Return the factor of each transition by the pulse of a repetition, shape ``(probe,)``."""
        by_point = rotation(rep.angle_rad * self.b1, rep.phase_rad)
        if self.b1.ndim == 1:
            return by_point
        return {kind: factor.mean(axis=-1) for kind, factor in by_point.items()}


@dataclass
class Stage:
    """States of one repetition during the search."""

    k: Floats
    tau: Floats
    magnetisation: Complexes
    n_z: int
    children: dict[Transition, Ints]
    attenuation: Floats
    relaxation: Floats
    emission: Floats
    latent: Floats | None = None


def attenuation_s_per_m2(k_start: Floats, rep: Repetition, events: Ints | slice) -> Floats:
    """Return b at the end of the chosen events for ``+`` states that start at ``k_start``.

    ``b = (2 pi)^2 / 3 sum dt (k1^2 + k1 k2 + k2^2)``, a quadratic in ``k_start``; shape
    ``(state, event)``, s/m^2.
    """
    terms = attenuation_terms(rep, events)
    k_squared = (k_start**2).sum(axis=1)
    result: Floats = k_squared[:, None] * terms[:, 0] + k_start @ terms[:, 1:4].T + terms[:, 4]
    return result


def attenuation_terms(rep: Repetition, events: Ints | slice) -> Floats:
    """Return the terms of b at the end of events: of ``|k|^2``, of ``k`` and constant.

    Shape ``(event, 5)``.
    """
    after = rep.k_per_m
    before = np.concatenate([np.zeros((1, 3)), after[:-1]])
    dt = rep.duration_s
    linear = np.cumsum(dt[:, None] * (before + after), axis=0)[events]
    constant = np.cumsum(dt * (before**2 + before * after + after**2).sum(axis=1))[events]
    terms = np.column_stack([rep.time_s[events], linear, constant / 3])
    return (2 * np.pi) ** 2 * terms


def rotation(angle: Floats, phase: float) -> dict[Transition, Complexes]:
    """Return the factor of each transition for flip angles ``angle`` [rad], of their shape."""
    to_plus = -np.sqrt(0.5) * 1j * np.sin(angle) * np.exp(1j * phase)
    stay = np.cos(angle / 2) ** 2
    return {
        Transition.Z_TO_Z: np.cos(angle).astype(np.complex128),
        Transition.Z_TO_PLUS: to_plus,
        Transition.PLUS_TO_PLUS: stay.astype(np.complex128),
        Transition.PLUS_TO_Z: -to_plus.conj(),
        Transition.CONJ_TO_Z: -to_plus,
        Transition.CONJ_TO_PLUS: (1 - stay) * np.exp(2j * phase),
    }


def starts_longitudinal(kind: Transition) -> bool:
    """Whether a transition starts from a longitudinal state."""
    return kind in (Transition.Z_TO_Z, Transition.Z_TO_PLUS)
