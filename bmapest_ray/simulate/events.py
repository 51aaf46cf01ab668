"""A chain as the simulators see it: repetitions of one RF pulse and its timed gradient events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput

if TYPE_CHECKING:
    from bmapest_ray.sequence.build import AdcReadout

SNAP_TOLERANCE = 5e-3
"""Largest distance, in steps of 1/FOV, over which k is moved onto the Cartesian grid."""


@dataclass(frozen=True)
class Repetition:
    """One instantaneous RF pulse and the events up to the next one.

    Parameters
    ----------
    angle_rad, phase_rad
        Nominal flip angle and phase of the pulse.
    duration_s
        Length of each event. Shape ``(event,)``.
    moment_per_m
        Gradient moment of each event in 1/m. Shape ``(event, 3)``.
    adc
        Whether a sample is taken at the end of the event. Shape ``(event,)``.
    adc_phase_rad
        Phase added to the sample (pi/2 minus the Pulseq phase). Shape ``(event,)``.
    """

    angle_rad: float
    phase_rad: float
    duration_s: NDArray[np.float64]
    moment_per_m: NDArray[np.float64]
    adc: NDArray[np.bool_]
    adc_phase_rad: NDArray[np.float64]

    @cached_property
    def time_s(self) -> NDArray[np.float64]:
        """Time from the pulse to the end of each event. Shape ``(event,)``."""
        return np.cumsum(self.duration_s)

    @cached_property
    def k_per_m(self) -> NDArray[np.float64]:
        """Moment from the pulse to the end of each event. Shape ``(event, 3)``."""
        return np.cumsum(self.moment_per_m, axis=0)


@dataclass(frozen=True)
class EventTable:
    """All repetitions of one chain and which k-space line each readout measures.

    Parameters
    ----------
    repetitions
        In the order they are played.
    images
        Names of the images that the chain acquires.
    readouts
        One per ADC window, in the order of acquisition.
    matrix
        Samples and lines of one image.
    fov_m
        Field of view in metres.
    paths
        Where the samples of each readout lie, ``(sample, 2)`` in 1/m, if any is off the grid.
    """

    repetitions: tuple[Repetition, ...]
    images: tuple[str, ...]
    readouts: tuple[AdcReadout, ...]
    matrix: int
    fov_m: float
    paths: tuple[NDArray[np.float64], ...] = ()

    def __post_init__(self) -> None:
        """Check that readouts and samples match."""
        sampled = sum(int(rep.adc.sum()) for rep in self.repetitions)
        expected = sum(readout.samples for readout in self.readouts)
        if sampled == 0:
            msg = "a protocol must acquire at least one ADC sample, got none; add a readout"
            raise InvalidInput(msg)
        if self.on_grid and not all(readout.on_grid for readout in self.readouts):
            msg = (
                "this engine simulates Cartesian readouts, got one off the grid (radial, spiral); "
                "choose a Cartesian sequence or the lowrank engine"
            )
            raise InvalidInput(msg)
        if sampled != expected:
            msg = (
                f"the readouts must account for every ADC sample, got {expected} declared and "
                f"{sampled} played; correct the list of readouts"
            )
            raise InvalidInput(msg)

    @property
    def on_grid(self) -> bool:
        """Whether lines and samples of the readouts say where they lie."""
        return not self.paths

    @cached_property
    def digest(self) -> str:
        """Digest of everything that decides the signal."""
        content = [
            (r.angle_rad, r.phase_rad, r.duration_s, r.moment_per_m, r.adc, r.adc_phase_rad)
            for r in self.repetitions
        ]
        readouts = [(r.image, r.line, r.reverse, r.samples) for r in self.readouts]
        return digest([content, list(self.images), readouts, self.matrix, self.fov_m])

    def snapped(self) -> EventTable:
        """Move k onto the half-step grid wherever it is within :data:`SNAP_TOLERANCE` of it.

        Pulseq files keep six digits, which leaves k up to 2e-4 of a step off the grid; a plain FFT
        would then be wrong by 1e-4. Samples and ends of repetitions are moved, together with the
        events that lead to them, so that every simulator sees the same trajectory.
        """
        return replace(
            self, repetitions=tuple(_snapped(rep, self.fov_m) for rep in self.repetitions)
        )


def _snapped(rep: Repetition, fov_m: float) -> Repetition:
    steps = rep.k_per_m * fov_m
    grid = np.round(2 * steps) / 2
    anchor = rep.adc.copy()
    anchor[-1] = True
    close = (np.abs(steps - grid) <= SNAP_TOLERANCE) & anchor[:, None]
    shift = np.zeros_like(steps)
    order = np.arange(len(steps))
    for axis in range(3):
        where = np.flatnonzero(close[:, axis])
        known = (grid - steps)[where, axis]
        shift[:, axis] = np.interp(order, np.append(-1, where), np.append(0.0, known))
    moved = (steps + shift) / fov_m
    return replace(rep, moment_per_m=np.diff(moved, axis=0, prepend=0.0))
