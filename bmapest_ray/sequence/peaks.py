"""The strongest gradient and the fastest ramp of gradient events."""

from typing import Any

import numpy as np

from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T


def event_peaks(event: Any) -> tuple[float, float]:  # noqa: ANN401 - pypulseq has no types
    """Return peak gradient [Hz/m] and peak slew rate [Hz/m/s] of a gradient event."""
    if event.type == "trap":
        peak = abs(float(event.amplitude))
        return peak, peak / max(min(event.rise_time, event.fall_time), 1e-9) if peak else 0.0
    peak = float(np.abs(event.waveform).max())
    slew = float(np.abs(np.diff(event.waveform) / np.diff(event.tt)).max(initial=0.0))
    return peak, slew


def gradient_peaks(sequence: Any) -> tuple[float, float]:  # noqa: ANN401
    """Return peak gradient [T/m] and peak slew rate [T/m/s] of a `pypulseq.Sequence`."""
    seen: dict[tuple[int, ...], int] = {}
    for index, row in sequence.block_events.items():
        seen.setdefault(tuple(int(value) for value in row[2:5]), index)
    peaks = [(0.0, 0.0)]
    for index in seen.values():
        block = sequence.get_block(index)
        events = (getattr(block, name, None) for name in ("gx", "gy", "gz"))
        peaks += [event_peaks(event) for event in events if event is not None]
    gradient, slew = np.array(peaks).max(axis=0) / GYROMAGNETIC_RATIO_HZ_PER_T
    return float(gradient), float(slew)
