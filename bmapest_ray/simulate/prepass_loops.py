"""The loops over states and probes of the search for a graph, compiled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]

_compiled = numba.njit(cache=True, nogil=True)


@_compiled
def _slot_of(key: int, table: Array, known: Array) -> int:
    """Return where a key is in a hash table of numbers, or the free place where it belongs."""
    last = len(table) - 1
    slot = (key ^ (key >> 29)) & last
    while table[slot] >= 0 and known[table[slot]] != key:
        slot = (slot + 1) & last
    return slot


@_compiled
def _largest(values: Array) -> float:
    """Return the largest magnitude of complex ``(probe,)``."""
    largest = 0.0
    for value in values:
        largest = max(largest, value.real**2 + value.imag**2)
    root: float = np.sqrt(largest)
    return root


@_compiled
def _is_audible(k: Array, during: Array, limit: Array) -> bool:
    """Say whether a state that starts at ``k`` comes within the limit at some sample."""
    for sample in range(len(during)):
        if (
            abs(k[0] + during[sample, 0]) <= limit[0]
            and abs(k[1] + during[sample, 1]) <= limit[1]
            and abs(k[2] + during[sample, 2]) <= limit[2]
        ):
            return True
    return False


@_compiled
def _least_decay(k: Array, tau: float, time: Array, attenuation: Array, rates: Array) -> float:
    """Return the smallest exponent of the decay at the samples that are looked at, see `emit`."""
    squared = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    least = np.inf
    for look in range(len(time)):
        a = attenuation[look]
        b = a[0] * squared + a[1] * k[0] + a[2] * k[1] + a[3] * k[2] + a[4]
        decay = time[look] * rates[0] + abs(tau + time[look]) * rates[1] + b * rates[2]
        least = min(least, decay)
    return least


@_compiled
def mix(
    keys: Array,
    values: Array,
    n_z: int,
    factor: Array,
    inverse: Array,
    first: Array,
    merged: Array,
    strength: Array,
) -> int:
    """Let a pulse turn states into one another and sum what arrives at one dephasing.

    ``z`` states arrive first, then ``+`` states, then the conjugates of these, whose key is minus
    theirs. Dephasings are numbered as they come, by one pass over a hash table; returns how many
    there are.

    Parameters
    ----------
    keys
        Dephasing of each state, ``z`` states first, well spread over all bits. Shape ``(state,)``.
    values
        Magnetisation before the pulse, complex. Shape ``(state, probe)``.
    n_z
        Number of ``z`` states.
    factor
        Of the pulse, complex: to ``z`` and ``+``, from ``z``, ``+`` and conjugate ``+``.
        Shape ``(2, 3, probe)``.
    inverse, first
        Filled with the number of each arrival and the arrival that had a number first.
        Shape ``(arrival,)``.
    merged, strength
        Filled with magnetisation and its largest magnitude. Shapes ``(2, arrival, probe)``,
        ``(2, arrival)``; as much of them as there are numbers.
    """
    states, probes = values.shape
    n_plus = states - n_z
    arrivals = states + n_plus
    size = 16
    while size < 2 * arrivals:
        size *= 2
    table = np.full(size, -1, dtype=np.int64)
    known = np.empty(arrivals, dtype=np.int64)
    count = 0
    for place in range(arrivals):
        source = place if place < states else place - n_plus
        key = keys[source] if place < states else -keys[source]
        slot = _slot_of(key, table, known)
        if table[slot] < 0:
            table[slot] = count
            known[count] = key
            first[count] = place
            merged[:, count] = 0.0
            count += 1
        number = table[slot]
        inverse[place] = number
        kind = 0 if place < n_z else 1 if place < states else 2
        for probe in range(probes):
            value = values[source, probe]
            if kind == 2:
                value = value.conjugate()
            merged[0, number, probe] += factor[0, kind, probe] * value
            merged[1, number, probe] += factor[1, kind, probe] * value
    for target in range(2):
        for number in range(count):
            strength[target, number] = _largest(merged[target, number])
    return count


@_compiled
def fade(
    attenuation: Array, diffusivity: Array, z_left: Array, plus_left: Array, n_z: int, out: Array
) -> None:
    """Fill in what is left of each state after a repetition, ``(state, probe)``.

    Parameters
    ----------
    attenuation
        b of each state, shape ``(state,)``.
    diffusivity
        Shape ``(probe,)``; equal neighbours share an exponential.
    z_left, plus_left
        What T1 and T2 leave, shape ``(probe,)``.
    n_z
        Number of ``z`` states, which come first.
    """
    for state in range(len(attenuation)):
        left = z_left if state < n_z else plus_left
        diffused = 1.0
        for probe in range(len(diffusivity)):
            if probe == 0 or diffusivity[probe] != diffusivity[probe - 1]:
                diffused = np.exp(-diffusivity[probe] * attenuation[state])
            out[state, probe] = diffused * left[probe]


@_compiled
def emit(
    k_start: Array,
    tau: Array,
    values: Array,
    during: Array,
    limit: Array,
    floor: float,
    time: Array,
    attenuation: Array,
    rates: Array,
    out: Array,
) -> None:
    """Fill in the largest signal of each ``+`` state that some sample hears, ``(state, probe)``.

    Parameters
    ----------
    k_start, tau, values
        Where states start, their precession time, their magnetisation.
        Shapes ``(state, 3)``, ``(state,)``, complex ``(state, probe)``.
    during
        What the samples add to k, shape ``(sample, 3)``.
    limit
        Beyond which nothing is heard, shape ``(3,)``.
    floor
        Magnetisation below which a state is not heard.
    time
        Of the samples at which the decay is looked at, shape ``(look,)``.
    attenuation
        There, ``b = a0 |k|^2 + a1 k_x + a2 k_y + a3 k_z + a4``. Shape ``(look, 5)``.
    rates
        1 / T2, 1 / T2' and D, shape ``(3, probe)``; equal neighbours share an exponential.
    """
    for state in range(len(k_start)):
        k = k_start[state]
        if _largest(values[state]) < floor or not _is_audible(k, during, limit):
            continue
        left = 0.0
        for probe in range(len(values[state])):
            if probe == 0 or (rates[:, probe] != rates[:, probe - 1]).any():
                least = _least_decay(k, tau[state], time, attenuation, rates[:, probe])
                left = np.sqrt(2.0) * np.exp(-least)
            out[state, probe] = left * abs(values[state, probe])


@_compiled
def add_passed_on(child: Array, factor: Array, gain: Array, squares: Array) -> None:
    """Add ``(|factor| gain)^2`` of the state that each state becomes.

    Parameters
    ----------
    child
        What a state becomes, -1 where nothing; shape ``(state,)``.
    factor
        Of the pulse, complex, shape ``(probe,)``.
    gain
        Signal per magnetisation of the states after the pulse, shape ``(child, probe)``.
    squares
        Added to, shape ``(state, probe)``.
    """
    for state in range(len(child)):
        if child[state] >= 0:
            for probe in range(len(factor)):
                passed = abs(factor[probe]) * gain[child[state], probe]
                squares[state, probe] += passed * passed


@_compiled
def hear_through(
    emission: Array, values: Array, relaxation: Array, floor: float, gain: Array, latent: Array
) -> None:
    """Turn what the pulse after a repetition passes on into what is heard through its states.

    Parameters
    ----------
    emission, values, relaxation
        Of the states in the repetition, shape ``(state, probe)``; ``values`` complex.
    floor
        Emissions below it do not count.
    gain
        Sum of the squares that were passed on; becomes the signal per magnetisation.
        Shape ``(state, probe)``.
    latent
        Filled with the largest signal through a state, shape ``(state,)``.
    """
    for state in range(len(gain)):
        latent[state] = 0.0
        for probe in range(gain.shape[1]):
            size = max(abs(values[state, probe]), 1e-300)
            own = emission[state, probe] / size if emission[state, probe] >= floor else 0.0
            passed = gain[state, probe] * relaxation[state, probe] ** 2
            gain[state, probe] = np.sqrt(own * own + passed)
            latent[state] = max(latent[state], gain[state, probe] * size)
