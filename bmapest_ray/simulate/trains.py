"""Trains of equal pulses that only tip the equilibrium: their recursion in closed form.

Where a repetition starts from the longitudinal equilibrium alone, the next one starts from
``z' = a z + b`` with ``a = cos(angle B1) exp(-T/T1)`` and ``b = 1 - exp(-T/T1)``. Over a train of
equal repetitions ``z_n = a^n z_0 + b (1 - a^n) / (1 - a)``, all lines at once: a coarse graph of a
spoiled train costs a few operations instead of a few hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.simulate.plan import Plan, RepetitionPlan, Transition

_SHORTEST = 4
"""Fewer repetitions are played one by one."""
_SMALLEST = 1e-30
_SAME = 1e-9
"""Relative change of angle or duration below which repetitions are equal."""


@dataclass(frozen=True)
class Train:
    """Equal repetitions ``first .. stop - 1``.

    Parameters
    ----------
    phase_rad
        Pulse phase of the repetitions whose transversal state is heard, in order.
    number
        Their numbers within the train, from 0.
    """

    first: int
    stop: int
    angle_rad: float
    duration_s: float
    number: tuple[int, ...]
    phase_rad: tuple[float, ...]

    def play(
        self, z: torch.Tensor, t1_s: torch.Tensor, b1: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is heard ``(heard, point)`` and the equilibrium ``(1, point)`` after it."""
        log_recovery = -self.duration_s / t1_s
        angle = self.angle_rad * b1
        log_a = torch.log(torch.cos(angle).clamp_min(_SMALLEST)) + log_recovery
        counts = [*self.number, self.stop - self.first]
        n = torch.tensor(counts, dtype=t1_s.dtype, device=t1_s.device)[:, None]
        decayed = n * log_a
        gained = torch.expm1(log_recovery) / torch.expm1(log_a).clamp_max(-_SMALLEST)
        magnetisation = torch.exp(decayed) * z[:1] - gained * torch.expm1(decayed)
        phase = torch.tensor(self.phase_rad, dtype=torch.float64, device=t1_s.device)
        turn = torch.polar(torch.ones_like(phase), phase).to(z.dtype)
        tipped = (-1j * 2**-0.5) * turn[:, None] * torch.sin(angle)
        return tipped * magnetisation[:-1], magnetisation[-1:]


def find_trains(plan: Plan) -> dict[int, Train]:
    """Return the trains of a plan by their first repetition."""
    repetitions = plan.repetitions
    trains, start = {}, 0
    while start < len(repetitions):
        stop = start
        while stop < len(repetitions) and _continues(repetitions, start, stop):
            stop += 1
        if stop - start >= _SHORTEST:
            trains[start] = _train(repetitions, start, stop)
        start = max(stop, start + 1)
    return trains


def _continues(repetitions: tuple[RepetitionPlan, ...], start: int, number: int) -> bool:
    first, rep = repetitions[start], repetitions[number]
    equal = np.allclose(
        (first.angle_rad, first.duration_s), (rep.angle_rad, rep.duration_s), rtol=_SAME, atol=0
    )
    # a train ends before its last transversal state is used again
    unused = number + 1 == len(repetitions) or not _uses_transversal(repetitions[number + 1])
    return equal and np.cos(rep.angle_rad) > 0.5 and unused and _tips_only(rep)


def _uses_transversal(rep: RepetitionPlan) -> bool:
    kinds = (Transition.PLUS_TO_PLUS, Transition.PLUS_TO_Z, Transition.CONJ_TO_Z,
             Transition.CONJ_TO_PLUS)  # fmt: skip
    return any(rep.edges[kind].source.size for kind in kinds)


def _tips_only(rep: RepetitionPlan) -> bool:
    """Whether the repetition holds the equilibrium and what its pulse makes of it, no more."""
    alone = rep.n_longitudinal == 1 and rep.n_transversal <= 1
    from_z = [rep.edges[kind].source for kind in (Transition.Z_TO_Z, Transition.Z_TO_PLUS)]
    from_equilibrium = from_z[0].size == 1 and not any(source.any() for source in from_z)
    return alone and from_equilibrium and not _uses_transversal(rep)


def _train(repetitions: tuple[RepetitionPlan, ...], start: int, stop: int) -> Train:
    heard = list(_heard(repetitions, start, stop))
    return Train(
        first=start,
        stop=stop,
        angle_rad=repetitions[start].angle_rad,
        duration_s=repetitions[start].duration_s,
        number=tuple(number - start for number in heard),
        phase_rad=tuple(repetitions[number].phase_rad for number in heard),
    )


def _heard(repetitions: tuple[RepetitionPlan, ...], start: int, stop: int) -> Iterator[int]:
    return (number for number in range(start, stop) if len(repetitions[number].heard))
