"""Diffusion-weighted spin echoes with real b values. Times are centre to centre.

The two lobes (Stejskal & Tanner 1965) lie on z and last as long as the echo time allows; crushers
lie on y, so that they add no cross term. b counts the lobes alone: crushers and imaging gradients
add less than 0.1 s/mm2.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.echo_planar import EPI_CARTESIAN, EchoPlanarTrain
from bmapest_ray.sequence.events import Block
from bmapest_ray.sequence.lobes import Lobe, raster_steps
from bmapest_ray.sequence.order import CARTESIAN, Cartesian
from bmapest_ray.sequence.parameters import Limit, Seconds
from bmapest_ray.sequence.preparation import SPOILER_AREA_PER_M
from bmapest_ray.sequence.scanner import Scanner
from bmapest_ray.sequence.score import Score
from bmapest_ray.sequence.spin_echo import EXCITATION_PHASE_DEG, excite, refocus, shot_spoiler

BValue = Annotated[float, Limit("s/mm2", 0.0, 5000.0)]


def b_value_s_per_m2(lobe: Lobe, separation_s: float, raster_s: float) -> float:
    """Return b of two equal trapezoids whose begins are `separation_s` apart."""
    width_s, ramp_s = (lobe.ramp + lobe.flat) * raster_s, lobe.ramp * raster_s
    shape = width_s**2 * (separation_s - width_s / 3) + ramp_s**3 / 30 - width_s * ramp_s**2 / 6
    return (2 * math.pi * lobe.amplitude_hz_per_m) ** 2 * shape


def weighting_lobe(b_s_per_mm2: float, steps: int, separation_s: float, scanner: Scanner) -> Lobe:
    """Return the lobe of `steps` raster steps that gives b with its twin.

    Raises
    ------
    InvalidInput
        If b needs more than the gradient limit: says which b it allows.
    """
    raster_s, limit = scanner.gradient_raster_s, scanner.max_gradient_hz_per_m
    ramp = min(raster_steps(limit / scanner.max_slew_hz_per_m_s, scanner), steps // 2)
    strongest = Lobe(
        min(limit, scanner.max_slew_hz_per_m_s * ramp * raster_s), ramp, steps - 2 * ramp
    )
    most = b_value_s_per_m2(strongest, separation_s, raster_s) * 1e-6 if ramp > 0 else 0.0
    if b_s_per_mm2 > most:
        raise InvalidInput(
            f"b_value_s_per_mm2 must be at most {most:.4g} at this echo time on scanner "
            f"{scanner.name}, got {b_s_per_mm2:g}; raise echo_time_s or lower b"
        )
    amplitude = strongest.amplitude_hz_per_m * math.sqrt(b_s_per_mm2 / most)
    return Lobe(amplitude, ramp, steps - 2 * ramp)


@dataclass(frozen=True)
class WeightedEcho:
    """90, lobe, 180, lobe: leaves a spin echo `lead_s` after its last block ends.

    Parameters
    ----------
    b_s_per_mm2, echo_time_s
        What is asked for.
    lead_s
        Time the readout needs before the echo.
    """

    b_s_per_mm2: float
    echo_time_s: float
    lead_s: float

    def play(self, score: Score) -> float:
        """Play up to the begin of the readout; return the time of the excitation."""
        pulse, crusher = refocus(score), score.lobes(y=SPOILER_AREA_PER_M)
        excited_s = score.play(excite(score))
        refocused_s, read_s = (
            excited_s + self.echo_time_s / 2,
            excited_s + self.echo_time_s - self.lead_s,
        )
        tail_s = score.length_s(pulse) - pulse.centre_s + score.length_s(crusher)
        first_end_s = refocused_s - pulse.centre_s - score.length_s(crusher)
        second_begin_s = refocused_s + tail_s
        room_s = min(first_end_s - score.time_s, read_s - second_begin_s)
        weighting = self._lobe(score, room_s, second_begin_s - score.time_s)
        score.play(weighting)
        self._wait(score, first_end_s)
        score.play(crusher)
        score.play(pulse)
        score.play(crusher)
        score.play(weighting)
        self._wait(score, read_s)
        return excited_s

    def _lobe(self, score: Score, room_s: float, separation_s: float) -> Block:
        steps = math.floor(room_s / score.scanner.gradient_raster_s + 1e-6)
        if not self.b_s_per_mm2 or steps < 2:
            return Block(0)
        lobe = weighting_lobe(self.b_s_per_mm2, steps, separation_s, score.scanner)
        return Block(steps, gradients=(("z", lobe),))

    def _wait(self, score: Score, time_s: float) -> None:
        score.wait_until(time_s, "echo_time_s", self.echo_time_s, 0.5)


def diffusion_se(
    score: Score,
    *,
    b_value_s_per_mm2: BValue = 1000.0,
    echo_time_s: Seconds = 0.08,
    repetition_time_s: Seconds = 3.0,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Diffusion-weighted spin echo, one line per excitation."""
    image, dwell_s = score.image(), cartesian.dwell_s
    area = score.readout_area(dwell_s)
    for shot, line in enumerate(cartesian.lines(score.matrix)):
        prephase = score.encoding(line, x=-area / 2)
        reading = score.readout_block(dwell_s, EXCITATION_PHASE_DEG)
        lead_s = score.length_s(prephase) + reading.centre_s
        excited_s = WeightedEcho(b_value_s_per_mm2, echo_time_s, lead_s).play(score)
        score.play(prephase)
        score.read(image, line, dwell_s, EXCITATION_PHASE_DEG)
        score.play(score.encoding(line, rewind=True))
        score.play(shot_spoiler(score, 1.5 * area, shot))
        score.wait_until(
            excited_s + repetition_time_s - excite(score).centre_s,
            "repetition_time_s",
            repetition_time_s,
        )


def diffusion_epi(
    score: Score,
    *,
    b_value_s_per_mm2: BValue = 1000.0,
    echo_time_s: Seconds = 0.09,
    cartesian: Cartesian = EPI_CARTESIAN,
) -> None:
    """Diffusion-weighted single-shot spin-echo EPI."""
    train = EchoPlanarTrain(score, cartesian)
    WeightedEcho(b_value_s_per_mm2, echo_time_s, train.lead_s).play(score)
    train.play(score.image())
