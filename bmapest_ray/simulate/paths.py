"""Where the samples of readouts off the grid lie, as the simulated events put them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.simulate.events import SNAP_TOLERANCE, Repetition

if TYPE_CHECKING:
    from bmapest_ray.sequence.build import AdcReadout

Positions = NDArray[np.float64]


def readout_paths(
    repetitions: Sequence[Repetition],
    readouts: Sequence[AdcReadout],
    played: Sequence[Positions],
    fov_m: float,
) -> tuple[Positions, ...]:
    """Return kx and ky of every sample of each readout, shape ``(sample, 2)`` in 1/m.

    Within a readout the path is that of the repetition's events, so that every state runs along it
    at a fixed distance; where it begins is what the sequence as `played` says, and exactly the
    path since the pulse where the two are one but for the digits of a file.
    """
    windows: list[Positions] = []
    for rep in repetitions:
        events = np.flatnonzero(rep.adc)
        while events.size:
            samples = readouts[len(windows)].samples
            own = rep.k_per_m[events[:samples], :2]
            shift = played[len(windows)].mean(axis=0) - own.mean(axis=0)
            shift[np.abs(shift) * fov_m < SNAP_TOLERANCE] = 0.0
            windows.append(own + shift)
            events = events[samples:]
    return tuple(windows)
