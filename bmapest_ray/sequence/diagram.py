"""The lines of a sequence diagram, as plain arrays for whoever draws them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T
from bmapest_ray.sequence.events import Axis, Block
from bmapest_ray.sequence.lobes import Lobe, Waveform
from bmapest_ray.sequence.score import Score

Track = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Diagram:
    """Corner points of a stretch of a score.

    Parameters
    ----------
    pulses
        Shape ``(pulse, 4)``: begin and end [s], flip angle [deg], phase [deg].
    windows
        Shape ``(window, 3)``: begin and end [s], ky line (-1 off the grid).
    gradients
        Per axis, shape ``(point, 2)``: time [s] and amplitude [T/m], straight lines between.
    """

    pulses: Track
    windows: Track
    gradients: dict[Axis, Track]


def diagram(score: Score, begin_s: float = 0.0, end_s: float = float("inf")) -> Diagram:
    """Return the blocks of a score that begin between two times."""
    raster_s = score.scanner.gradient_raster_s
    pulses: list[tuple[float, ...]] = []
    windows: list[tuple[float, ...]] = []
    corners: dict[Axis, list[tuple[float, float]]] = {axis: [] for axis in ("x", "y", "z")}
    readouts, time_s = iter(score.readouts), 0.0
    for block in score.blocks:
        line = next(readouts).line if block.adc is not None else -1
        if begin_s <= time_s < end_s:
            pulses += _pulse(block, time_s)
            windows += _window(block, time_s, line)
            for axis, shape in block.gradients:
                corners[axis] += _corners(shape, time_s, raster_s)
        time_s += block.steps * raster_s
    return Diagram(
        np.array(pulses).reshape(-1, 4),
        np.array(windows).reshape(-1, 3),
        {axis: np.array(points).reshape(-1, 2) for axis, points in corners.items()},
    )


def _pulse(block: Block, time_s: float) -> list[tuple[float, ...]]:
    if block.pulse is None:
        return []
    begin_s = time_s + block.pulse_delay_s
    pulse = block.pulse
    return [(begin_s, begin_s + pulse.duration_s, pulse.flip_angle_deg, pulse.phase_deg)]


def _window(block: Block, time_s: float, line: int) -> list[tuple[float, ...]]:
    if block.adc is None:
        return []
    begin_s = time_s + block.adc.delay_s
    return [(begin_s, begin_s + block.adc.samples * block.adc.dwell_s, float(line))]


def _corners(shape: Lobe | Waveform, begin_s: float, raster_s: float) -> list[tuple[float, float]]:
    if isinstance(shape, Lobe):
        height = shape.amplitude_hz_per_m / GYROMAGNETIC_RATIO_HZ_PER_T
        steps = np.cumsum([0, shape.ramp, shape.flat, shape.ramp])
        times = begin_s + steps * raster_s
        return list(zip(times.tolist(), [0.0, height, height, 0.0], strict=True))
    values = np.asarray(shape.amplitudes_hz_per_m) / GYROMAGNETIC_RATIO_HZ_PER_T
    middles = begin_s + (np.arange(shape.steps) + 0.5) * raster_s
    end_s = begin_s + shape.steps * raster_s
    return [(begin_s, 0.0), *zip(middles.tolist(), values.tolist(), strict=True), (end_s, 0.0)]
