"""Gradient lobes in whole raster steps, within the limits of a scanner."""

import math
from dataclasses import dataclass

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T, t_per_m_to_mt_per_m
from bmapest_ray.sequence.scanner import Scanner

_ROUNDING = 1e-6  # of a raster step: keeps 1.0000000001 steps from becoming two


@dataclass(frozen=True)
class Lobe:
    """One trapezoid: `ramp`, `flat` and `ramp` raster steps at `amplitude_hz_per_m`."""

    amplitude_hz_per_m: float
    ramp: int
    flat: int

    @property
    def steps(self) -> int:
        """Whole length in raster steps."""
        return 2 * self.ramp + self.flat

    def area_per_m(self, raster_s: float) -> float:
        """Area in 1/m for steps of `raster_s`."""
        return self.amplitude_hz_per_m * (self.ramp + self.flat) * raster_s


@dataclass(frozen=True)
class Waveform:
    """Any gradient: its mean over each raster step [Hz/m]; begins and ends at 0."""

    amplitudes_hz_per_m: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Whole length in raster steps."""
        return len(self.amplitudes_hz_per_m)

    def area_per_m(self, raster_s: float) -> float:
        """Area in 1/m for steps of `raster_s`."""
        return math.fsum(self.amplitudes_hz_per_m) * raster_s


def raster_steps(time_s: float, scanner: Scanner) -> int:
    """Return the fewest raster steps that last at least `time_s`."""
    return math.ceil(time_s / scanner.gradient_raster_s - _ROUNDING)


def shortest_lobe(area_per_m: float, scanner: Scanner) -> Lobe:
    """Return the shortest lobe of an area, at the limits of the scanner."""
    area, raster_s = abs(area_per_m), scanner.gradient_raster_s
    ramp = max(1, raster_steps(math.sqrt(area / scanner.max_slew_hz_per_m_s), scanner))
    plateau = ramp
    if area / (ramp * raster_s) > scanner.max_gradient_hz_per_m:
        plateau = raster_steps(area / scanner.max_gradient_hz_per_m, scanner)
        amplitude = area / (plateau * raster_s)
        ramp = max(1, raster_steps(amplitude / scanner.max_slew_hz_per_m_s, scanner))
        plateau = max(plateau, ramp)
    return Lobe(area_per_m / (plateau * raster_s), ramp, plateau - ramp)


def lobe(area_per_m: float, steps: int, scanner: Scanner) -> Lobe:
    """Return the lobe of an area that lasts exactly `steps`, with the lowest amplitude.

    `steps` must be at least `shortest_lobe(...).steps`; stretching is the caller's choice, who
    gives all axes of a block the same length.
    """
    if steps < shortest_lobe(area_per_m, scanner).steps:
        raise InvalidInput(
            f"a gradient lobe of {abs(area_per_m):.4g} 1/m must last at least "
            f"{shortest_lobe(area_per_m, scanner).steps * scanner.gradient_raster_s:.6g} s, got "
            f"{steps * scanner.gradient_raster_s:.6g} s; allow it more time"
        )
    raster_s, slew = scanner.gradient_raster_s, scanner.max_slew_hz_per_m_s
    duration_s = steps * raster_s
    # area = slew ramp (duration - ramp): the smaller root is the least amplitude
    discriminant = max(0.0, duration_s**2 - 4 * abs(area_per_m) / slew)
    ramp_s = (duration_s - math.sqrt(discriminant)) / 2
    ramp = min(max(1, raster_steps(ramp_s, scanner)), steps // 2)
    amplitude = area_per_m / ((steps - ramp) * raster_s)
    return Lobe(amplitude, ramp, steps - 2 * ramp)


def plateau(
    amplitude_hz_per_m: float, flat: int, scanner: Scanner, remedy: str = "lower the amplitude"
) -> Lobe:
    """Return a lobe whose plateau of `flat` steps has the amplitude (a readout).

    Raises
    ------
    InvalidInput
        If the amplitude exceeds the gradient limit.
    """
    if abs(amplitude_hz_per_m) > scanner.max_gradient_hz_per_m * (1 + 1e-9):
        limit = t_per_m_to_mt_per_m(scanner.max_gradient_t_per_m)
        value = t_per_m_to_mt_per_m(abs(amplitude_hz_per_m) / GYROMAGNETIC_RATIO_HZ_PER_T)
        raise InvalidInput(
            f"a gradient must be at most {limit:.4g} mT/m, got {value:.4g} mT/m; {remedy}"
        )
    ramp_s = abs(amplitude_hz_per_m) / scanner.max_slew_hz_per_m_s
    return Lobe(amplitude_hz_per_m, max(1, raster_steps(ramp_s, scanner)), flat)
