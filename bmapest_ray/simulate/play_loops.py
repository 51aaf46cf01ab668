"""The pulses of a plan as compiled loops, on a CPU: a stretch of points at a time.

The states of 64 points fit into the second-level cache, so a repetition costs a few operations per
state and point; torch would write every intermediate ``(state, point)`` array to memory. Arrays are
real: planes ``[value, slope, ...]`` hold the magnetisation and its slopes to T1, T2, D and B1.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]
WIDTH = 64
"""Points of a stretch; arguments are padded to a multiple of it."""
UNUSED = -1.0
"""Stands for the b of a state that is heard but feeds no other: it need not relax."""
_SMALL, _REACH = 0.02, 1.0
"""``exp(-x)`` is six terms of its series below the first, 13 below the second: exact to 1e-11."""

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})


@_compiled
def _pulse_rows(angle: float, b1: Array, rows: Array) -> None:
    """Fill ``cos, sin, cos^2(half), sin^2(half)`` of the angles and their slopes to B1."""
    for v in range(WIDTH):
        turned = angle * b1[v]
        cosine, sine = math.cos(turned), math.sin(turned)
        rows[0, 0, v], rows[0, 1, v] = cosine, sine
        rows[0, 2, v], rows[0, 3, v] = 0.5 * (1 + cosine), 0.5 * (1 - cosine)
        rows[1, 0, v], rows[1, 1, v] = -angle * sine, angle * cosine
        rows[1, 2, v], rows[1, 3, v] = -0.5 * angle * sine, 0.5 * angle * sine


@_compiled
def _relax_rows(duration: float, t1: Array, t2: Array, rows: Array) -> None:
    """Fill ``E1, 1 - E1, E2, T/T1^2, T/T2^2``."""
    for v in range(WIDTH):
        x1, x2 = duration / t1[v], duration / t2[v]
        rows[0, v], rows[1, v], rows[2, v] = math.exp(-x1), -math.expm1(-x1), math.exp(-x2)
        rows[3, v], rows[4, v] = x1 / t1[v], x2 / t2[v]


@_compiled
def _factor_rows(cosine: float, sine: float, rows: Array, factors: Array) -> None:
    """Fill the factors of a pulse from its rows (or from their slopes).

    ``z_to_z, |to_plus| cos, |to_plus| sin, plus_to_plus, conj_to_plus re, im``: with
    ``to_plus = -i sqrt(1/2) sin(angle) exp(i phase)``.
    """
    twice_cosine, twice_sine = cosine * cosine - sine * sine, 2 * cosine * sine
    root = math.sqrt(0.5)
    for v in range(WIDTH):
        factors[0, v] = rows[0, v]
        factors[1, v] = root * sine * rows[1, v]
        factors[2, v] = -root * cosine * rows[1, v]
        factors[3, v] = rows[2, v]
        factors[4, v] = rows[3, v] * twice_cosine
        factors[5, v] = rows[3, v] * twice_sine


@_compiled
def _gather_z(f: Array, z: Array, p: Array, c: Array, to: Array) -> None:
    """Add what feeds a longitudinal state: ``z``, a transversal ``p`` and a conjugate ``c``."""
    for v in range(WIDTH):
        both, other = p[0, v] + c[0, v], p[1, v] - c[1, v]
        to[0, v] += f[0, v] * z[0, v] - f[1, v] * both - f[2, v] * (p[1, v] + c[1, v])
        to[1, v] += f[0, v] * z[1, v] - f[1, v] * other + f[2, v] * (p[0, v] - c[0, v])


@_compiled
def _keep(f: Array, z: Array, to: Array) -> None:
    """Add what stays longitudinal."""
    for v in range(WIDTH):
        to[0, v] += f[0, v] * z[0, v]
        to[1, v] += f[0, v] * z[1, v]


@_compiled
def _tip(f: Array, z: Array, to: Array) -> None:
    """Add what tips from a longitudinal into a transversal state."""
    for v in range(WIDTH):
        to[0, v] += f[1, v] * z[0, v] - f[2, v] * z[1, v]
        to[1, v] += f[1, v] * z[1, v] + f[2, v] * z[0, v]


@_compiled
def _gather_plus(f: Array, z: Array, p: Array, c: Array, to: Array) -> None:
    """Add what feeds a transversal state."""
    for v in range(WIDTH):
        to[0, v] += (
            f[1, v] * z[0, v] - f[2, v] * z[1, v] + f[3, v] * p[0, v]
            + f[4, v] * c[0, v] + f[5, v] * c[1, v]
        )  # fmt: skip
        to[1, v] += (
            f[1, v] * z[1, v] + f[2, v] * z[0, v] + f[3, v] * p[1, v]
            + f[5, v] * c[0, v] - f[4, v] * c[1, v]
        )  # fmt: skip


@_compiled
def _short_series(attenuation: float, diffusivity: Array, series: Array, fading: Array) -> None:
    for v in range(WIDTH):
        x = attenuation * diffusivity[v]
        value = series[5]
        for term in range(4, -1, -1):
            value = series[term] + x * value
        fading[v] = value


@_compiled
def _long_series(attenuation: float, diffusivity: Array, series: Array, fading: Array) -> None:
    for v in range(WIDTH):
        x = attenuation * diffusivity[v]
        value = series[12]
        for term in range(11, -1, -1):
            value = series[term] + x * value
        fading[v] = value


@_compiled
def _fade(
    attenuation: float,
    diffusivity: Array,
    largest: float,
    series: Array,
    relaxed: Array,
    fading: Array,
) -> None:
    """Fill ``exp(-b D) E``: series of ``exp(-x / 2^n)`` with ``x / 2^n < 1``, squared n times."""
    halvings = 0
    half = series[2]  # a literal would turn single into double precision
    while attenuation * largest > _REACH:
        attenuation = attenuation * half
        halvings += 1
    if attenuation * largest < _SMALL:
        _short_series(attenuation, diffusivity, series, fading)
    else:
        _long_series(attenuation, diffusivity, series, fading)
    for _ in range(halvings):
        for v in range(WIDTH):
            fading[v] *= fading[v]
    for v in range(WIDTH):
        fading[v] *= relaxed[v]


@_compiled
def _relax_state(
    state: Array, fading: Array, attenuation: float, rate: Array, decaying: int
) -> None:
    """Relax all planes of one state; ``decaying`` is the plane of its own relaxation time."""
    for plane in range(len(state)):
        for v in range(WIDTH):
            state[plane, 0, v] *= fading[v]
            state[plane, 1, v] *= fading[v]
    if len(state) > 1:
        for part in range(2):
            for v in range(WIDTH):
                state[decaying, part, v] += rate[v] * state[0, part, v]
                state[3, part, v] -= attenuation * state[0, part, v]


@_compiled
def _feed(
    f: Array, longitudinal: bool, alone: bool, z: Array, p: Array, c: Array, to: Array
) -> None:
    """Add three sources to a target; ``alone`` says that z is the only one."""
    if longitudinal:
        if alone:
            _keep(f, z, to)
        else:
            _gather_z(f, z, p, c, to)
    elif alone:
        _tip(f, z, to)
    else:
        _gather_plus(f, z, p, c, to)


@_compiled
def _pulse(gathers: Array, n_z: int, factors: Array, before: Array, after: Array) -> None:
    """Apply a pulse: each entry adds up to three sources to one target, on every plane."""
    planes, empty = before.shape[1], len(before) - 1
    for place in range(len(gathers)):
        target, z, p, c = gathers[place]
        longitudinal, alone = target < n_z, p == empty and c == empty
        for plane in range(planes):
            _feed(
                factors[0], longitudinal, alone, before[z, plane], before[p, plane],
                before[c, plane], after[target, plane],
            )  # fmt: skip
        if planes > 4:
            _feed(
                factors[1], longitudinal, alone, before[z, 0], before[p, 0], before[c, 0],
                after[target, 4],
            )  # fmt: skip


@_compiled
def _emit(heard: Array, states: Array, out: Array, start: int) -> None:
    """Write the heard states of all planes."""
    for place in range(len(heard)):
        for plane in range(len(out)):
            source = states[heard[place], plane]
            for v in range(WIDTH):
                out[plane, place, start + v] = complex(source[0, v], source[1, v])


@_compiled
def _relax(
    attenuation: Array,
    n_z: int,
    diffusivity: Array,
    series: Array,
    relaxed: Array,
    fading: Array,
    states: Array,
) -> None:
    """Relax all states; the equilibrium state regrows."""
    largest = diffusivity.max()
    for place in range(len(attenuation)):
        if attenuation[place] == UNUSED:
            continue
        own = 0 if place < n_z else 1
        _fade(attenuation[place], diffusivity, largest, series, relaxed[2 * own], fading)
        _relax_state(states[place], fading, attenuation[place], relaxed[3 + own], 1 + own)
    for v in range(WIDTH):
        states[0, 0, 0, v] += relaxed[1, v]
        if states.shape[1] > 1:
            states[0, 1, 0, v] -= relaxed[0, v] * relaxed[3, v]


@_compiled
def play(
    pulses: Array,
    counts: Array,
    gathers: Array,
    attenuation: Array,
    heard: Array,
    points: Array,
    out: Array,
) -> None:
    """Play a plan.

    Parameters
    ----------
    pulses
        ``angle, phase, duration`` per repetition, ``(repetition, 3)``.
    counts
        ``z states, states, gathers, heard`` per repetition, ``(repetition, 4)``.
    gathers
        ``target, z source, + source, conjugated + source``, ``(gather, 4)``: indices among all
        states; a missing source is one past the largest number of states, which stays empty.
    attenuation
        b in s/m^2, ``(state,)`` over all repetitions.
    heard
        Index among all states of their repetition, ``(emission,)``.
    points
        ``T1, T2, D, B1``, ``(4, point)``; a multiple of `WIDTH` of them.
    out
        Value, and slopes to T1, T2, D and, if there are five planes, B1:
        ``(plane, emission, point)``, complex.
    """
    planes, most = len(out), counts[:, 1].max()
    before = np.zeros((most + 1, planes, 2, WIDTH), dtype=points.dtype)
    after = np.zeros((most + 1, planes, 2, WIDTH), dtype=points.dtype)
    rows = np.empty((2, 4, WIDTH), dtype=points.dtype)
    factors = np.empty((2, 6, WIDTH), dtype=points.dtype)
    relaxed = np.empty((5, WIDTH), dtype=points.dtype)
    fading = np.empty(WIDTH, dtype=points.dtype)
    series = np.ones(13, dtype=points.dtype)
    for term in range(1, 13):
        series[term] = -series[term - 1] / term
    for start in range(0, points.shape[1], WIDTH):
        t1, t2, diffusivity, b1 = points[:, start : start + WIDTH]
        before[0] = 0
        before[0, 0, 0] = 1
        gather, state, emission = 0, 0, 0
        angle, duration = np.nan, np.nan
        for number in range(len(pulses)):
            n_z, n_states, n_gathers, n_heard = counts[number]
            if pulses[number, 0] != angle:
                angle = pulses[number, 0]
                _pulse_rows(angle, b1, rows)
            cosine, sine = math.cos(pulses[number, 1]), math.sin(pulses[number, 1])
            _factor_rows(cosine, sine, rows[0], factors[0])
            _factor_rows(cosine, sine, rows[1], factors[1])
            after[:n_states] = 0
            _pulse(gathers[gather : gather + n_gathers], n_z, factors, before, after)
            _emit(heard[emission : emission + n_heard], after, out[:, emission:], start)
            if pulses[number, 2] != duration:
                duration = pulses[number, 2]
                _relax_rows(duration, t1, t2, relaxed)
            faded = attenuation[state : state + n_states]
            _relax(faded, n_z, diffusivity, series, relaxed, fading, after)
            before, after = after, before
            gather, state, emission = gather + n_gathers, state + n_states, emission + n_heard
