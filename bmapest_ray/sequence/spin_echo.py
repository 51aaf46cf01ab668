"""Spin echoes and turbo spin echoes (RARE), alone or after one or two inversions.

All times are centre to centre. Excitation at phase 90, refocusing at phase 0 (CPMG); equal crushers
before and after every refocusing pulse.
"""

from dataclasses import dataclass
from typing import Final

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.events import Block
from bmapest_ray.sequence.gradient_echo import with_dummies
from bmapest_ray.sequence.order import CARTESIAN, Cartesian, echo_trains
from bmapest_ray.sequence.parameters import Count, FlipAngle, PositiveCount, Seconds
from bmapest_ray.sequence.preparation import SPOILER_AREA_PER_M, inversions_before
from bmapest_ray.sequence.score import Score

EXCITATION_S: Final = 2e-3
REFOCUSING_S: Final = 2.5e-3
EXCITATION_PHASE_DEG: Final = 90.0
GOLDEN_RATIO: Final = (5**0.5 - 1) / 2


def excite(score: Score) -> Block:
    """Return the 90 degree pulse of a spin echo."""
    return score.pulse_block(
        90.0, EXCITATION_PHASE_DEG, use="excitation", shape="sinc", duration_s=EXCITATION_S
    )


def refocus(score: Score, flip_angle_deg: float = 180.0) -> Block:
    """Return a refocusing pulse."""
    return score.pulse_block(
        flip_angle_deg, 0.0, use="refocusing", shape="sinc", duration_s=REFOCUSING_S
    )


def shot_spoiler(score: Score, x_area: float, shot: int) -> Block:
    """Return the spoiler after a shot: along z 1 to 9 times the usual area, in golden-ratio steps.

    With spoilers that repeat, later refocusing pulses would refocus what earlier shots left of a
    long T2 (12 % too much CSF at TR 1 s with two alternating areas).
    """
    return score.lobes(x=x_area, z=SPOILER_AREA_PER_M * (1 + 8 * (shot * GOLDEN_RATIO % 1)))


@dataclass(frozen=True)
class SpinEchoTrain:
    """One excitation, then refocused lines a spacing apart; `parameter` names that spacing."""

    spacing_s: float
    refocusing_angle_deg: float
    dwell_s: float
    parameter: str

    def play(
        self,
        score: Score,
        image: int,
        lines: tuple[int, ...],
        *,
        shot: int = 0,
        receive: bool = True,
    ) -> float:
        """Read lines, one per echo, and spoil; return the time of the excitation."""
        area, pulse = score.readout_area(self.dwell_s), refocus(score, self.refocusing_angle_deg)
        reading_s = score.readout_block(self.dwell_s, EXCITATION_PHASE_DEG).centre_s
        excited_s = score.play(excite(score))
        score.play(score.lobes(x=area / 2, z=SPOILER_AREA_PER_M))
        for number, line in enumerate(lines):
            self._wait(score, excited_s + (number + 0.5) * self.spacing_s - pulse.centre_s)
            score.play(pulse)
            score.play(score.encoding(line, z=SPOILER_AREA_PER_M))
            self._wait(score, excited_s + (number + 1) * self.spacing_s - reading_s)
            score.read(image, line, self.dwell_s, EXCITATION_PHASE_DEG, receive=receive)
            score.play(score.encoding(line, z=SPOILER_AREA_PER_M, rewind=True))
        score.play(shot_spoiler(score, 1.5 * area, shot))
        return excited_s

    def _wait(self, score: Score, time_s: float) -> None:
        score.wait_until(time_s, self.parameter, self.spacing_s, 0.5)


def spin_echo(
    score: Score,
    *,
    echo_time_s: Seconds = 0.015,
    repetition_time_s: Seconds = 0.6,
    dummy_pulses: Count = 0,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Spin echo, one line per excitation: T1w (short TR), PDw or T2w (long TR) by TE and TR."""
    image = score.image()
    train = SpinEchoTrain(echo_time_s, 180.0, cartesian.dwell_s, "echo_time_s")
    played = with_dummies(cartesian.lines(score.matrix), dummy_pulses, score.matrix)
    for shot, (line, receive) in enumerate(played):
        excited_s = train.play(score, image, (line,), shot=shot, receive=receive)
        score.wait_until(
            excited_s + repetition_time_s - excite(score).centre_s,
            "repetition_time_s",
            repetition_time_s,
        )


@dataclass(frozen=True)
class Turbo:
    """What turbo spin echoes share.

    Parameters
    ----------
    echo_time_s
        Effective: the echo that reads ky = 0; a multiple of the spacing.
    echo_spacing_s
        Between echoes.
    echo_train_length
        Echoes per shot; divides the number of lines.
    refocusing_angle_deg
        Of every refocusing pulse.
    repetition_time_s
        First pulse of a shot to the first pulse of the next.
    dummy_shots
        Shots that are not received, played first.
    """

    echo_time_s: Seconds = 0.1
    echo_spacing_s: Seconds = 0.0125
    echo_train_length: PositiveCount = 16
    refocusing_angle_deg: FlipAngle = 180.0
    repetition_time_s: Seconds = 4.0
    dummy_shots: Count = 1

    def trains(self, cartesian: Cartesian, matrix: int) -> tuple[tuple[int, ...], ...]:
        """Return the lines of each shot, in echo order.

        Raises
        ------
        InvalidInput
            If the echo time is no multiple of the spacing or lies after the last echo.
        """
        echo = round(self.echo_time_s / self.echo_spacing_s)
        late = not 1 <= echo <= self.echo_train_length
        if late or abs(echo * self.echo_spacing_s - self.echo_time_s) > 1e-6:
            raise InvalidInput(
                f"echo_time_s must be 1 to {self.echo_train_length} times echo_spacing_s "
                f"{self.echo_spacing_s:.6g} s, got {self.echo_time_s:.6g} s; change one of them"
            )
        if cartesian.order != "linear":
            raise InvalidInput(
                f"order of a turbo spin echo must be linear (echo_time_s says where ky = 0 is "
                f"read), got '{cartesian.order}'; change echo_time_s instead"
            )
        return echo_trains(cartesian.lines(matrix), matrix, self.echo_train_length, echo - 1)


TURBO: Final = Turbo()
FLAIR_TURBO: Final = Turbo(repetition_time_s=9.0)
DIR_TURBO: Final = Turbo(echo_time_s=0.025, repetition_time_s=9.0)


def _turbo_shots(
    score: Score, turbo: Turbo, cartesian: Cartesian, inversions: tuple[tuple[str, float], ...]
) -> None:
    """Play every shot: inversions (name and time before the excitation), then the echo train."""
    image, shots = score.image(), turbo.trains(cartesian, score.matrix)
    train = SpinEchoTrain(
        turbo.echo_spacing_s, turbo.refocusing_angle_deg, cartesian.dwell_s, "echo_spacing_s"
    )
    for number in range(-turbo.dummy_shots, len(shots)):
        begun_s = score.time_s
        inversions_before(score, inversions, excite(score))
        train.play(score, image, shots[max(number, 0)], shot=number, receive=number >= 0)
        score.wait_until(
            begun_s + turbo.repetition_time_s, "repetition_time_s", turbo.repetition_time_s
        )


def tse(score: Score, *, turbo: Turbo = TURBO, cartesian: Cartesian = CARTESIAN) -> None:
    """Turbo spin echo (RARE, FSE): T2w or PDw by the effective echo time."""
    _turbo_shots(score, turbo, cartesian, ())


def flair_tse(
    score: Score,
    *,
    inversion_time_s: Seconds = 2.41,
    turbo: Turbo = FLAIR_TURBO,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Fluid-attenuated turbo spin echo: 180, TI to the excitation, echo train.

    `nulling.inversion_time_s` gives the TI that nulls a T1.
    """
    _turbo_shots(score, turbo, cartesian, (("inversion_time_s", inversion_time_s),))


def dir_tse(
    score: Score,
    *,
    first_inversion_time_s: Seconds = 3.45,
    second_inversion_time_s: Seconds = 0.55,
    turbo: Turbo = DIR_TURBO,
    cartesian: Cartesian = CARTESIAN,
) -> None:
    """Double-inversion turbo spin echo: both times run to the excitation.

    `nulling.double_inversion_times_s` gives the pair that nulls two T1, such as WM and CSF.
    """
    inversions = (
        ("first_inversion_time_s", first_inversion_time_s),
        ("second_inversion_time_s", second_inversion_time_s),
    )
    _turbo_shots(score, turbo, cartesian, inversions)
