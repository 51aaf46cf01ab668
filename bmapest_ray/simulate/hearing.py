"""What the receiver hears: which state, during which readout, with which factors.

A *hearing* is one emitting state during one readout. Its signal at sample j is

    S_j += exp(i adc_phase) window_j sum_v sqrt(2) m(v) PD(v) c(v) exp(-D b_centre)
           f(t_j; v) exp(-2 pi i k_j . x_v),
    f(t; v) = exp(-t / T2 - |tau + t| / T2' - D (b(t) - b_centre) - 2 pi i (tau + t) B0).

Hearings whose ``f`` is the same function share a *profile*; hearings that also share kx and the
window share a *trace*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.nodes import NodeSet, node_set
from bmapest_ray.simulate.plan import Floats, Ints, Plan
from bmapest_ray.simulate.prepass import attenuation_s_per_m2

_ATTENUATION_STEP = 4e-6
"""Two profiles are one when exp(-D b) differs by less than half of this."""


@dataclass(frozen=True)
class Profile:
    """The voxel factor ``f`` of a group of hearings.

    Parameters
    ----------
    nodes
        Where it is evaluated and how it is interpolated.
    tau_s
        Precession time right after the pulse.
    attenuation_s_per_m2
        ``b(t) - b_centre`` at the nodes. Shape ``(node,)``.
    """

    nodes: NodeSet
    tau_s: float
    attenuation_s_per_m2: Floats


@dataclass(frozen=True)
class Trace:
    """Positions and weights along x of a group of hearings.

    Parameters
    ----------
    kx_per_m, nominal_kx_per_m
        Of the samples, actual and as reconstructed. Shape ``(sample,)``.
    window
        Attenuation by the voxel's shape. Shape ``(sample,)``.
    """

    kx_per_m: Floats
    nominal_kx_per_m: Floats
    window: Floats


@dataclass(frozen=True)
class Hearings:
    """All hearings of a chain, sorted by image, profile, trace and offset along y.

    Every array has shape ``(hearing,)``.

    Parameters
    ----------
    emission
        Index of the state among the emissions of the plan.
    readout
        Index of the readout of the chain.
    image
        Index of the image.
    profile, trace
        Indices into ``profiles`` and ``traces``.
    phase
        ``sqrt(2) exp(i adc_phase)``.
    b_centre_s_per_m2
        b at the middle sample.
    ky_per_m, nominal_ky_per_m
        Line position of the state and of the readout.
    """

    emission: Ints
    readout: Ints
    image: Ints
    profile: Ints
    trace: Ints
    phase: NDArray[np.complex128]
    b_centre_s_per_m2: Floats
    ky_per_m: Floats
    nominal_ky_per_m: Floats
    profiles: tuple[Profile, ...]
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class _Raw:
    emission: int
    readout: int
    image: int
    time: Floats
    tau: float
    b: Floats
    k: Floats
    nominal: Floats
    window: Floats
    phase: complex


def find_hearings(
    table: EventTable,
    plan: Plan,
    nyquist_per_m: Floats,
    *,
    max_b0_hz: float,
    max_decay_per_s: float,
    max_diffusivity_m2_per_s: float,
    tolerance: float,
) -> Hearings:
    """List the hearings of a chain and group them.

    Parameters
    ----------
    table, plan
        The chain and its graph.
    nyquist_per_m
        Largest frequency of a voxel per axis, shape ``(3,)``.
    max_b0_hz, max_decay_per_s, max_diffusivity_m2_per_s
        Bounds on the object, which set the number of nodes and what counts as equal.
    tolerance
        Of the interpolation in time.
    """
    raw = [hearing for hearing in _walk(table, plan, nyquist_per_m) if hearing.window.any()]
    rate = 2 * np.pi * max_b0_hz + max_decay_per_s
    step = _ATTENUATION_STEP / max_diffusivity_m2_per_s
    profiles: dict[tuple[object, ...], int] = {}
    traces: dict[tuple[object, ...], int] = {}
    made_profiles: list[Profile] = []
    made_traces: list[Trace] = []
    rows = []
    for hearing in raw:
        profile = profiles.setdefault(_profile_key(hearing, step), len(profiles))
        if profile == len(made_profiles):
            made_profiles.append(_profile(hearing, rate, tolerance))
        trace = traces.setdefault(_trace_key(hearing, table.fov_m), len(traces))
        if trace == len(made_traces):
            made_traces.append(Trace(hearing.k[:, 0], hearing.nominal[:, 0], hearing.window))
        shift = round((hearing.k[0, 1] - hearing.nominal[0, 1]) * table.fov_m * 1e4)
        rows.append((hearing.image, profile, trace, shift))
    order = np.lexsort(np.array(rows).T[::-1])
    image, profile_index, trace_index, _ = np.array(rows)[order].T
    ordered = [raw[i] for i in order]
    middle = [len(h.time) // 2 for h in ordered]
    return Hearings(
        emission=np.array([h.emission for h in ordered]),
        readout=np.array([h.readout for h in ordered]),
        image=image,
        profile=profile_index,
        trace=trace_index,
        phase=np.array([h.phase for h in ordered]),
        b_centre_s_per_m2=np.array([h.b[i] for h, i in zip(ordered, middle, strict=True)]),
        ky_per_m=np.array([h.k[i, 1] for h, i in zip(ordered, middle, strict=True)]),
        nominal_ky_per_m=np.array([h.nominal[i, 1] for h, i in zip(ordered, middle, strict=True)]),
        profiles=tuple(made_profiles),
        traces=tuple(made_traces),
    )


def _profile_key(hearing: _Raw, step: float) -> tuple[object, ...]:
    change = hearing.b - hearing.b[len(hearing.b) // 2]
    ends = np.round(change[[0, -1]] / step).astype(int)
    time = hearing.time
    first, dwell = round(time[0] * 1e9), round((time[-1] - time[0]) * 1e9)
    return (first, dwell, len(time), round(hearing.tau * 1e9), *ends.tolist())


def _trace_key(hearing: _Raw, fov_m: float) -> tuple[object, ...]:
    position = tuple(np.round(hearing.k[[0, -1], 0] * fov_m * 1e6).astype(int).tolist())
    nominal = tuple(np.round(hearing.nominal[[0, -1], 0] * fov_m * 1e6).astype(int).tolist())
    return (*position, *nominal, np.round(hearing.window * 1e6).astype(int).tobytes())


def _profile(hearing: _Raw, rate: float, tolerance: float) -> Profile:
    time = hearing.time
    dwell = float(time[-1] - time[0]) / max(1, len(time) - 1)
    if np.abs(np.diff(time) - dwell).max(initial=0.0) > 0.01 * dwell:
        msg = (
            "the samples of a readout must be evenly spaced, got gaps between "
            f"{np.diff(time).min():.3g} and {np.diff(time).max():.3g} s; split the readout"
        )
        raise SimulationError(msg)
    nodes = node_set(float(time[0]), dwell, len(time), -hearing.tau, rate, tolerance)
    change = np.interp(nodes.time_s, time, hearing.b) - hearing.b[len(time) // 2]
    return Profile(nodes=nodes, tau_s=hearing.tau, attenuation_s_per_m2=change)


def _walk(table: EventTable, plan: Plan, nyquist: Floats) -> list[_Raw]:
    hearings = []
    emission = 0
    readout = 0
    for rep, states in zip(table.repetitions, plan.repetitions, strict=True):
        sampled = np.flatnonzero(rep.adc)
        windows = []
        while sampled.size:
            declared = table.readouts[readout]
            windows.append((readout, sampled[: declared.samples]))
            sampled = sampled[declared.samples :]
            readout += 1
        for heard in states.heard:
            state = states.n_longitudinal + int(heard)
            for number, events in windows:
                hearings.append(
                    _hear(
                        table,
                        rep,
                        states.k_per_m[state],
                        float(states.tau_s[state]),
                        emission,
                        number,
                        events,
                        nyquist,
                    )
                )
            emission += 1
    return hearings


def _hear(
    table: EventTable,
    rep: Repetition,
    k_start: Floats,
    tau: float,
    emission: int,
    readout: int,
    events: Ints,
    nyquist: Floats,
) -> _Raw:
    k = k_start + rep.k_per_m[events]
    phase = rep.adc_phase_rad[events]
    if np.ptp(phase) > 1e-6:
        msg = (
            "the ADC phase must be constant during a readout, got a change of "
            f"{np.ptp(phase):.3g} rad; split the readout"
        )
        raise SimulationError(msg)
    excess = np.clip((np.abs(k) - nyquist - 0.5) * 100, -60, 60)
    window = np.prod(1 / (1 + np.exp(excess)), axis=1)
    window[window < 1e-9] = 0.0
    return _Raw(
        emission=emission,
        readout=readout,
        image=table.readouts[readout].image,
        time=rep.time_s[events],
        tau=tau,
        b=attenuation_s_per_m2(k_start[None], rep, events)[0],
        k=k,
        nominal=nominal_k_per_m(table, readout),
        window=window,
        phase=complex(np.sqrt(2) * np.exp(1j * phase[0])),
    )


def nominal_k_per_m(table: EventTable, readout: int) -> Floats:
    """Return where the samples of a readout are reconstructed, shape ``(sample, 2)``, 1/m."""
    declared = table.readouts[readout]
    index = sample_index(table, readout)
    kx = (index + 0.5 - table.matrix / 2) / table.fov_m
    ky = np.full(len(index), (declared.line - table.matrix / 2) / table.fov_m)
    return np.column_stack([kx, ky])


def sample_index(table: EventTable, readout: int) -> Ints:
    """Return the kx index of every sample of a readout."""
    declared = table.readouts[readout]
    index = np.arange(declared.samples)
    return table.matrix - 1 - index if declared.reverse else index
