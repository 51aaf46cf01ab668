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
from bmapest_ray.simulate.prepass_loops import (
    add_arrivals,
    add_passed_on,
    audible,
    number_equal,
    strongest,
)
from bmapest_ray.simulate.stage import (
    Complexes,
    Probes,
    Stage,
    attenuation_s_per_m2,
    rotation,
    starts_longitudinal,
)

_K_KEY_PER_M = 5e-3
_TAU_KEY_S = 1e-6
_HASH = np.array(
    [0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D], dtype=np.int64
)  # 62-bit odd numbers: products wrap, and no small difference of dephasings hashes to zero


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
    k, tau = np.zeros((1, 3)), np.zeros(1)
    magnetisation: Complexes = np.ones((1, len(probes.b1)), dtype=np.complex128)
    n_z = 1
    stages: list[Stage] = []
    for rep in table.repetitions:
        stage = _pulse(k, tau, magnetisation, n_z, rep, probes, accuracy)
        _evolve(stage, rep, probes, nyquist, accuracy.min_emitted_signal)
        stages.append(stage)
        k, tau, n_z = stage.k.copy(), stage.tau.copy(), stage.n_z
        k[n_z:] += rep.k_per_m[-1]
        tau[n_z:] += rep.time_s[-1]
        magnetisation = stage.magnetisation * stage.relaxation
        magnetisation[0] += 1 - np.exp(-rep.time_s[-1] / probes.t1_s)
    return stages


def _pulse(
    k: Floats,
    tau: Floats,
    magnetisation: Complexes,
    n_z: int,
    rep: Repetition,
    probes: Probes,
    accuracy: StateAccuracy,
) -> Stage:
    """Mix by the pulse, merge equal dephasings, drop what is too weak."""
    factor = rotation(rep.angle_rad * probes.b1, rep.phase_rad)
    z, plus = slice(0, n_z), slice(n_z, None)
    kt = np.column_stack([k, tau])
    m_z, m_plus = magnetisation[z], magnetisation[plus]
    to_z = [
        (Transition.Z_TO_Z, kt[z], m_z),
        (Transition.PLUS_TO_Z, kt[plus], m_plus),
        (Transition.CONJ_TO_Z, -kt[plus], m_plus.conj()),
    ]
    to_plus = [
        (Transition.Z_TO_PLUS, kt[z], m_z),
        (Transition.PLUS_TO_PLUS, kt[plus], m_plus),
        (Transition.CONJ_TO_PLUS, -kt[plus], m_plus.conj()),
    ]
    kt_z, new_z, child_z = _merge(to_z, factor, accuracy, origin_first=True)
    kt_plus, new_plus, child_plus = _merge(to_plus, factor, accuracy, origin_first=False)
    n_new_z = len(kt_z)
    children = dict(child_z)
    for kind, index in child_plus.items():
        children[kind] = np.where(index >= 0, index + n_new_z, -1)
    kt_all = np.concatenate([kt_z, kt_plus])
    states = np.concatenate([new_z, new_plus])
    empty = np.zeros((len(states), 0))
    return Stage(
        k=kt_all[:, :3],
        tau=kt_all[:, 3],
        magnetisation=states,
        n_z=n_new_z,
        children=children,
        attenuation=empty,
        relaxation=empty,
        emission=empty,
    )


def _merge(
    parts: list[tuple[Transition, Floats, Complexes]],
    factor: dict[Transition, Complexes],
    accuracy: StateAccuracy,
    *,
    origin_first: bool,
) -> tuple[Floats, Complexes, dict[Transition, Ints]]:
    """Sum the contributions of equal dephasing; returns ``kt``, magnetisation and child indices."""
    kt = np.concatenate([part[1] for part in parts])
    scale = np.array([_K_KEY_PER_M] * 3 + [_TAU_KEY_S])
    keys = np.round(kt / scale).astype(np.int64) @ _HASH
    inverse, first = np.empty_like(keys), np.empty_like(keys)
    count = number_equal(keys, inverse, first)
    merged = np.zeros((count, factor[parts[0][0]].shape[0]), dtype=np.complex128)
    start = 0
    for kind, part_kt, values in parts:
        add_arrivals(values, factor[kind], inverse[start : start + len(part_kt)], merged)
        start += len(part_kt)
    strength = strongest(merged)
    if origin_first:
        strength[inverse[0]] = np.inf
    keep = np.flatnonzero(strength >= accuracy.min_state_mag)
    keep = keep[np.argsort(-strength[keep], kind="stable")][: accuracy.max_state_count]
    rank = np.full(count, -1, dtype=np.int64)
    rank[keep] = np.arange(len(keep))
    placed = rank[inverse]
    children, start = {}, 0
    for kind, part_kt, _ in parts:
        children[kind] = placed[start : start + len(part_kt)]
        start += len(part_kt)
    return kt[first[keep]], merged[keep], children


def _evolve(
    stage: Stage, rep: Repetition, probes: Probes, nyquist: Floats, min_emitted: float
) -> None:
    """Fill in the relaxation over the repetition and how loud each ``+`` state is."""
    duration = float(rep.time_s[-1])
    n_z = stage.n_z
    k_squared = (2 * np.pi) ** 2 * (stage.k[:n_z] ** 2).sum(axis=1)
    last = attenuation_s_per_m2(stage.k[n_z:], rep, slice(-1, None))[:, 0]
    stage.attenuation = np.concatenate([k_squared * duration, last])
    stage.relaxation = np.exp(-probes.diffusivity_m2_per_s * stage.attenuation[:, None])
    stage.relaxation[:n_z] *= np.exp(-duration / probes.t1_s)
    stage.relaxation[n_z:] *= np.exp(-duration / probes.t2_s)
    stage.emission = np.zeros_like(stage.relaxation)
    if rep.adc.any() and len(stage.k) > n_z:
        stage.emission[n_z:] = _loudness(stage, rep, probes, nyquist, min_emitted)


def _loudness(
    stage: Stage, rep: Repetition, probes: Probes, nyquist: Floats, min_emitted: float
) -> Floats:
    """Return the largest signal of each ``+`` state, ``(state, probe)``."""
    size = np.abs(stage.magnetisation[stage.n_z :])
    k_start = stage.k[stage.n_z :]
    loud = np.zeros_like(size)
    limit = nyquist + 0.55
    during = rep.k_per_m[rep.adc]
    # thresholds are relative to the strongest signal, which is below sqrt(1/2): a safe first cut
    near = (k_start + during.max(axis=0) >= -limit) & (k_start + during.min(axis=0) <= limit)
    candidates = np.flatnonzero((size.max(axis=1) >= 0.02 * min_emitted) & near.all(axis=1))
    candidates = candidates[audible(k_start[candidates], during, limit)]
    if not candidates.size:
        return loud
    sampled = np.flatnonzero(rep.adc)
    few = sampled[np.unique(np.linspace(0, len(sampled) - 1, 9).astype(int))]
    time = rep.time_s[few]
    tau = np.abs(stage.tau[stage.n_z :][candidates][:, None] + time)
    b = attenuation_s_per_m2(k_start[candidates], rep, few)
    exponent = (
        time[:, None] / probes.t2_s
        + tau[:, :, None] / probes.t2dash_s
        + b[:, :, None] * probes.diffusivity_m2_per_s
    )
    loud[candidates] = np.sqrt(2) * size[candidates] * np.exp(-exponent.min(axis=1))
    return loud


def _backward(stages: list[Stage], table: EventTable, probes: Probes, floor: float) -> None:
    """Set ``latent``: how much of the signal comes through a state, per probe.

    Contributions along different paths add in quadrature. The loudest single path, as MR-zero takes
    it, is no measure where many weak paths make an echo (echo trains, balanced steady states).
    """
    gain_next: Floats | None = None
    for number in range(len(stages) - 1, -1, -1):
        stage = stages[number]
        size = np.maximum(np.abs(stage.magnetisation), 1e-300)
        gain = np.where(stage.emission >= floor, stage.emission / size, 0.0)
        if gain_next is not None:
            following = table.repetitions[number + 1]
            factor = rotation(following.angle_rad * probes.b1, following.phase_rad)
            squares = np.zeros_like(gain)
            for kind, child in stages[number + 1].children.items():
                rows = slice(0, stage.n_z) if starts_longitudinal(kind) else slice(stage.n_z, None)
                add_passed_on(child, factor[kind], gain_next, squares[rows])
            gain = np.sqrt(gain**2 + squares * stage.relaxation**2)
        stage.latent = gain * size
        gain_next = gain
