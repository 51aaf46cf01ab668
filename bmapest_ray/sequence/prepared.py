"""Inversion-prepared gradient-echo trains: MPRAGE, MP2RAGE, fingerprinting.

All times are centre to centre; an inversion time ends at the pulse that reads ky = 0.
"""

import math
from dataclasses import dataclass

from bmapest_ray.sequence.gradient_echo import GradientEcho, excitation
from bmapest_ray.sequence.order import CARTESIAN, Cartesian, spoiling_phases_deg
from bmapest_ray.sequence.parameters import Count, FlipAngle, PositiveCount, Seconds
from bmapest_ray.sequence.preparation import SPOILER_AREA_PER_M, inversion_pulse
from bmapest_ray.sequence.score import Score


@dataclass(frozen=True)
class Train:
    """A spoiled gradient-echo train whose pulse for ky = 0 comes an inversion time after a 180."""

    image: int
    flip_angle_deg: float
    parameter: str
    inversion_time_s: float
    echo: GradientEcho

    def play(
        self, score: Score, inverted_s: float, lines: tuple[int, ...], *, receive: bool
    ) -> None:
        """Play the train after an inversion at `inverted_s`."""
        centre = min(range(len(lines)), key=lambda i: abs(score.line_area(lines[i])))
        pulse = excitation(score, self.flip_angle_deg)
        begin_s = inverted_s + self.inversion_time_s - centre * self.echo.repetition_time_s
        score.wait_until(begin_s - pulse.centre_s, self.parameter, self.inversion_time_s)
        for line, phase_deg in zip(lines, spoiling_phases_deg(len(lines), 50.0), strict=True):
            pulse = excitation(score, self.flip_angle_deg, phase_deg)
            excited_s = self.echo.play(score, pulse, self.image, line, receive=receive)
            self.echo.finish(score, excited_s, pulse)


def inverted_shots(
    score: Score,
    trains: tuple[Train, ...],
    repetition_time_s: float,
    shots: int,
    dummy_shots: int,
    cartesian: Cartesian,
) -> None:
    """Play 180, spoiler and trains once per shot; shots interleave the lines."""
    lines = cartesian.lines(score.matrix)
    for shot in range(-dummy_shots, shots):
        inverted_s = inversion_pulse(score)
        score.play(score.lobes(z=SPOILER_AREA_PER_M))
        for train in trains:
            part = lines[max(shot, 0) :: shots]
            train.play(score, inverted_s, part, receive=shot >= 0)
        centre_s = score.pulse_block(180.0, 90.0, use="inversion").centre_s
        score.wait_until(
            inverted_s + repetition_time_s - centre_s, "repetition_time_s", repetition_time_s
        )


def mprage(
    score: Score,
    *,
    inversion_time_s: Seconds = 0.9,
    repetition_time_s: Seconds = 2.3,
    flip_angle_deg: FlipAngle = 9.0,
    echo_time_s: Seconds = 0.0035,
    echo_spacing_s: Seconds = 0.008,
    shots: PositiveCount = 1,
    dummy_shots: Count = 1,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Magnetisation-prepared rapid gradient echo: 180, TI, FLASH train, recovery to TR.

    `repetition_time_s` runs from inversion to inversion (Mugler & Brookeman 1990).
    """
    echo = GradientEcho(echo_time_s, echo_spacing_s, cartesian.dwell_s)
    train = Train(score.image(), flip_angle_deg, "inversion_time_s", inversion_time_s, echo)
    inverted_shots(score, (train,), repetition_time_s, shots, dummy_shots, cartesian)


def mp2rage(
    score: Score,
    *,
    first_inversion_time_s: Seconds = 0.7,
    second_inversion_time_s: Seconds = 2.5,
    repetition_time_s: Seconds = 5.0,
    first_flip_angle_deg: FlipAngle = 4.0,
    second_flip_angle_deg: FlipAngle = 5.0,
    echo_time_s: Seconds = 0.0035,
    echo_spacing_s: Seconds = 0.008,
    shots: PositiveCount = 1,
    dummy_shots: Count = 1,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Two FLASH trains after one inversion: images ``.inv1`` and ``.inv2`` (Marques 2010)."""
    echo = GradientEcho(echo_time_s, echo_spacing_s, cartesian.dwell_s)
    names = ("first_inversion_time_s", "second_inversion_time_s")
    trains = (
        Train(score.image("inv1"), first_flip_angle_deg, names[0], first_inversion_time_s, echo),
        Train(score.image("inv2"), second_flip_angle_deg, names[1], second_inversion_time_s, echo),
    )
    inverted_shots(score, trains, repetition_time_s, shots, dummy_shots, cartesian)


def fingerprinting(
    score: Score,
    *,
    frames: PositiveCount = 8,
    inversion_time_s: Seconds = 0.02,
    repetition_time_s: Seconds = 0.01,
    echo_time_s: Seconds = 0.0035,
    min_flip_angle_deg: FlipAngle = 5.0,
    max_flip_angle_deg: FlipAngle = 60.0,
    flip_angle_waves: PositiveCount = 4,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """FISP fingerprinting: 180, then one train of varying flip angles (after Jiang 2015).

    Frame f (image ``.frame1``, ...) is read by the f-th N pulses of the train, all lines of k-space
    each; flip angles are `flip_angle_waves` half sines over the whole train.
    """
    lines = cartesian.lines(score.matrix)
    echo = GradientEcho(echo_time_s, repetition_time_s, cartesian.dwell_s, "dephased")
    total = frames * len(lines)
    inverted_s = inversion_pulse(score)
    score.play(score.lobes(z=SPOILER_AREA_PER_M))
    first = excitation(score, min_flip_angle_deg)
    score.wait_until(
        inverted_s + inversion_time_s - first.centre_s, "inversion_time_s", inversion_time_s
    )
    for number in range(total):
        wave = abs(math.sin(math.pi * flip_angle_waves * number / total))
        flip_deg = min_flip_angle_deg + (max_flip_angle_deg - min_flip_angle_deg) * wave
        pulse = excitation(score, flip_deg)
        image = score.image(f"frame{number // len(lines) + 1}")
        excited_s = echo.play(score, pulse, image, lines[number % len(lines)])
        echo.finish(score, excited_s, pulse)
