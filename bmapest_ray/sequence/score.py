"""A score: the blocks of a chain one after the other, written by the sequence functions.

The clock counts raster steps, so times are exact and a score is checked before pypulseq sees it.
"""

from dataclasses import replace
from functools import cache
from typing import Final

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.events import (
    Adc,
    AdcReadout,
    Axis,
    Block,
    PlayedPulse,
    Pulse,
    PulseShape,
    PulseUse,
    without_window,
)
from bmapest_ray.sequence.lobes import Lobe, lobe, plateau, raster_steps, shortest_lobe
from bmapest_ray.sequence.scanner import ADC_RASTER_S, Scanner

MIN_MATRIX: Final = 4
MAX_MATRIX: Final = 1024


class Score:
    """Blocks, readouts and pulses of a chain on an N x N grid.

    Parameters
    ----------
    matrix, fov_m
        Grid of every image: N x N over a square field of view.
    scanner
        Limits every block keeps.

    Attributes
    ----------
    recording
        Receive windows are played only while this is true (dummy cycles switch it off).
    begun_s
        When the contrast of an image began (its last playing), by the name of the image.
    """

    def __init__(self, matrix: int, fov_m: float, scanner: Scanner) -> None:
        if matrix % 2 or not MIN_MATRIX <= matrix <= MAX_MATRIX:
            raise InvalidInput(
                f"matrix must be even and in {MIN_MATRIX}..{MAX_MATRIX}, got {matrix}; change it"
            )
        if not 0.01 <= fov_m <= 1.0:
            raise InvalidInput(
                f"fov_m must be in 0.01..1 m, got {fov_m}; give the field of view in metres"
            )
        self.matrix, self.fov_m, self.scanner = matrix, fov_m, scanner
        self.blocks: list[Block] = []
        self.images: list[str] = []
        self.readouts: list[AdcReadout] = []
        self.pulses: list[PlayedPulse] = []
        self.steps = 0
        self.recording = True
        self.contrast = ""
        self.begun_s: dict[str, float] = {}
        self._contrast_begun_s = 0.0
        # the same block is asked for many times: build it once
        self.pulse_block = cache(self._pulse_block)
        self.lobes = cache(self._lobes)
        self.readout_block = cache(self._readout_block)
        self.encoding = cache(self._encoding)

    @property
    def time_s(self) -> float:
        """Time played so far."""
        return self.steps * self.scanner.gradient_raster_s

    @property
    def rf_energy_t2_s(self) -> float:
        """Integral of |B1|^2 over all pulses [T^2 s]."""
        return sum(played.energy_t2_s for played in self.pulses)

    def begin(self, contrast: str) -> None:
        """Name the contrast that is played next."""
        self.contrast = contrast
        self._contrast_begun_s = self.time_s

    def image(self, part: str = "") -> int:
        """Return the index of the image of this contrast (or of a named part of it)."""
        name = f"{self.contrast}.{part}" if part else self.contrast
        if name not in self.images:
            self.images.append(name)
        self.begun_s[name] = self._contrast_begun_s
        return self.images.index(name)

    # -- blocks ----------------------------------------------------------------------------------

    def _pulse_block(
        self,
        flip_angle_deg: float,
        phase_deg: float = 0.0,
        *,
        use: PulseUse,
        shape: PulseShape = "block",
        duration_s: float = 1e-3,
    ) -> Block:
        """Return a block with one RF pulse and its silences."""
        pulse = Pulse(flip_angle_deg, phase_deg % 360.0, duration_s, shape, use)
        dead_s = self.scanner.rf_dead_time_s
        steps = raster_steps(dead_s + duration_s + self.scanner.rf_ringdown_s, self.scanner)
        return Block(steps, pulse, dead_s)

    def _lobes(
        self, x: float = 0.0, y: float = 0.0, z: float = 0.0, at_least_s: float = 0.0
    ) -> Block:
        """Return a block of lobes with areas in 1/m, stretched to what the limits need."""
        areas: dict[Axis, float] = {"x": x, "y": y, "z": z}
        played = {axis: area for axis, area in areas.items() if area}
        needed = [shortest_lobe(area, self.scanner).steps for area in played.values()]
        steps = max(raster_steps(at_least_s, self.scanner), *needed, 0)
        return Block(
            steps,
            gradients=tuple((a, lobe(area, steps, self.scanner)) for a, area in played.items()),
        )

    def _readout_block(
        self, dwell_s: float, phase_deg: float = 0.0, reverse: bool = False
    ) -> Block:
        """Return a block that reads one line of N samples; reverse reads it towards -kx."""
        flat_s = self.matrix * dwell_s
        flat = round(flat_s / self.scanner.gradient_raster_s)
        if abs(flat * self.scanner.gradient_raster_s - flat_s) > 1e-9:
            raise InvalidInput(
                f"matrix x dwell_s must be a multiple of {self.scanner.gradient_raster_s:.4g} s, "
                f"got {self.matrix} x {dwell_s:.6g} s; change dwell_s"
            )
        if abs(dwell_s / ADC_RASTER_S - round(dwell_s / ADC_RASTER_S)) > 1e-3:
            raise InvalidInput(
                f"dwell_s must be a multiple of {ADC_RASTER_S:.4g} s, got {dwell_s:.6g} s; "
                "change dwell_s"
            )
        gx = plateau(1 / (self.fov_m * dwell_s), flat, self.scanner, "raise dwell_s or the FOV")
        ramp = max(gx.ramp, raster_steps(self.scanner.adc_dead_time_s, self.scanner))
        amplitude = -gx.amplitude_hz_per_m if reverse else gx.amplitude_hz_per_m
        adc = Adc(self.matrix, dwell_s, ramp * self.scanner.gradient_raster_s, phase_deg % 360.0)
        return Block(2 * ramp + flat, gradients=(("x", Lobe(amplitude, ramp, flat)),), adc=adc)

    def readout_area(self, dwell_s: float) -> float:
        """Return the area of a readout lobe, ramps included [1/m]."""
        ((_, gx),) = self.readout_block(dwell_s).gradients
        return gx.area_per_m(self.scanner.gradient_raster_s)

    def line_area(self, line: int) -> float:
        """Return ky of a line [1/m]."""
        return (line - self.matrix // 2) / self.fov_m

    def _encoding(self, line: int, x: float = 0.0, z: float = 0.0, rewind: bool = False) -> Block:
        """Return the lobes that go to a line (or back from it), of one length for all lines."""
        ky = self.line_area(line)
        longest = self.lobes(x=x, y=self.line_area(0), z=z)
        return self.lobes(x=x, y=-ky if rewind else ky, z=z, at_least_s=self.length_s(longest))

    def length_s(self, *blocks: Block) -> float:
        """Return the time some blocks take together."""
        return sum(block.steps for block in blocks) * self.scanner.gradient_raster_s

    # -- playing ---------------------------------------------------------------------------------

    def play(self, block: Block) -> float:
        """Append a block and return the time of its centre."""
        begin_s = self.time_s
        self.steps += block.steps
        if block.steps:
            self.blocks.append(block)
        if block.pulse is not None:
            centre_s = begin_s + block.centre_s
            self.pulses.append(PlayedPulse(block.pulse, centre_s, block.pulse_energy_t2_s))
        return begin_s + block.centre_s

    def read(
        self,
        image: int,
        line: int,
        dwell_s: float,
        phase_deg: float = 0.0,
        *,
        reverse: bool = False,
        receive: bool = True,
    ) -> float:
        """Play the readout of one line of an image and return the time of its centre."""
        block = self.readout_block(dwell_s, phase_deg, reverse)
        readout = AdcReadout(image, line, reverse, self.matrix, dwell_s)
        return self.play_window(block, readout, receive=receive)

    def play_window(self, block: Block, readout: AdcReadout, *, receive: bool = True) -> float:
        """Play a block with a receive window, closed if not received; return its middle."""
        if self.recording and receive:
            centre_s = self.play(block)
            self.readouts.append(replace(readout, centre_s=centre_s))
            return centre_s
        return self.play(without_window(block)) + block.centre_s

    def wait(self, duration_s: float) -> None:
        """Play nothing for a while (to the nearest raster step)."""
        self.play(Block(round(duration_s / self.scanner.gradient_raster_s)))

    def wait_until(
        self, time_s: float, parameter: str, requested_s: float, share: float = 1.0
    ) -> None:
        """Play nothing until `time_s`, which a requested echo, inversion or repetition time sets.

        Parameters
        ----------
        time_s
            When the next block begins.
        parameter, requested_s
            What was asked for, and its value.
        share
            By how much `time_s` moves per second of the parameter (1/2 for half an echo time).

        Raises
        ------
        InvalidInput
            If the time has passed already: says how large the parameter must be.
        """
        steps = round((time_s - self.time_s) / self.scanner.gradient_raster_s)
        if steps < 0:
            least_s = requested_s - steps * self.scanner.gradient_raster_s / share
            raise InvalidInput(
                f"{parameter} of {self.contrast} must be at least {least_s:.6g} s for "
                f"matrix {self.matrix} on scanner {self.scanner.name}, got {requested_s:.6g} s; "
                f"raise {parameter} or lower the matrix"
            )
        self.play(Block(steps))
