"""The loops over states and probes of the search for a graph, compiled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]

_compiled = numba.njit(cache=True, nogil=True)


@_compiled
def number_equal(keys: Array, inverse: Array, first: Array) -> int:
    """Give equal keys one number, in the order they come, and return how many there are.

    One pass over a hash table instead of sorting.

    Parameters
    ----------
    keys
        Shape ``(arrival,)``, int64, well spread over all bits.
    inverse
        Filled with the number of every key. Shape ``(arrival,)``.
    first
        Filled with where each number came first. Shape ``(arrival,)``.
    """
    size = 16
    while size < 2 * len(keys):
        size *= 2
    table = np.full(size, -1, dtype=np.int64)
    count = 0
    for place in range(len(keys)):
        slot = (keys[place] ^ (keys[place] >> 29)) & (size - 1)
        while table[slot] >= 0 and keys[first[table[slot]]] != keys[place]:
            slot = (slot + 1) & (size - 1)
        if table[slot] < 0:
            table[slot] = count
            first[count] = place
            count += 1
        inverse[place] = table[slot]
    return count


@_compiled
def add_arrivals(values: Array, factor: Array, inverse: Array, total: Array) -> None:
    """Add ``factor * value`` of every arrival to its number; ``(arrival, probe)``, ``(probe,)``."""
    for place in range(len(values)):
        for probe in range(values.shape[1]):
            total[inverse[place], probe] += factor[probe] * values[place, probe]


@_compiled
def strongest(values: Array) -> Array:
    """Return the largest magnitude of every row of complex ``(state, probe)``; ``(state,)``."""
    found = np.zeros(len(values))
    for state in range(len(values)):
        largest = 0.0
        for value in values[state]:
            largest = max(largest, value.real**2 + value.imag**2)
        found[state] = np.sqrt(largest)
    return found


@_compiled
def audible(k_start: Array, during: Array, limit: Array) -> Array:
    """Say which states some sample hears.

    Parameters
    ----------
    k_start
        Where states start, shape ``(state, 3)``.
    during
        What a readout adds, shape ``(sample, 3)``.
    limit
        Beyond which nothing is heard, shape ``(3,)``.
    """
    found = np.zeros(len(k_start), dtype=np.bool_)
    for state in range(len(k_start)):
        for sample in range(len(during)):
            found[state] = (
                abs(k_start[state, 0] + during[sample, 0]) <= limit[0]
                and abs(k_start[state, 1] + during[sample, 1]) <= limit[1]
                and abs(k_start[state, 2] + during[sample, 2]) <= limit[2]
            )
            if found[state]:
                break
    return found


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
