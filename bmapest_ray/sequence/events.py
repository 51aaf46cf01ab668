"""What one block of a sequence holds: an RF pulse, gradient lobes, a receive window, a duration.

Plain data without pypulseq: blocks are written into a score (`score.py`), from which times and RF
energy follow, and which `render.py` turns into a Pulseq sequence.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T, deg_to_rad
from bmapest_ray.sequence.lobes import Lobe, Waveform
from bmapest_ray.sequence.scanner import RF_RASTER_S

Axis = Literal["x", "y", "z"]
PulseUse = Literal["excitation", "refocusing", "inversion", "saturation", "preparation"]
PulseShape = Literal["block", "sinc"]


@dataclass(frozen=True)
class Pulse:
    """An RF pulse: nominal flip angle, phase, duration, shape and what it is for.

    A sinc has time-bandwidth product 4 and apodisation 0.5 (the paper's). `use` tells a k-space
    calculation whether the pulse restarts (excitation) or mirrors (refocusing) the trajectory.
    """

    flip_angle_deg: float
    phase_deg: float
    duration_s: float
    shape: PulseShape
    use: PulseUse

    @property
    def energy_t2_s(self) -> float:
        """Integral of |B1|^2 over the pulse [T^2 s]."""
        power = _unit_energy(self.shape, round(self.duration_s / RF_RASTER_S))
        flip_turns = deg_to_rad(self.flip_angle_deg) / (2 * math.pi)
        return power * (flip_turns / GYROMAGNETIC_RATIO_HZ_PER_T) ** 2 / self.duration_s


TIME_BANDWIDTH = 4.0
APODISATION = 0.5


@lru_cache(maxsize=64)
def _unit_energy(shape: PulseShape, samples: int) -> float:
    """Mean square over squared mean of a pulse shape (1 for a block pulse)."""
    if shape == "block":
        return 1.0
    time = (np.arange(samples) + 0.5) / samples - 0.5
    window = 1 - APODISATION + APODISATION * np.cos(2 * np.pi * time)
    wave = window * np.sinc(TIME_BANDWIDTH * time)
    return float(np.mean(wave**2) / np.mean(wave) ** 2)


@dataclass(frozen=True)
class Adc:
    """A receive window of `samples` of `dwell_s`, `delay_s` after its block begins."""

    samples: int
    dwell_s: float
    delay_s: float
    phase_deg: float


@dataclass(frozen=True, eq=False)
class RawEvents:
    """Events of a block read from a file, as pypulseq gives them; equal only to itself."""

    events: tuple[Any, ...]
    pulse_energy_t2_s: float = 0.0


@dataclass(frozen=True)
class Block:
    """Events that begin together; the next block begins `steps` raster steps later.

    `gradients` pairs an axis with its lobe or waveform, which begins with the block.
    `centre_s` is the middle of the pulse or of the receive window, from the block's begin.
    A block read from a file has `raw` events, which are what is played; `pulse` and `adc` then
    only describe them.
    """

    steps: int
    pulse: Pulse | None = None
    pulse_delay_s: float = 0.0
    gradients: tuple[tuple[Axis, Lobe | Waveform], ...] = ()
    adc: Adc | None = None
    raw: RawEvents | None = None

    @property
    def centre_s(self) -> float:
        """Middle of the pulse, else of the receive window, else 0."""
        if self.pulse is not None:
            return self.pulse_delay_s + self.pulse.duration_s / 2
        if self.adc is not None:
            return self.adc.delay_s + self.adc.samples * self.adc.dwell_s / 2
        return 0.0

    @property
    def pulse_energy_t2_s(self) -> float:
        """Integral of |B1|^2 over the pulse [T^2 s], 0 without one."""
        if self.raw is not None:
            return self.raw.pulse_energy_t2_s
        return self.pulse.energy_t2_s if self.pulse is not None else 0.0

    @property
    def phase_deg(self) -> float:
        """Phase of the pulse, 0 without one."""
        return self.pulse.phase_deg if self.pulse is not None else 0.0


def without_window(block: Block) -> Block:
    """Return the block with its receive window closed."""
    raw = block.raw
    if raw is not None:
        raw = RawEvents(tuple(e for e in raw.events if e.type != "adc"), raw.pulse_energy_t2_s)
    return replace(block, adc=None, raw=raw)


@dataclass(frozen=True)
class AdcReadout:
    """Where the samples of one receive window lie in k-space.

    Sample j of a forward readout is at ``kx = (j + 1/2 - N/2)/FOV``, of a reversed one at sample
    N - 1 - j; all at ``ky = (line - N/2)/FOV``.

    Parameters
    ----------
    image
        Index into the images of the chain.
    line
        ky index, 0..N-1; -1 for samples off the grid, which lie where the sequence puts them.
    reverse
        Whether kx runs downwards.
    samples, dwell_s
        Of the receive window.
    centre_s
        Middle of the window from the begin of the chain; where a spiral leaves k = 0.
    """

    image: int
    line: int
    reverse: bool
    samples: int
    dwell_s: float
    centre_s: float = 0.0

    @property
    def on_grid(self) -> bool:
        """Whether `line` and `reverse` say where the samples lie."""
        return self.line >= 0


@dataclass(frozen=True)
class PlayedPulse:
    """An RF pulse, the time of its middle from the begin of the chain, and its energy."""

    pulse: Pulse
    centre_s: float
    energy_t2_s: float
