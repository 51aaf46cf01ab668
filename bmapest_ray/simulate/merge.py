"""Sum what arrives at equal dephasings: one pass over a hash table instead of sorting, compiled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]

_compiled = numba.njit(cache=True, nogil=True)


@_compiled
def number_equal(keys: Array, inverse: Array, first: Array) -> int:
    """Give equal keys one number, in the order they come, and return how many there are.

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
