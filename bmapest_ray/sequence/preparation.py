"""Magnetisation preparations: what happens before the first excitation."""

from bmapest_ray.sequence.score import Score


def inversion_pulse(score: Score) -> float:
    """Invert (180 at phase 90) and return the time of the pulse centre."""
    return score.play(score.pulse_block(180.0, 90.0, use="inversion"))


def t2_preparation(score: Score, echo_delay_s: float) -> None:
    """Play 90, half the delay, 180, half the delay, -90: leaves Mz weighted with T2.

    The refocused time from the first to the last pulse centre is the delay plus the length of two
    pulse blocks.
    """
    score.play(score.pulse_block(90.0, 0.0, use="preparation"))
    score.wait(echo_delay_s / 2)
    score.play(score.pulse_block(180.0, 90.0, use="refocusing"))
    score.wait(echo_delay_s / 2)
    score.play(score.pulse_block(90.0, 180.0, use="preparation"))
