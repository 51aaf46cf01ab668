"""Choose the states of the phase graph: several tissues and B1 values at once.

MR-zero's own pre-pass follows one mean tissue, so states vanish where that mean crosses zero, and
it takes seconds per tissue. Here every state carries the magnetisation of a set of probes (each
tissue at each B1 probe); a state is kept when any probe makes it heard above the thresholds of
the protocol. Phase distribution graphs: Endres et al., Magn Reson Med 2024;92:1189.
"""

from __future__ import annotations

import numpy as np

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.compact import compact
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.plan import Floats, Ints, Plan, Transition
from bmapest_ray.simulate.prepass_loops import add_passed_on, emit, fade, hear_through, mix
from bmapest_ray.simulate.stage import (
    Complexes,
    Probes,
    Stage,
    attenuation_s_per_m2,
    attenuation_terms,
    starts_longitudinal,
)

_KEY = np.array([5e-3, 5e-3, 5e-3, 1e-6])
"""Dephasings that differ by less, in 1/m and s, are one."""
_HASH = np.array(
    [0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D], dtype=np.int64
)  # 62-bit odd numbers: products wrap, and no small difference of dephasings hashes to zero
_TO_Z = (Transition.Z_TO_Z, Transition.PLUS_TO_Z, Transition.CONJ_TO_Z)
_TO_PLUS = (Transition.Z_TO_PLUS, Transition.PLUS_TO_PLUS, Transition.CONJ_TO_PLUS)


def make_plan(
    table: EventTable, probes: Probes, accuracy: StateAccuracy, nyquist_per_m: Floats
) -> Plan:
    """Choose the states that serve every probe.

    Parameters
    ----------
    table
        The chain.
    probes
        Parameter sets; a state stays when it matters for one of them.
    accuracy
        Thresholds: magnetisations relative to M0, signals relative to the strongest of the chain.
    nyquist_per_m
        Largest frequency of a voxel per axis, shape ``(3,)``.

    Raises
    ------
    SimulationError
        If a readout has no state that emits.
    """
    stages = _forward(table, probes, accuracy, nyquist_per_m)
    loudest = max(float(stage.emission.max(initial=0.0)) for stage in stages)
    if loudest <= 0:
        msg = "a protocol must emit a signal, got none in any readout; check its pulses"
        raise SimulationError(msg)
    _backward(stages, table, probes, accuracy.min_emitted_signal * loudest)
    return Plan(repetitions=compact(stages, table, accuracy, loudest), strongest_emission=loudest)


def _forward(
    table: EventTable, probes: Probes, accuracy: StateAccuracy, nyquist: Floats
) -> list[Stage]:
    kt = np.zeros((1, 4))
    magnetisation: Complexes = np.ones((1, len(probes.b1)), dtype=np.complex128)
    n_z = 1
    stages: list[Stage] = []
    for rep in table.repetitions:
        stage = _pulse(kt, magnetisation, n_z, rep, probes, accuracy)
        _evolve(stage, rep, probes, nyquist, accuracy.min_emitted_signal)
        stages.append(stage)
        kt, n_z = np.column_stack([stage.k, stage.tau]), stage.n_z
        kt[n_z:] += np.append(rep.k_per_m[-1], rep.time_s[-1])
        magnetisation = stage.magnetisation * stage.relaxation
        magnetisation[0] += 1 - np.exp(-rep.time_s[-1] / probes.t1_s)
    return stages


def _pulse(
    kt: Floats,
    magnetisation: Complexes,
    n_z: int,
    rep: Repetition,
    probes: Probes,
    accuracy: StateAccuracy,
) -> Stage:
    """Mix by the pulse, merge equal dephasings, drop what is too weak."""
    by_kind = probes.rotation(rep)
    factor = np.array([[by_kind[kind] for kind in kinds] for kinds in (_TO_Z, _TO_PLUS)])
    n_plus = len(kt) - n_z
    arrivals = len(kt) + n_plus
    inverse, first = np.empty((2, arrivals), dtype=np.int64)
    merged = np.empty((2, arrivals, len(probes.b1)), dtype=np.complex128)
    strength = np.empty((2, arrivals))
    keys = np.round(kt / _KEY).astype(np.int64) @ _HASH
    count = mix(keys, magnetisation, n_z, factor, inverse, first, merged, strength)
    strength[0, inverse[0]] = np.inf  # the relaxed state comes first
    starts = np.split(inverse, [n_z, len(kt)])
    numbers: list[Ints] = []
    children: dict[Transition, Ints] = {}
    for target, kinds in enumerate((_TO_Z, _TO_PLUS)):
        keep = _strong(strength[target, :count], accuracy)
        place = np.full(count, -1, dtype=np.int64)
        place[keep] = np.arange(len(keep)) + (len(numbers[0]) if numbers else 0)
        numbers.append(keep)
        children.update({kind: place[start] for kind, start in zip(kinds, starts, strict=True)})
    came = first[np.concatenate(numbers)]
    kt_after = kt[np.where(came < len(kt), came, came - n_plus)]
    kt_after[came >= len(kt)] *= -1
    empty = np.zeros((len(came), 0))
    return Stage(
        k=kt_after[:, :3],
        tau=kt_after[:, 3],
        magnetisation=np.concatenate([m[n] for m, n in zip(merged, numbers, strict=True)]),
        n_z=len(numbers[0]),
        children=children,
        attenuation=empty,
        relaxation=empty,
        emission=empty,
    )


def _strong(strength: Floats, accuracy: StateAccuracy) -> Ints:
    """Return which states stay after a pulse, the strongest first."""
    keep = np.flatnonzero(strength >= accuracy.min_state_mag)
    strongest: Ints = keep[np.argsort(-strength[keep], kind="stable")][: accuracy.max_state_count]
    return strongest


def _evolve(
    stage: Stage, rep: Repetition, probes: Probes, nyquist: Floats, min_emitted: float
) -> None:
    """Fill in the relaxation over the repetition and how loud each ``+`` state is."""
    duration = float(rep.time_s[-1])
    n_z = stage.n_z
    k_squared = (2 * np.pi) ** 2 * (stage.k[:n_z] ** 2).sum(axis=1)
    last = attenuation_s_per_m2(stage.k[n_z:], rep, slice(-1, None))[:, 0]
    stage.attenuation = np.concatenate([k_squared * duration, last])
    stage.relaxation = np.empty(stage.magnetisation.shape)
    z_left, plus_left = np.exp(-duration / np.array([probes.t1_s, probes.t2_s]))
    diffusivity = probes.diffusivity_m2_per_s
    fade(stage.attenuation, diffusivity, z_left, plus_left, n_z, stage.relaxation)
    stage.emission = np.zeros_like(stage.relaxation)
    if rep.adc.any() and len(stage.k) > n_z:
        limit = nyquist + 0.55
        during = rep.k_per_m[rep.adc]
        sampled = np.flatnonzero(rep.adc)
        few = sampled[np.unique(np.linspace(0, len(sampled) - 1, 9).astype(int))]
        k, tau, magnetisation = (a[n_z:] for a in (stage.k, stage.tau, stage.magnetisation))
        # thresholds are relative to the strongest signal, which is below sqrt(1/2): a safe cut
        near = (k + during.max(axis=0) >= -limit) & (k + during.min(axis=0) <= limit)
        heard = np.flatnonzero(near.all(axis=1))
        loud = np.zeros((len(heard), len(probes.b1)))
        emit(
            k[heard], tau[heard], magnetisation[heard], during, limit, 0.02 * min_emitted,
            rep.time_s[few], attenuation_terms(rep, few), probes.rates, loud,
        )  # fmt: skip
        stage.emission[n_z + heard] = loud


def _backward(stages: list[Stage], table: EventTable, probes: Probes, floor: float) -> None:
    """Set ``latent``: how much of the signal comes through a state, for the probe with the most.

    Contributions along different paths add in quadrature. The loudest single path, as MR-zero takes
    it, is no measure where many weak paths make an echo (echo trains, balanced steady states).
    """
    following: Floats | None = None
    for number in range(len(stages) - 1, -1, -1):
        stage = stages[number]
        gain = np.zeros(stage.emission.shape)
        if following is not None:
            after = table.repetitions[number + 1]
            factor = probes.rotation(after)
            for kind, child in stages[number + 1].children.items():
                rows = slice(0, stage.n_z) if starts_longitudinal(kind) else slice(stage.n_z, None)
                add_passed_on(child, factor[kind], following, gain[rows])
        stage.latent = np.empty(len(gain))
        hear_through(
            stage.emission, stage.magnetisation, stage.relaxation, floor, gain, stage.latent
        )
        following = gain
