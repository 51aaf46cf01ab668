"""Stopping rules shared by the solvers: each is stated, and the message says which one fired."""

from __future__ import annotations

from dataclasses import dataclass

from bmapest_ray.inversion.result import Step
from bmapest_ray.inversion.settings import SolverSettings

STALL = 3
"""Iterations in a row with a negligible decrease before a solve counts as converged."""


@dataclass(frozen=True)
class Evidence:
    """What is known about one batch item when the rules are asked.

    Parameters
    ----------
    history
        Its steps; the last one is the present point.
    promised_shift
        Root mean square of the shift, in posterior standard deviations per unknown, that the
        block model still promises; None where the noise level is unknown.
    resolution
        Relative change of the objective that rounding can cause.
    stalls
        Accepted steps in a row that lowered the objective by no more than is negligible.
    """

    history: list[Step]
    promised_shift: float | None
    resolution: float = 0.0
    stalls: int = 0


def converged(evidence: Evidence, settings: SolverSettings) -> str | None:
    """Return the reason to call an item converged, or None to go on."""
    last = evidence.history[-1]
    if last.projected_gradient <= settings.gradient_tolerance:
        return (
            f"A projected gradient step would move the fractions by {last.projected_gradient:.1e} "
            f"(rms), at most gradient_tolerance = {settings.gradient_tolerance:.1e}."
        )
    shift = evidence.promised_shift
    if shift is not None and shift <= settings.noise_tolerance:
        return (
            f"The noise floor is reached: what is left is {shift:.1e} standard deviations of the "
            f"estimate (rms), at most noise_tolerance = {settings.noise_tolerance:.1e}."
        )
    if evidence.stalls >= STALL:
        least = negligible(settings, evidence.resolution)
        return (
            f"The objective fell by less than {least:.1e} of itself (rounding error or "
            f"decrease_tolerance) in each of the last {STALL} steps."
        )
    return None


def negligible(settings: SolverSettings, resolution: float) -> float:
    """Relative decrease below which a step counts as a stall."""
    return max(settings.decrease_tolerance, resolution)


WINDOW = 50
"""Iterations over which a first-order method must improve its best objective."""


def stalled_over_window(history: list[Step], tolerance: float) -> str | None:
    """Return the reason if the best objective barely improved over the last `WINDOW` steps."""
    if len(history) <= 2 * WINDOW or tolerance <= 0:
        return None
    objectives = [step.objective for step in history]
    before, now = min(objectives[:-WINDOW]), min(objectives[-WINDOW:])
    if before - now >= tolerance * abs(before):
        return None
    return (
        f"The best objective improved by less than decrease_tolerance = {tolerance:.1e} of "
        f"itself over the last {WINDOW} iterations."
    )
