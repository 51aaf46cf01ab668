"""The phase graph of one chain as static arrays: which state feeds which, and which are heard.

A state is a dephasing ``(k, tau)`` with a complex magnetisation per voxel: transversal (``+``),
longitudinal (``z``) or the relaxing equilibrium part (``z0``). Within a repetition states are
ordered ``[z0, z..., +...]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Transition(IntEnum):
    """What an RF pulse does to a state; ``CONJ`` starts from the conjugate, with ``-k``."""

    Z_TO_Z = 0
    Z_TO_PLUS = 1
    PLUS_TO_PLUS = 2
    PLUS_TO_Z = 3
    CONJ_TO_Z = 4
    CONJ_TO_PLUS = 5


@dataclass(frozen=True)
class Edges:
    """Edges of one kind between the states of two repetitions.

    Parameters
    ----------
    source
        Index among the ``z`` (with z0) or the ``+`` states of the repetition before. ``(edge,)``.
    target
        Index among all states of this repetition. Shape ``(edge,)``.
    """

    source: Ints
    target: Ints


@dataclass(frozen=True)
class RepetitionPlan:
    """States of one repetition, after its pulse.

    Parameters
    ----------
    angle_rad, phase_rad, duration_s
        Of the pulse and of the time up to the next one.
    n_longitudinal, n_transversal
        Number of ``z`` states (z0 included, first) and of ``+`` states.
    edges
        One entry per :class:`Transition`.
    k_per_m
        Dephasing right after the pulse. Shape ``(state, 3)``.
    tau_s
        Precession time not yet refocused, right after the pulse. Shape ``(state,)``.
    attenuation_s_per_m2
        b of the whole repetition per state: multiplies the diffusivity. Shape ``(state,)``.
    heard
        Indices, among the ``+`` states, of those that emit a signal. Shape ``(emission,)``.
    """

    angle_rad: float
    phase_rad: float
    duration_s: float
    n_longitudinal: int
    n_transversal: int
    edges: tuple[Edges, ...]
    k_per_m: Floats
    tau_s: Floats
    attenuation_s_per_m2: Floats
    heard: Ints


@dataclass(frozen=True)
class Plan:
    """The static graph of one chain.

    Parameters
    ----------
    repetitions
        One plan per RF pulse.
    strongest_emission
        Largest emission of any state of a probe, for a voxel of unit proton density.
    """

    repetitions: tuple[RepetitionPlan, ...]
    strongest_emission: float

    @property
    def n_states(self) -> int:
        """Number of states over all repetitions."""
        return sum(rep.n_longitudinal + rep.n_transversal for rep in self.repetitions)

    @property
    def n_emissions(self) -> int:
        """Number of states that are heard."""
        return sum(len(rep.heard) for rep in self.repetitions)
