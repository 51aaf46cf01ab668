"""Radial and spiral spoiled gradient echoes. Times are centre to centre.

Their samples lie off the grid (`AdcReadout.line` is -1): where they are follows from the sequence.
"""

import cmath
import math
from dataclasses import dataclass, replace
from typing import Annotated, Final

import numpy as np

from bmapest_ray.sequence.events import Adc, AdcReadout, Axis, Block
from bmapest_ray.sequence.gradient_echo import excitation
from bmapest_ray.sequence.lobes import Lobe, Waveform, raster_steps
from bmapest_ray.sequence.order import spoiling_phases_deg
from bmapest_ray.sequence.parameters import Count, Dwell, FlipAngle, Limit, PositiveCount, Seconds
from bmapest_ray.sequence.preparation import SPOILER_AREA_PER_M
from bmapest_ray.sequence.score import Score
from bmapest_ray.sequence.spiral_path import SAFETY, spiral_gradient

GOLDEN_ANGLE_DEG: Final = 111.24611797498107
SpiralDwell = Annotated[float, Limit("s", 1e-6, 2e-5)]


@dataclass(frozen=True)
class OffGridLine:
    """Prephaser, receive window and rewinder of one spoke or interleave."""

    before: Block
    window: Block
    after: Block
    begins_s: float
    """From the begin of `window` to the sample that counts as the echo."""


@dataclass(frozen=True)
class SpoiledRepetition:
    """RF-spoiled repetitions of lines off the grid."""

    flip_angle_deg: float
    echo_time_s: float
    repetition_time_s: float

    def play(self, score: Score, line: OffGridLine, phase_deg: float, *, receive: bool) -> None:
        """Play one repetition."""
        image = score.image()
        pulse = excitation(score, self.flip_angle_deg, phase_deg)
        excited_s = score.play(pulse)
        lead_s = score.length_s(line.before) + line.begins_s
        score.wait_until(excited_s + self.echo_time_s - lead_s, "echo_time_s", self.echo_time_s)
        score.play(line.before)
        adc = line.window.adc
        if adc is not None:
            readout = AdcReadout(image, -1, False, adc.samples, adc.dwell_s)
            block = replace(line.window, adc=replace(adc, phase_deg=phase_deg))
            echo_s = score.time_s + line.begins_s
            score.play_window(block, readout, receive=receive)
            if receive and score.recording:
                score.readouts[-1] = replace(score.readouts[-1], centre_s=echo_s)
        score.play(line.after)
        score.wait_until(
            excited_s + self.repetition_time_s - pulse.centre_s,
            "repetition_time_s",
            self.repetition_time_s,
        )


def radial(
    score: Score,
    *,
    flip_angle_deg: FlipAngle = 25.0,
    echo_time_s: Seconds = 0.005,
    repetition_time_s: Seconds = 0.025,
    spokes: PositiveCount = 96,
    golden_angle: bool = False,
    dummy_pulses: Count = 0,
    dwell_s: Dwell = 20e-6,
) -> None:
    """Radial spoiled gradient echo: spokes of N samples through the centre of k-space.

    Angles are even over 180 degrees, or steps of the golden angle (Winkelmann 2007).
    """
    step_deg = GOLDEN_ANGLE_DEG if golden_angle else 180.0 / spokes
    lines = [spoke(score, number * step_deg, dwell_s) for number in range(spokes)]
    _play_all(
        score,
        SpoiledRepetition(flip_angle_deg, echo_time_s, repetition_time_s),
        lines,
        dummy_pulses,
    )


def spoke(score: Score, angle_deg: float, dwell_s: float) -> OffGridLine:
    """Return the readout of a line at an angle to the x axis."""
    straight, area = score.readout_block(dwell_s), score.readout_area(dwell_s)
    x, y = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    ((_, gx),) = straight.gradients
    turned: list[tuple[Axis, Lobe | Waveform]] = []
    if isinstance(gx, Lobe):
        turned.append(("x", replace(gx, amplitude_hz_per_m=x * gx.amplitude_hz_per_m)))
        turned.append(("y", replace(gx, amplitude_hz_per_m=y * gx.amplitude_hz_per_m)))
    back_s = score.length_s(score.lobes(x=-area / 2))
    return OffGridLine(
        score.lobes(x=-area / 2 * x, y=-area / 2 * y, at_least_s=back_s),
        replace(straight, gradients=tuple(turned)),
        score.lobes(x=-area / 2 * x, y=-area / 2 * y, z=SPOILER_AREA_PER_M, at_least_s=back_s),
        straight.centre_s,
    )


def spiral(
    score: Score,
    *,
    flip_angle_deg: FlipAngle = 25.0,
    echo_time_s: Seconds = 0.002,
    repetition_time_s: Seconds = 0.025,
    interleaves: PositiveCount = 8,
    dummy_pulses: Count = 0,
    dwell_s: SpiralDwell = 4e-6,
) -> None:
    """Spiral-out spoiled gradient echo; TE is where an interleave leaves k = 0."""
    lines = [spiral_arm(score, number, interleaves, dwell_s) for number in range(interleaves)]
    _play_all(
        score,
        SpoiledRepetition(flip_angle_deg, echo_time_s, repetition_time_s),
        lines,
        dummy_pulses,
    )


def spiral_arm(score: Score, number: int, interleaves: int, dwell_s: float) -> OffGridLine:
    """Return one interleave: silence, spiral, ramp down, and the way back to k = 0."""
    scanner, raster_s = score.scanner, score.scanner.gradient_raster_s
    radius_per_m, turns = score.matrix / 2 / score.fov_m, score.matrix / 2 / interleaves
    path = spiral_gradient(radius_per_m, turns, scanner, 1 / (score.fov_m * dwell_s))
    last = path[-1]
    down = raster_steps(abs(last) / (SAFETY * 0.8 * scanner.max_slew_hz_per_m_s), scanner) + 1
    ramp = last * (1 - (np.arange(down) + 0.5) / down)
    silence = raster_steps(scanner.adc_dead_time_s, scanner)
    turn = cmath.exp(2j * math.pi * number / interleaves)
    wave = turn * np.concatenate((np.zeros(silence), path, ramp))
    area = complex(wave.sum()) * raster_s
    samples = int(len(path) * raster_s / dwell_s + 1e-6)
    steps = len(wave) + raster_steps(scanner.adc_dead_time_s, scanner)
    window = Block(
        steps,
        gradients=(
            ("x", Waveform(tuple(wave.real.tolist()))),
            ("y", Waveform(tuple(wave.imag.tolist()))),
        ),
        adc=Adc(samples, dwell_s, silence * raster_s, 0.0),
    )
    after = score.lobes(x=-area.real, y=-area.imag, z=SPOILER_AREA_PER_M)
    return OffGridLine(Block(0), window, after, silence * raster_s)


def _play_all(
    score: Score, repetition: SpoiledRepetition, lines: list[OffGridLine], dummy_pulses: int
) -> None:
    played = [(lines[0], False)] * dummy_pulses + [(line, True) for line in lines]
    phases_deg = spoiling_phases_deg(len(played), 50.0)
    for (line, receive), phase_deg in zip(played, phases_deg, strict=True):
        repetition.play(score, line, phase_deg, receive=receive)
