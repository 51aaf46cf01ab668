"""What a sequence plays, as tensors that carry gradients: angles, phases, durations, moments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.simulate.events import EventTable


@dataclass(frozen=True, eq=False)
class EventTensors:
    """Pulses and events of a chain, all repetitions in a row, float64.

    Parameters
    ----------
    angle_rad, phase_rad
        Of every pulse, ``(repetition,)``.
    duration_s
        Of every event, ``(event,)``.
    moment_per_m
        Gradient moment of every event, ``(event, 3)``.
    adc_phase_rad
        Phase added to the sample that an event ends in, ``(event,)``.
    """

    angle_rad: Tensor
    phase_rad: Tensor
    duration_s: Tensor
    moment_per_m: Tensor
    adc_phase_rad: Tensor

    def moved(self, steps: Iterable[tuple[Tensor, EventTensors]]) -> EventTensors:
        """Return the events plus ``sum value * direction``, differentiable in the values."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        for value, direction in steps:
            for name in moved:
                moved[name] = moved[name] + value * getattr(direction, name)
        return EventTensors(**moved)

    def minus(self, other: EventTensors, step: float) -> EventTensors:
        """Return the difference quotient ``(self - other) / step``."""
        return EventTensors(
            **{
                f.name: (getattr(self, f.name) - getattr(other, f.name)) / step
                for f in fields(self)
            }
        )

    def is_close(self, other: EventTensors) -> bool:
        """Whether another has the same events, up to what a raster rounds."""
        within = {"angle_rad": 1e-6, "phase_rad": 1e-6, "duration_s": 2e-5,
                  "moment_per_m": 1e-3, "adc_phase_rad": 1e-6}  # fmt: skip
        return all(
            bool(((getattr(self, name) - getattr(other, name)).abs() <= size).all())
            for name, size in within.items()
        )

    @property
    def scan_time_s(self) -> Tensor:
        """Time from the first pulse to the end of the chain."""
        return self.duration_s.sum()


def event_tensors(table: EventTable) -> EventTensors:
    """Return the events of a table as tensors."""
    reps = table.repetitions

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(rep, name) for rep in reps]))

    return EventTensors(
        angle_rad=torch.tensor([rep.angle_rad for rep in reps], dtype=torch.float64),
        phase_rad=torch.tensor([rep.phase_rad for rep in reps], dtype=torch.float64),
        duration_s=joined("duration_s"),
        moment_per_m=joined("moment_per_m"),
        adc_phase_rad=joined("adc_phase_rad"),
    )


def same_structure(one: EventTable, other: EventTable) -> bool:
    """Whether two tables play the same pulses, events and samples, at whatever times."""
    return (
        _places(one) == _places(other)
        and [len(r.duration_s) for r in one.repetitions]
        == [len(r.duration_s) for r in other.repetitions]
        and all(
            np.array_equal(a.adc, b.adc)
            for a, b in zip(one.repetitions, other.repetitions, strict=True)
        )
    )


def _places(table: EventTable) -> list[tuple[int, int, bool, int]]:
    return [(r.image, r.line, r.reverse, r.samples) for r in table.readouts]


@dataclass(frozen=True, eq=False)
class Course:
    """Sums of the events since the pulse of their repetition; first axis ``event``.

    Parameters
    ----------
    time_s, k_per_m
        At the end of every event, ``(event,)`` and ``(event, 3)``.
    linear, constant
        What ``b`` needs: it is ``(2 pi)^2 / 3 (3 k^2 t + 3 k . linear + constant)`` for a state
        that starts at ``k``.
    """

    time_s: Tensor
    k_per_m: Tensor
    linear: Tensor
    constant: Tensor

    def attenuation_s_per_m2(self, k_start: Tensor, events: Tensor) -> Tensor:
        """Return b at the end of events for states that start at ``k_start (..., 3)``."""
        squares = k_start.square().sum(-1)
        cross = (k_start * self.linear[events]).sum(-1)
        factor = (2 * torch.pi) ** 2 / 3
        return factor * (3 * squares * self.time_s[events] + 3 * cross + self.constant[events])


@dataclass(frozen=True, eq=False)
class Layout:
    """Which events belong to which repetition of a table."""

    table: EventTable

    @cached_property
    def counts(self) -> Tensor:
        """Events per repetition."""
        return torch.tensor([len(rep.duration_s) for rep in self.table.repetitions])

    @cached_property
    def first(self) -> Tensor:
        """First event of every repetition."""
        return self.counts.cumsum(0) - self.counts

    @cached_property
    def last(self) -> Tensor:
        """Last event of every repetition."""
        return self.counts.cumsum(0) - 1

    @cached_property
    def repetition(self) -> Tensor:
        """Repetition of every event."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)

    def course(self, events: EventTensors) -> Course:
        """Sum the events up.

        Raises
        ------
        InvalidInput
            If the events are not those of the table.
        """
        if len(events.duration_s) != len(self.repetition):
            msg = (
                f"a chain of {len(self.repetition)} events must be given as many, got "
                f"{len(events.duration_s)}; rebuild its graph"
            )
            raise InvalidInput(msg)
        after = self._summed(events.moment_per_m)
        before = after - events.moment_per_m
        duration = events.duration_s
        mixed = (before.square() + before * after + after.square()).sum(-1)
        return Course(
            time_s=self._summed(duration),
            k_per_m=after,
            linear=self._summed(duration[:, None] * (before + after)),
            constant=self._summed(duration * mixed),
        )

    def _summed(self, values: Tensor) -> Tensor:
        total = values.cumsum(0)
        start = torch.cat([torch.zeros_like(total[:1]), total])[self.first]
        return total - start[self.repetition]
