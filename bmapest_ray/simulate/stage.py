"""States of a repetition while a graph is searched; what a pulse and a gradient do to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.simulate.events import Repetition
from bmapest_ray.simulate.plan import Floats, Ints, Transition

Complexes = NDArray[np.complex128]


@dataclass(frozen=True)
class Probes:
    """Parameter sets that the graph must serve, all of shape ``(probe,)``, SI units."""

    t1_s: Floats
    t2_s: Floats
    t2dash_s: Floats
    diffusivity_m2_per_s: Floats
    b1: Floats


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
    after = rep.k_per_m
    before = np.concatenate([np.zeros((1, 3)), after[:-1]])
    dt = rep.duration_s
    linear = np.cumsum(dt[:, None] * (before + after), axis=0)[events]
    constant = np.cumsum(dt * (before**2 + before * after + after**2).sum(axis=1))[events]
    k_squared = (k_start**2).sum(axis=1)
    result: Floats = ((2 * np.pi) ** 2 / 3) * (
        3 * k_squared[:, None] * rep.time_s[events] + 3 * k_start @ linear.T + constant
    )
    return result


def rotation(angle: Floats, phase: float) -> dict[Transition, Complexes]:
    """Return the factor of each transition for flip angles ``angle`` [rad], shape ``(probe,)``."""
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
