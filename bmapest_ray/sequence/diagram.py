"""The lines of a sequence diagram, as plain arrays for whoever draws them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T
from bmapest_ray.sequence.events import Axis, Block, PulseUse
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
    uses
        What each pulse is for.
    images
        Index of the image that each window belongs to.
    """

    pulses: Track
    windows: Track
    gradients: dict[Axis, Track]
    uses: tuple[PulseUse, ...]
    images: tuple[int, ...]


def diagram(score: Score, begin_s: float = 0.0, end_s: float = float("inf")) -> Diagram:
    """Return the blocks of a score that begin between two times."""
    raster_s = score.scanner.gradient_raster_s
    pulses: list[tuple[float, ...]] = []
    windows: list[tuple[float, ...]] = []
    corners: dict[Axis, list[tuple[float, float]]] = {axis: [] for axis in ("x", "y", "z")}
    uses: list[PulseUse] = []
    images: list[int] = []
    readouts, time_s = iter(score.readouts), 0.0
    for block in score.blocks:
        readout = next(readouts) if block.adc is not None else None
        if begin_s <= time_s < end_s:
            pulses += _pulse(block, time_s)
            uses += [block.pulse.use] if block.pulse is not None else []
            if readout is not None:
                windows += _window(block, time_s, readout.line)
                images.append(readout.image)
            for axis, points in _gradients(block, time_s, raster_s):
                corners[axis] += points
        time_s += block.steps * raster_s
    return Diagram(
        np.array(pulses).reshape(-1, 4),
        np.array(windows).reshape(-1, 3),
        {axis: np.array(points).reshape(-1, 2) for axis, points in corners.items()},
        tuple(uses),
        tuple(images),
    )


def central_repetition_s(score: Score) -> tuple[float, float]:
    """Return begin and end of the repetition that reads the centre of k-space of the last image.

    It lasts from the excitation to the last event before the next one.
    """
    wanted = len(score.images) - 1
    mine = [r for r in score.readouts if r.image == wanted]
    central_s = min(mine, key=lambda r: abs(r.line - score.matrix // 2)).centre_s
    begins, time_s, raster_s = [], 0.0, score.scanner.gradient_raster_s
    for block in score.blocks:
        if block.pulse is not None and block.pulse.use == "excitation":
            begins.append(time_s)
        time_s += block.steps * raster_s
    begin_s = max((b for b in begins if b < central_s), default=0.0)
    after_s = min((b for b in begins if b > central_s), default=time_s)
    return begin_s, _last_event_s(score, after_s)


def _last_event_s(score: Score, before_s: float) -> float:
    """Return the end of the last block before a time that plays anything."""
    end_s = time_s = 0.0
    for block in score.blocks:
        if time_s >= before_s - 1e-9:
            break
        time_s += block.steps * score.scanner.gradient_raster_s
        silent = block.pulse is None and block.adc is None and not block.gradients
        if not silent or (block.raw is not None and block.raw.events):
            end_s = time_s
    return end_s


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


def _gradients(
    block: Block, time_s: float, raster_s: float
) -> Iterator[tuple[Axis, list[tuple[float, float]]]]:
    for axis, shape in block.gradients:
        yield axis, _corners(shape, time_s, raster_s)
    for event in block.raw.events if block.raw is not None else ():
        if event.type in ("trap", "grad"):
            yield event.channel, _raw_corners(event, time_s)


def _raw_corners(event: Any, begin_s: float) -> list[tuple[float, float]]:  # noqa: ANN401
    """Return the corners of a gradient event of pypulseq."""
    if event.type == "trap":
        times = np.cumsum([0.0, event.rise_time, event.flat_time, event.fall_time])
        heights = np.array([0.0, event.amplitude, event.amplitude, 0.0])
    else:
        times, heights = np.asarray(event.tt), np.asarray(event.waveform)
    seconds = begin_s + event.delay + times
    return list(
        zip(seconds.tolist(), (heights / GYROMAGNETIC_RATIO_HZ_PER_T).tolist(), strict=True)
    )


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
