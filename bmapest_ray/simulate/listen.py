"""Find what the receiver hears and sort it into profiles and traces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.hearing import Hearings, Profile, Trace, nominal_k_per_m
from bmapest_ray.simulate.nodes import node_set
from bmapest_ray.simulate.plan import Floats, Ints, Plan, RepetitionPlan
from bmapest_ray.simulate.stage import attenuation_s_per_m2

_ATTENUATION_STEP = 4e-6
"""Two profiles are one when exp(-D b) differs by less than half of this."""


@dataclass(frozen=True)
class _Heard:
    """All heard states of one repetition during one readout; first axis ``state``."""

    emission: Ints
    readout: int
    image: int
    time: Floats
    tau: Floats
    b: Floats
    k: Floats
    nominal: Floats
    window: Floats
    phase: complex

    @property
    def middle(self) -> int:
        return len(self.time) // 2


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
    rate = 2 * np.pi * max_b0_hz + max_decay_per_s
    step = _ATTENUATION_STEP / max_diffusivity_m2_per_s
    sorter = _Sorter(rate, tolerance, step, table.fov_m)
    rows, columns = [], []
    for heard in _walk(table, plan, nyquist_per_m):
        rows.append(sorter.sort(heard))
        columns.append(_columns(heard))
    if not rows:
        msg = "a chain must be heard in at least one readout, got silence; lower its thresholds"
        raise SimulationError(msg)
    keys = np.concatenate(rows)
    order = np.lexsort(keys.T[::-1])
    image, profile, trace, _ = keys[order].T
    emission, readout, phase, b_centre, ky, nominal_ky = (
        np.concatenate(column)[order] for column in zip(*columns, strict=True)
    )
    return Hearings(
        emission=emission,
        readout=readout,
        image=image,
        profile=profile,
        trace=trace,
        phase=phase,
        b_centre_s_per_m2=b_centre,
        ky_per_m=ky,
        nominal_ky_per_m=nominal_ky,
        profiles=tuple(sorter.profiles),
        traces=tuple(sorter.traces),
    )


def _columns(heard: _Heard) -> tuple[NDArray[Any], ...]:
    count, middle = len(heard.emission), heard.middle
    return (
        heard.emission,
        np.full(count, heard.readout),
        np.full(count, heard.phase),
        heard.b[:, middle],
        heard.k[:, middle, 1],
        np.full(count, heard.nominal[middle, 1]),
    )


class _Sorter:
    """Numbers equal profiles and traces as they come."""

    def __init__(self, rate: float, tolerance: float, step: float, fov_m: float) -> None:
        self._rate, self._tolerance, self._step, self._fov_m = rate, tolerance, step, fov_m
        self._profile_numbers: dict[bytes, int] = {}
        self._trace_numbers: dict[bytes, int] = {}
        self.profiles: list[Profile] = []
        self.traces: list[Trace] = []

    def sort(self, heard: _Heard) -> Ints:
        """Return image, profile, trace and offset along y of every state, ``(state, 4)``."""
        profile_keys = self._profile_keys(heard)
        trace_keys = self._trace_keys(heard)
        offset = np.round((heard.k[:, 0, 1] - heard.nominal[0, 1]) * self._fov_m * 1e4)
        rows = np.empty((len(heard.emission), 4), dtype=np.int64)
        rows[:, 0] = heard.image
        rows[:, 3] = offset
        for state in range(len(rows)):
            rows[state, 1] = self._profile_number(profile_keys[state].tobytes(), heard, state)
            rows[state, 2] = self._trace_number(trace_keys[state].tobytes(), heard, state)
        return rows

    def _profile_keys(self, heard: _Heard) -> Ints:
        change = heard.b[:, [0, -1]] - heard.b[:, [heard.middle]]
        time = np.array([heard.time[0], heard.time[-1] - heard.time[0]]) * 1e9
        shared = np.append(np.round(time), len(heard.time)).astype(np.int64)
        own = np.column_stack([np.round(heard.tau * 1e9), np.round(change / self._step)])
        return np.column_stack([np.broadcast_to(shared, (len(own), 3)), own.astype(np.int64)])

    def _trace_keys(self, heard: _Heard) -> Ints:
        position = np.round(heard.k[:, [0, -1], 0] * self._fov_m * 1e6)
        nominal = np.round(heard.nominal[[0, -1], 0] * self._fov_m * 1e6)
        window = np.round(heard.window * 1e6)
        shared = np.broadcast_to(nominal, (len(position), 2))
        return np.column_stack([position, shared, window]).astype(np.int64)

    def _profile_number(self, key: bytes, heard: _Heard, state: int) -> int:
        number = self._profile_numbers.setdefault(key, len(self.profiles))
        if number == len(self.profiles):
            self.profiles.append(_profile(heard, state, self._rate, self._tolerance))
        return number

    def _trace_number(self, key: bytes, heard: _Heard, state: int) -> int:
        number = self._trace_numbers.setdefault(key, len(self.traces))
        if number == len(self.traces):
            kx = heard.k[state, :, 0]
            self.traces.append(Trace(kx, heard.nominal[:, 0], heard.window[state]))
        return number


def _profile(heard: _Heard, state: int, rate: float, tolerance: float) -> Profile:
    time = heard.time
    tau = float(heard.tau[state])
    dwell = float(time[-1] - time[0]) / max(1, len(time) - 1)
    if np.abs(np.diff(time) - dwell).max(initial=0.0) > 0.01 * dwell:
        msg = (
            "the samples of a readout must be evenly spaced, got gaps between "
            f"{np.diff(time).min():.3g} and {np.diff(time).max():.3g} s; split the readout"
        )
        raise SimulationError(msg)
    nodes = node_set(float(time[0]), dwell, len(time), -tau, rate, tolerance)
    b = heard.b[state]
    change = np.interp(nodes.time_s, time, b) - b[heard.middle]
    return Profile(nodes=nodes, tau_s=tau, attenuation_s_per_m2=change)


def _walk(table: EventTable, plan: Plan, nyquist: Floats) -> Iterator[_Heard]:
    emission = 0
    readout = 0
    for rep, states in zip(table.repetitions, plan.repetitions, strict=True):
        sampled = np.flatnonzero(rep.adc)
        while sampled.size:
            samples = table.readouts[readout].samples
            if len(states.heard):
                yield from _hear(table, rep, states, emission, readout, sampled[:samples], nyquist)
            sampled = sampled[samples:]
            readout += 1
        emission += len(states.heard)


def _hear(
    table: EventTable,
    rep: Repetition,
    states: RepetitionPlan,
    emission: int,
    readout: int,
    events: Ints,
    nyquist: Floats,
) -> Iterator[_Heard]:
    """Yield the states of a repetition that some sample of a readout hears."""
    phase = rep.adc_phase_rad[events]
    if np.ptp(phase) > 1e-6:
        msg = (
            "the ADC phase must be constant during a readout, got a change of "
            f"{np.ptp(phase):.3g} rad; split the readout"
        )
        raise SimulationError(msg)
    chosen = states.n_longitudinal + states.heard
    k = states.k_per_m[chosen][:, None] + rep.k_per_m[events]
    excess = np.clip((np.abs(k) - nyquist - 0.5) * 100, -60, 60)
    window = np.prod(1 / (1 + np.exp(excess)), axis=2)
    window[window < 1e-9] = 0.0
    audible = window.any(axis=1)
    if not audible.any():
        return
    yield _Heard(
        emission=emission + np.flatnonzero(audible),
        readout=readout,
        image=table.readouts[readout].image,
        time=rep.time_s[events],
        tau=states.tau_s[chosen][audible],
        b=attenuation_s_per_m2(states.k_per_m[chosen][audible], rep, events),
        k=k[audible],
        nominal=nominal_k_per_m(table, readout),
        window=window[audible],
        phase=complex(np.sqrt(2) * np.exp(1j * phase[0])),
    )
