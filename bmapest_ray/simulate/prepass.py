"""Choose the states of the phase graph: several tissues and B1 values at once.

MR-zero's own pre-pass follows one mean tissue, so states vanish where that mean crosses zero, and
it takes seconds per tissue. Here every state carries the magnetisation of a set of probes (each
tissue at each B1 probe); a state is kept when any probe makes it heard above the thresholds of
the protocol. Phase distribution graphs: Endres et al., Magn Reson Med 2024;92:1189.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.plan import Edges, Floats, Ints, Plan, RepetitionPlan, Transition

Complexes = NDArray[np.complex128]

_K_KEY_PER_M = 5e-3
_TAU_KEY_S = 1e-6
_HASH = np.array(
    [0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D], dtype=np.int64
)  # 62-bit odd numbers: products wrap, and no small difference of dephasings hashes to zero


@dataclass(frozen=True)
class Probes:
    """Parameter sets that the graph must serve, all of shape ``(probe,)``, SI units."""

    t1_s: Floats
    t2_s: Floats
    t2dash_s: Floats
    diffusivity_m2_per_s: Floats
    b1: Floats


@dataclass
class _Stage:
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
    strongest = max(float(stage.emission.max(initial=0.0)) for stage in stages)
    if strongest <= 0:
        msg = "a protocol must emit a signal, got none in any readout; check its pulses"
        raise SimulationError(msg)
    _backward(stages, table, probes, accuracy.min_emitted_signal * strongest)
    return Plan(
        repetitions=_compact(stages, table, accuracy, strongest), strongest_emission=strongest
    )


def _forward(
    table: EventTable, probes: Probes, accuracy: StateAccuracy, nyquist: Floats
) -> list[_Stage]:
    k, tau = np.zeros((1, 3)), np.zeros(1)
    magnetisation: Complexes = np.ones((1, len(probes.b1)), dtype=np.complex128)
    n_z = 1
    stages: list[_Stage] = []
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
) -> _Stage:
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
    return _Stage(
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
    values = np.concatenate([part[2] * factor[part[0]] for part in parts])
    scale = np.array([_K_KEY_PER_M] * 3 + [_TAU_KEY_S])
    keys = np.round(kt / scale).astype(np.int64) @ _HASH
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    by_group = np.argsort(inverse, kind="stable")
    merged = np.add.reduceat(
        values[by_group], np.flatnonzero(np.diff(inverse[by_group], prepend=-1))
    )
    strength = np.abs(merged).max(axis=1)
    if origin_first:
        strength[inverse[0]] = np.inf
    keep = np.flatnonzero(strength >= accuracy.min_state_mag)
    keep = keep[np.argsort(-strength[keep], kind="stable")][: accuracy.max_state_count]
    rank = np.full(len(first), -1, dtype=np.int64)
    rank[keep] = np.arange(len(keep))
    placed = rank[inverse]
    children, start = {}, 0
    for kind, part_kt, _ in parts:
        children[kind] = placed[start : start + len(part_kt)]
        start += len(part_kt)
    return kt[first[keep]], merged[keep], children


def _evolve(
    stage: _Stage, rep: Repetition, probes: Probes, nyquist: Floats, min_emitted: float
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
    stage: _Stage, rep: Repetition, probes: Probes, nyquist: Floats, min_emitted: float
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
    within: NDArray[np.bool_] = np.abs(k_start[candidates][:, None] + during) <= limit
    inside = np.any(np.all(within, axis=2), axis=1)
    candidates = candidates[inside]
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


def _backward(stages: list[_Stage], table: EventTable, probes: Probes, floor: float) -> None:
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
                rows = slice(0, stage.n_z) if _from_z(kind) else slice(stage.n_z, None)
                reached = np.where(child[:, None] >= 0, gain_next[child], 0.0)
                squares[rows] += (np.abs(factor[kind]) * reached) ** 2
            gain = np.hypot(gain, np.sqrt(squares) * stage.relaxation)
        stage.latent = gain * size
        gain_next = gain


def _from_z(kind: Transition) -> bool:
    return kind in (Transition.Z_TO_Z, Transition.Z_TO_PLUS)


def _compact(
    stages: list[_Stage], table: EventTable, accuracy: StateAccuracy, strongest: float
) -> tuple[RepetitionPlan, ...]:
    """Renumber the states that stay and list their edges."""
    plans = []
    before = np.zeros(1, dtype=np.int64)
    n_z_before = 1
    for stage, rep in zip(stages, table.repetitions, strict=True):
        assert stage.latent is not None  # noqa: S101 - set by _backward
        keep = stage.latent.max(axis=1) >= accuracy.min_latent_signal * strongest
        keep[0] = True
        fid = stage.children[Transition.Z_TO_PLUS][0]
        if rep.adc.any() and fid >= 0:
            keep[fid] = True
        number = np.where(keep, np.cumsum(keep) - 1, -1)
        n_z = int(keep[: stage.n_z].sum())
        plans.append(
            RepetitionPlan(
                angle_rad=rep.angle_rad,
                phase_rad=rep.phase_rad,
                duration_s=float(rep.time_s[-1]),
                n_longitudinal=n_z,
                n_transversal=int(keep.sum()) - n_z,
                edges=_edges(stage, number, before, n_z_before),
                k_per_m=stage.k[keep],
                tau_s=stage.tau[keep],
                attenuation_s_per_m2=stage.attenuation[keep],
                heard=_heard(stage, rep, keep, n_z, fid, accuracy, strongest),
            )
        )
        before, n_z_before = number, stage.n_z
    return tuple(plans)


def _edges(stage: _Stage, number: Ints, before: Ints, n_z_before: int) -> tuple[Edges, ...]:
    kept_z = before[:n_z_before]
    kept_plus = before[n_z_before:]
    offset = int((kept_z >= 0).sum())
    edges = []
    for kind in Transition:
        child = stage.children[kind]
        source = kept_z if _from_z(kind) else np.where(kept_plus >= 0, kept_plus - offset, -1)
        target = np.where(child >= 0, number[child], -1)
        used = (source >= 0) & (target >= 0)
        edges.append(Edges(source=source[used], target=target[used]))
    return tuple(edges)


def _heard(
    stage: _Stage,
    rep: Repetition,
    keep: NDArray[np.bool_],
    n_z: int,
    fid: int,
    accuracy: StateAccuracy,
    strongest: float,
) -> Ints:
    if not rep.adc.any():
        return np.zeros(0, dtype=np.int64)
    loudest = stage.emission.max(axis=1)
    loud = (loudest >= accuracy.min_emitted_signal * strongest) & (loudest > 0)
    if fid >= 0:
        loud[fid] = loudest[fid] > 0
    heard: Ints = np.flatnonzero(loud[keep]) - n_z
    if not heard.size:
        msg = (
            "every ADC line must have a state that emits, got a readout without signal after a "
            f"pulse of {np.rad2deg(rep.angle_rad):.3g} degrees; lower min_emitted_signal or check "
            "the pulse"
        )
        raise SimulationError(msg)
    return heard
