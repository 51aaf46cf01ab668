"""The signal of a chain as a function of what is played: gradients to protocol parameters.

The graph (which states exist and feed each other) is fixed; flip angles, RF phases, durations and
moments are tensors, and so are the ``k``, ``tau`` and ``b`` that follow from them. Rebuild the
graph as a design moves. A state reached on several paths takes its ``k`` and ``tau`` from one of
them, as in MR-zero's own gradients: exact where a change keeps the paths together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.simulate.event_tensors import Course, EventTensors, Layout
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.parameter_graph import graph_steps, heard_samples
from bmapest_ray.simulate.plan import Floats, Plan
from bmapest_ray.simulate.propagate import pulse_factors


@dataclass(frozen=True, eq=False)
class SpinPoints:
    """Pure points: tissue properties, fields and place; each of shape ``(point,)``, float64.

    `position_m` is ``(point, 2)``, x and y.
    """

    pd: Tensor
    t1_s: Tensor
    t2_s: Tensor
    t2dash_s: Tensor
    diffusivity_m2_per_s: Tensor
    b1: Tensor
    b0_hz: Tensor
    position_m: Tensor


class ParametricChain:
    """Samples of pure points, differentiable in what is played and in the points.

    Parameters
    ----------
    table, plan
        The chain and its graph.
    nyquist_per_m
        Largest frequency of a voxel per axis, ``(3,)``.
    columns
        kx indices that are computed; None is all.
    """

    def __init__(
        self,
        table: EventTable,
        plan: Plan,
        nyquist_per_m: Floats,
        columns: Sequence[int] | None = None,
    ) -> None:
        self.table = table
        self.columns = tuple(range(table.matrix) if columns is None else columns)
        self.layout = Layout(table)
        self.nyquist_per_m = torch.from_numpy(np.asarray(nyquist_per_m))
        self._steps = graph_steps(plan)
        sizes = torch.tensor([s.states.stop - s.states.start for s in self._steps])
        self._repetition = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self._longitudinal = torch.cat(
            [torch.arange(int(n)) < s.n_z for n, s in zip(sizes, self._steps, strict=True)]
        )
        self._heard = heard_samples(
            table, plan, self.layout, self.nyquist_per_m.numpy(), self.columns
        )
        self._counts = self._count()

    @property
    def n_rows(self) -> int:
        """Lines of all images."""
        return len(self.table.images) * self.table.matrix

    def _count(self) -> Tensor:
        rows = [r.image * self.table.matrix + r.line for r in self.table.readouts]
        return torch.bincount(torch.tensor(rows), minlength=self.n_rows)

    @property
    def sampled(self) -> Tensor:
        """Which lines are acquired, bool ``(image, ky)``."""
        return self._counts.view(-1, self.table.matrix) > 0

    def factors(self, events: EventTensors, points: SpinPoints) -> Tensor:
        """Return the signal of unit fractions but for the nominal Fourier kernel.

        Shape ``(image, ky, column, point)``, complex128; a voxel of fraction p adds
        ``p exp(-2 pi i k_nominal . x)`` times this to the sample.
        """
        course = self.layout.course(events)
        magnetisation, dephasing = self._propagate(events, course, points)
        samples = self._listen(events, course, points, magnetisation, dephasing)
        rows = samples.new_zeros((self.n_rows, *samples.shape[1:]))
        rows = rows.index_add(0, self._heard.row, samples)
        rows = rows / self._counts.clamp(min=1)[:, None, None]
        return rows.view(-1, self.table.matrix, *samples.shape[1:])

    def kspace(self, events: EventTensors, points: SpinPoints, weight: Tensor) -> Tensor:
        """Return k-space of points with some weight ``(point,)``: ``(image, ky, column)``."""
        matrix, fov_m = self.table.matrix, self.table.fov_m
        kx = (torch.tensor(self.columns, dtype=torch.float64) + 0.5 - matrix / 2) / fov_m
        ky = (torch.arange(matrix, dtype=torch.float64) - matrix / 2) / fov_m
        x, y = points.position_m.T
        turns = ky[:, None, None] * y + kx[:, None] * x
        kernel = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        total: Tensor = (self.factors(events, points) * kernel * weight).sum(-1)
        return total

    def _propagate(
        self, events: EventTensors, course: Course, points: SpinPoints
    ) -> tuple[Tensor, Tensor]:
        """Return magnetisation ``(emission, point)`` and (k, tau) ``(emission, 4)`` when heard."""
        kt = self._dephasing(course)
        fading = self._fading(kt, course, points)
        growth = -torch.expm1(-course.time_s[self.layout.last][:, None] / points.t1_s)
        angles = events.angle_rad[:, None] * points.b1
        factors = torch.stack(
            pulse_factors(angles, events.phase_rad[:, None], torch.complex128), dim=1
        )
        states = torch.ones((1, len(points.t1_s)), dtype=torch.complex128)
        first = torch.zeros(1, dtype=torch.int64)
        heard = []
        for number, step in enumerate(self._steps):
            picked = torch.cat([states, states.conj()])[step.source]
            shape = (step.states.stop - step.states.start, states.shape[1])
            moved = picked * factors[number][step.kind]
            states = torch.zeros(shape, dtype=states.dtype).index_add(0, step.target, moved)
            if step.heard.numel():
                heard.append(states[step.heard])
            states = states * fading[step.states]
            states = states.index_add(0, first, growth[number : number + 1].to(states.dtype))
        places = [kt[step.states][step.heard] for step in self._steps if step.heard.numel()]
        return torch.cat(heard), torch.cat(places)

    def _dephasing(self, course: Course) -> Tensor:
        """Return k and tau of every state right after its pulse, ``(state, 4)``."""
        last = self.layout.last
        moves = torch.cat([course.k_per_m[last], course.time_s[last, None]], dim=1)
        kt, n_z, found = torch.zeros((1, 4), dtype=torch.float64), 1, []
        moved = kt
        for number, step in enumerate(self._steps):
            kt = step.sign[:, None] * moved[step.parent] + step.orphan_kt
            found.append(kt)
            n_z = step.n_z
            moved = torch.cat([kt[:n_z], kt[n_z:] + moves[number]])
        return torch.cat(found)

    def _fading(self, kt: Tensor, course: Course, points: SpinPoints) -> Tensor:
        """Return what is left of every state at the end of its repetition, ``(state, point)``."""
        last = self.layout.last[self._repetition]
        time = course.time_s[last]
        b_z = (2 * torch.pi) ** 2 * kt[:, :3].square().sum(-1) * time
        b_plus = course.attenuation_s_per_m2(kt[:, :3], last)
        b = torch.where(self._longitudinal, b_z, b_plus)[:, None]
        longitudinal = self._longitudinal[:, None]
        rate = torch.where(longitudinal, 1 / points.t1_s, 1 / points.t2_s)
        return torch.exp(-time[:, None] * rate - b * points.diffusivity_m2_per_s)

    def _listen(
        self,
        events: EventTensors,
        course: Course,
        points: SpinPoints,
        magnetisation: Tensor,
        dephasing: Tensor,
    ) -> Tensor:
        """Return the samples of every hearing, ``(hearing, column, point)``."""
        heard = self._heard
        kt = dephasing[heard.emission][:, None]
        event = heard.event
        time = course.time_s[event]
        k = kt[..., :3] + course.k_per_m[event]
        tau = kt[..., 3] + time
        b = course.attenuation_s_per_m2(kt[..., :3], event)
        window = torch.sigmoid((self.nyquist_per_m - k.abs() + 0.5) * 100).prod(-1)
        fading = torch.exp(
            -time[..., None] / points.t2_s
            - tau.abs()[..., None] / points.t2dash_s
            - b[..., None] * points.diffusivity_m2_per_s
        )
        shift = (k[..., :2] - heard.nominal_k) @ points.position_m.T
        phase = -2 * torch.pi * (tau[..., None] * points.b0_hz + shift)
        phase = phase + events.adc_phase_rad[event][..., None]
        size = 2**0.5 * window[..., None] * fading * points.pd
        return torch.polar(size, phase) * magnetisation[heard.emission][:, None]
