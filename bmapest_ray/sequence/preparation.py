"""Magnetisation preparations: what happens before the first excitation."""

from typing import Final

from bmapest_ray.sequence.events import Block
from bmapest_ray.sequence.score import Score

SPOILER_AREA_PER_M: Final = 500.0
"""Four cycles over 8 mm: far beyond what a nominal slice resolves."""


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


def inversions_before(
    score: Score, inversions: tuple[tuple[str, float], ...], following: Block
) -> None:
    """Play spoiled inversions, each so long (its pulse centre to theirs) before another pulse.

    Parameters
    ----------
    inversions
        Name of the parameter and time in seconds, longest first; may be empty.
    following
        The block of the pulse the times run to; it is waited for, not played.
    """
    if not inversions:
        return
    pulse = score.pulse_block(180.0, 90.0, use="inversion")
    target_s = score.time_s + pulse.centre_s + inversions[0][1]
    for name, time_s in inversions:
        score.wait_until(target_s - time_s - pulse.centre_s, name, time_s)
        inversion_pulse(score)
        score.play(score.lobes(z=SPOILER_AREA_PER_M))
    name, time_s = inversions[-1]
    score.wait_until(target_s - following.centre_s, name, time_s)
