"""Gradient-echo sequences: spoiled, several echoes, balanced. All times are centre to centre."""

from dataclasses import dataclass
from typing import Literal

from bmapest_ray.sequence.events import Block
from bmapest_ray.sequence.order import CARTESIAN, Cartesian, spoiling_phases_deg
from bmapest_ray.sequence.parameters import Count, Degrees, FlipAngle, PositiveCount, Seconds
from bmapest_ray.sequence.preparation import SPOILER_AREA_PER_M
from bmapest_ray.sequence.score import Score

Ending = Literal["spoiled", "balanced", "dephased"]


def excitation(score: Score, flip_angle_deg: float, phase_deg: float = 0.0) -> Block:
    """Return the 1 ms sinc excitation of gradient echoes."""
    return score.pulse_block(flip_angle_deg, phase_deg, use="excitation", shape="sinc")


@dataclass(frozen=True)
class GradientEcho:
    """One line after one pulse: wait, pre-phase, read, rewind.

    Parameters
    ----------
    echo_time_s
        Pulse centre to k-space centre of the line.
    repetition_time_s
        Pulse centre to the next pulse centre.
    dwell_s
        Time per sample.
    ending
        After the readout: spoiled along x (for RF spoiling), balanced (all moments zero) or
        dephased along z by the same moment in every repetition (FISP).
    """

    echo_time_s: float
    repetition_time_s: float
    dwell_s: float
    ending: Ending = "spoiled"

    def play(
        self, score: Score, pulse: Block, image: int, line: int, *, receive: bool = True
    ) -> float:
        """Play one repetition without its waiting at the end; return the time of the pulse."""
        area = score.readout_area(self.dwell_s)
        prephase = score.encoding(line, x=-area / 2)
        lead_s = score.length_s(prephase) + score.readout_block(self.dwell_s).centre_s
        excited_s = score.play(pulse)
        begin_s = excited_s + self.echo_time_s - lead_s
        if self.ending == "balanced":  # the echo lies in the middle of the repetition
            score.wait_until(begin_s, "repetition_time_s", self.repetition_time_s, 0.5)
        else:
            score.wait_until(begin_s, "echo_time_s", self.echo_time_s)
        score.play(prephase)
        score.read(image, line, self.dwell_s, pulse.phase_deg, receive=receive)
        score.play(ending_block(score, line, area, self.ending))
        return excited_s

    def finish(self, score: Score, excited_s: float, following: Block) -> None:
        """Wait so that the pulse of the following block comes a repetition time later."""
        score.wait_until(
            excited_s + self.repetition_time_s - following.centre_s,
            "repetition_time_s",
            self.repetition_time_s,
        )


def ending_block(score: Score, line: int, readout_area: float, ending: Ending) -> Block:
    """Return the lobes after a readout of `readout_area` that began at -area/2."""
    if ending == "spoiled":
        return score.encoding(line, x=1.5 * readout_area, rewind=True)
    z = SPOILER_AREA_PER_M if ending == "dephased" else 0.0
    return score.encoding(line, x=-readout_area / 2, z=z, rewind=True)


def with_dummies(lines: tuple[int, ...], dummies: int, matrix: int) -> list[tuple[int, bool]]:
    """Return (line, receive?) with so many unreceived repetitions at ky = 0 first."""
    return [(matrix // 2, False)] * dummies + [(line, True) for line in lines]


def spoiled_gre(
    score: Score,
    *,
    flip_angle_deg: FlipAngle = 25.0,
    echo_time_s: Seconds = 0.005,
    repetition_time_s: Seconds = 0.025,
    spoiling_increment_deg: Degrees = 50.0,
    dummy_pulses: Count = 0,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Spoiled gradient echo (FLASH, SPGR): T1w, PDw or T2*w by flip angle, TE and TR."""
    image = score.image()
    echo = GradientEcho(echo_time_s, repetition_time_s, cartesian.dwell_s)
    played = with_dummies(cartesian.lines(score.matrix), dummy_pulses, score.matrix)
    phases_deg = spoiling_phases_deg(len(played), spoiling_increment_deg)
    for (line, receive), phase_deg in zip(played, phases_deg, strict=True):
        pulse = excitation(score, flip_angle_deg, phase_deg)
        excited_s = echo.play(score, pulse, image, line, receive=receive)
        echo.finish(score, excited_s, pulse)


def bssfp(
    score: Score,
    *,
    flip_angle_deg: FlipAngle = 40.0,
    repetition_time_s: Seconds = 0.006,
    phase_increment_deg: Degrees = 180.0,
    dummy_pulses: Count = 20,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Balanced steady state; TE = TR/2, begun by half a flip half a TR before the first pulse.

    Signal is lost where the phase per TR makes a band: `phase_increment_deg` 180 puts the bands at
    1/(2 TR) off resonance, 0 at resonance.
    """
    image = score.image()
    echo = GradientEcho(repetition_time_s / 2, repetition_time_s, cartesian.dwell_s, "balanced")
    half = excitation(score, flip_angle_deg / 2, -phase_increment_deg)
    begun_s = score.play(half)
    first = excitation(score, flip_angle_deg)
    first_s = begun_s + repetition_time_s / 2
    score.wait_until(first_s - first.centre_s, "repetition_time_s", repetition_time_s, 0.5)
    played = with_dummies(cartesian.lines(score.matrix), dummy_pulses, score.matrix)
    for number, (line, receive) in enumerate(played):
        pulse = excitation(score, flip_angle_deg, number * phase_increment_deg)
        excited_s = echo.play(score, pulse, image, line, receive=receive)
        echo.finish(score, excited_s, pulse)


def multi_echo_gre(
    score: Score,
    *,
    flip_angle_deg: FlipAngle = 20.0,
    first_echo_time_s: Seconds = 0.005,
    echo_spacing_s: Seconds = 0.008,
    echoes: PositiveCount = 4,
    repetition_time_s: Seconds = 0.05,
    bipolar: bool = False,
    spoiling_increment_deg: Degrees = 50.0,
    dummy_pulses: Count = 0,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Spoiled gradient echo with several echoes, one image each (``.echo1``, ``.echo2``, ...).

    Monopolar (fly-back between echoes) or bipolar (every other echo read backwards).
    """
    images = tuple(score.image(f"echo{e + 1}") for e in range(echoes))
    train = EchoTrain(images, first_echo_time_s, echo_spacing_s, cartesian.dwell_s, bipolar)
    played = with_dummies(cartesian.lines(score.matrix), dummy_pulses, score.matrix)
    phases_deg = spoiling_phases_deg(len(played), spoiling_increment_deg)
    for (line, receive), phase_deg in zip(played, phases_deg, strict=True):
        pulse = excitation(score, flip_angle_deg, phase_deg)
        excited_s = train.play(score, pulse, line, receive=receive)
        score.wait_until(
            excited_s + repetition_time_s - pulse.centre_s, "repetition_time_s", repetition_time_s
        )


@dataclass(frozen=True)
class EchoTrain:
    """One line read several times after one pulse, one image per echo, then spoiled."""

    images: tuple[int, ...]
    first_echo_time_s: float
    echo_spacing_s: float
    dwell_s: float
    bipolar: bool

    def play(self, score: Score, pulse: Block, line: int, *, receive: bool) -> float:
        """Play the train without the waiting at its end; return the time of the pulse."""
        area = score.readout_area(self.dwell_s)
        back = score.lobes(x=0.0 if self.bipolar else -area)
        excited_s = score.play(pulse)
        for number, image in enumerate(self.images):
            before = back if number else score.encoding(line, x=-area / 2)
            self._wait(score, excited_s, number, before)
            score.play(before)
            reverse = self.bipolar and number % 2 == 1
            score.read(image, line, self.dwell_s, pulse.phase_deg, reverse=reverse, receive=receive)
        backwards = self.bipolar and len(self.images) % 2 == 0
        score.play(score.encoding(line, x=area * (2.5 if backwards else 1.5), rewind=True))
        return excited_s

    def _wait(self, score: Score, excited_s: float, number: int, before: Block) -> None:
        lead_s = score.length_s(before) + score.readout_block(self.dwell_s).centre_s
        echo_s = excited_s + self.first_echo_time_s + number * self.echo_spacing_s
        name = "echo_spacing_s" if number else "first_echo_time_s"
        score.wait_until(echo_s - lead_s, name, getattr(self, name))
