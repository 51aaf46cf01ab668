"""From a score straight to the events of a chain, without writing and reading a ``.seq`` file.

A design is tried hundreds of times; this takes milliseconds where pypulseq and MR-zero's importer
take seconds. Its gradient events are the corners of the lobes, where the importer's are finer, so
``b`` differs by what a lobe's ramp bends; everything else is equal up to the six digits of a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.events import Adc, Block
from bmapest_ray.sequence.lobes import Lobe, Waveform
from bmapest_ray.sequence.score import Score
from bmapest_ray.simulate.events import EventTable, Repetition

_AXES = ("x", "y", "z")
_SAME_S = 1e-10


@dataclass(frozen=True)
class _Stretch:
    """The events of a block, cut where its pulse acts."""

    duration_s: NDArray[np.float64]
    moment_per_m: NDArray[np.float64]
    heard: NDArray[np.bool_]
    after_pulse: int
    """First event that follows the middle of the pulse."""


@dataclass
class _Open:
    """A repetition while its stretches come in."""

    angle_rad: float
    phase_rad: float
    duration_s: list[NDArray[np.float64]] = field(default_factory=list)
    moment_per_m: list[NDArray[np.float64]] = field(default_factory=list)
    adc: list[NDArray[np.bool_]] = field(default_factory=list)
    adc_phase_rad: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, stretch: _Stretch, part: slice, phase_rad: float) -> None:
        self.duration_s.append(stretch.duration_s[part])
        self.moment_per_m.append(stretch.moment_per_m[part])
        self.adc.append(stretch.heard[part])
        self.adc_phase_rad.append(np.where(stretch.heard[part], phase_rad, 0.0))

    def close(self) -> Repetition:
        return Repetition(
            angle_rad=self.angle_rad,
            phase_rad=self.phase_rad,
            duration_s=np.concatenate(self.duration_s),
            moment_per_m=np.concatenate(self.moment_per_m),
            adc=np.concatenate(self.adc),
            adc_phase_rad=np.concatenate(self.adc_phase_rad),
        )


def events_of(score: Score) -> EventTable:
    """Return the events of a score; a pulse acts at its middle.

    Raises
    ------
    InvalidInput
        If the score holds blocks read from a file, or no pulse.
    """
    raster_s = score.scanner.gradient_raster_s
    stretches = _Stretches(raster_s)
    done: list[_Open] = []
    for block in score.blocks:
        if block.raw is not None:
            msg = "a design needs sequences of this package, got a block read from a .seq file"
            raise InvalidInput(msg)
        stretch = stretches.of(block)
        phase = np.pi / 2 - np.deg2rad(block.adc.phase_deg) if block.adc is not None else 0.0
        if done:
            before = stretch.after_pulse if block.pulse is not None else None
            done[-1].add(stretch, slice(None, before), phase)
        if block.pulse is not None:
            angle, turn = np.deg2rad([block.pulse.flip_angle_deg, block.pulse.phase_deg])
            done.append(_Open(float(angle), float(turn)))
            done[-1].add(stretch, slice(stretch.after_pulse, None), phase)
    if not done:
        msg = "a chain must play at least one pulse, got none; add an excitation"
        raise InvalidInput(msg)
    return EventTable(
        repetitions=tuple(part.close() for part in done),
        images=tuple(score.images),
        readouts=tuple(score.readouts),
        matrix=score.matrix,
        fov_m=score.fov_m,
    ).snapped()


class _Stretches:
    """Makes the events of equal blocks once, whatever their receiver phase."""

    def __init__(self, raster_s: float) -> None:
        self._raster_s = raster_s
        self._by_identity: dict[int, _Stretch] = {}
        self._by_shape: dict[Block, _Stretch] = {}

    def of(self, block: Block) -> _Stretch:
        known = self._by_identity.get(id(block))
        if known is None:
            shape = _without_phase(block)
            known = self._by_shape.get(shape)
            if known is None:
                known = self._by_shape.setdefault(shape, _stretch(block, self._raster_s))
            self._by_identity[id(block)] = known
        return known


def _without_phase(block: Block) -> Block:
    if block.adc is None:
        return block
    return replace(block, adc=replace(block.adc, phase_deg=0.0))


def _stretch(block: Block, raster_s: float) -> _Stretch:
    samples = _sample_times(block.adc)
    middle = block.centre_s if block.pulse is not None else 0.0
    length = block.steps * raster_s
    corners = [_corners(shape, raster_s) for _, shape in block.gradients]
    cuts = np.concatenate([[0.0, length, middle], samples, *corners])
    ticks = np.unique(np.round(cuts / _SAME_S).astype(np.int64))
    times: NDArray[np.float64] = ticks.astype(np.float64) * _SAME_S
    moments = np.zeros((len(times), 3))
    for axis, shape in block.gradients:
        moments[:, _AXES.index(axis)] = _moment_until(shape, raster_s, times)
    return _Stretch(
        duration_s=np.diff(times),
        moment_per_m=np.diff(moments, axis=0),
        heard=np.isin(ticks[1:], np.round(samples / _SAME_S).astype(np.int64)),
        after_pulse=int(np.searchsorted(ticks, round(middle / _SAME_S))),
    )


def _sample_times(adc: Adc | None) -> NDArray[np.float64]:
    if adc is None:
        return np.zeros(0)
    middles = np.arange(adc.samples, dtype=np.float64) + 0.5
    times: NDArray[np.float64] = middles * adc.dwell_s + adc.delay_s
    return times


def _corners(shape: Lobe | Waveform, raster_s: float) -> NDArray[np.float64]:
    if isinstance(shape, Waveform):
        steps = np.arange(shape.steps + 1, dtype=np.float64)
    else:
        steps = np.array([0.0, shape.ramp, shape.ramp + shape.flat, shape.steps])
    corners: NDArray[np.float64] = steps * raster_s
    return corners


def _moment_until(
    shape: Lobe | Waveform, raster_s: float, time_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area of a gradient up to some times [1/m]."""
    corners = _corners(shape, raster_s)
    if isinstance(shape, Waveform):
        areas = np.concatenate([[0.0], np.cumsum(shape.amplitudes_hz_per_m)]) * raster_s
        moment: NDArray[np.float64] = np.interp(time_s, corners, areas)
        return moment
    ramp = shape.ramp * raster_s
    up = np.clip(time_s, 0.0, ramp)
    flat = np.clip(time_s - ramp, 0.0, shape.flat * raster_s)
    left = np.clip(corners[3] - time_s, 0.0, ramp)
    area: NDArray[np.float64] = shape.amplitude_hz_per_m * (
        up**2 / (2 * ramp) + flat + (ramp**2 - left**2) / (2 * ramp)
    )
    return area
