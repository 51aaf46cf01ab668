"""Inversion times at which a T1 gives no longitudinal magnetisation at the excitation.

Steady state of shots that begin with the inversions, with the magnetisation zero at the end of the
echo train, `train_s` after the excitation.
"""

import math

from bmapest_ray.base.errors import InvalidInput


def inversion_time_s(t1_s: float, repetition_time_s: float, train_s: float) -> float:
    """Return the TI (180 to excitation) that nulls `t1_s`: T1 ln(2/(1 + exp(-(TR - train)/T1)))."""
    return t1_s * math.log(2 / (1 + math.exp(-(repetition_time_s - train_s) / t1_s)))


def double_inversion_times_s(
    short_t1_s: float, long_t1_s: float, repetition_time_s: float, train_s: float
) -> tuple[float, float]:
    """Return both times to the excitation that null two T1 (first 180, second 180).

    Solves 1 - 2 exp(-b/T1) + 2 exp(-a/T1) - exp(-(TR - train)/T1) = 0 for both T1, a > b > 0.

    Raises
    ------
    InvalidInput
        If the repetition time is too short for any pair.
    """
    free_s = repetition_time_s - train_s

    def second_s(first_s: float) -> float:
        """Return the second time that nulls the long T1, given the first."""
        decay = math.exp(-first_s / long_t1_s) + (1 - math.exp(-free_s / long_t1_s)) / 2
        return -long_t1_s * math.log(decay)

    def left(first_s: float) -> float:
        """Return what is left of the short T1, given the first time."""
        rest = 1 - math.exp(-free_s / short_t1_s)
        rest -= 2 * math.exp(-second_s(first_s) / short_t1_s)
        return rest + 2 * math.exp(-first_s / short_t1_s)

    low, high = inversion_time_s(long_t1_s, repetition_time_s, train_s), free_s
    if not 0 < low < high or left(low) * left(high) > 0:
        raise InvalidInput(
            f"a repetition time must leave room to null T1 {short_t1_s:g} and {long_t1_s:g} s, got "
            f"{repetition_time_s:g} s; raise it"
        )
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if left(low) * left(middle) > 0 else (low, middle)
    return low, second_s(low)
