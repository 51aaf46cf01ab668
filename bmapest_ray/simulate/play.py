"""The compiled propagation of a plan with its derivatives, as torch sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bmapest_ray.simulate.plan import Plan, RepetitionPlan, Transition
from bmapest_ray.simulate.play_loops import UNUSED, WIDTH, Array, play

_COLUMN = {
    Transition.Z_TO_Z: 1, Transition.Z_TO_PLUS: 1, Transition.PLUS_TO_PLUS: 2,
    Transition.PLUS_TO_Z: 2, Transition.CONJ_TO_Z: 3, Transition.CONJ_TO_PLUS: 3,
}  # fmt: skip
_FROM_Z = (Transition.Z_TO_Z, Transition.Z_TO_PLUS)


@dataclass(frozen=True, eq=False)
class PackedPlan:
    """A plan as flat arrays, as `play` takes them."""

    pulses: Array
    counts: Array
    gathers: Array
    attenuation: Array
    heard: Array

    def run(self, points: torch.Tensor, planes: int) -> torch.Tensor:
        """Return value and slopes ``(plane, emission, point)`` at ``(4, point)``: T1, T2, D, B1.

        ``planes`` is 1 for the value alone, 4 with the slopes to T1, T2, D, and 5 with B1 as well.
        """
        count = points.shape[1]
        missing = -count % WIDTH
        padded = torch.cat([points, points[:, -1:].expand(-1, missing)], dim=1).contiguous()
        dtype = torch.complex128 if points.dtype == torch.float64 else torch.complex64
        out = torch.empty((planes, len(self.heard), padded.shape[1]), dtype=dtype)
        play(
            self.pulses, self.counts, self.gathers, self.attenuation.astype(padded.numpy().dtype),
            self.heard, padded.numpy(), out.numpy(),
        )  # fmt: skip
        return out[..., :count]


def pack(plan: Plan) -> PackedPlan:
    """Flatten a plan."""
    most = max(rep.n_longitudinal + rep.n_transversal for rep in plan.repetitions)
    pulses, counts, gathers, heard = [], [], [], []
    n_z_before = 1
    for rep in plan.repetitions:
        states = rep.n_longitudinal + rep.n_transversal
        gathered = _gathers(rep, n_z_before, empty=most)
        gathers.append(gathered)
        n_z_before = rep.n_longitudinal
        heard.append(rep.heard + n_z_before)
        pulses.append((rep.angle_rad, rep.phase_rad, rep.duration_s))
        counts.append((n_z_before, states, len(gathered), len(rep.heard)))
    return PackedPlan(
        pulses=np.array(pulses, dtype=np.float64),
        counts=np.array(counts, dtype=np.int64),
        gathers=np.concatenate(gathers).astype(np.int64),
        attenuation=np.concatenate(_attenuations(plan, gathers)),
        heard=np.concatenate(heard).astype(np.int64),
    )


def _attenuations(plan: Plan, gathers: list[Array]) -> list[Array]:
    """Return b of every state, `UNUSED` where the next pulse takes nothing from it."""
    found = []
    for rep, following in zip(plan.repetitions, [*gathers[1:], gathers[0][:0]], strict=True):
        used = np.isin(np.arange(len(rep.attenuation_s_per_m2)), following[:, 1:])
        used[0] = True  # it regrows
        found.append(np.where(used, rep.attenuation_s_per_m2, UNUSED))
    return found


def _gathers(rep: RepetitionPlan, n_z_before: int, *, empty: int) -> Array:
    """Return the edges of a repetition by target, up to three of unlike sources at once.

    Edges of one kind into one target, which are states that a pulse made equal, take further rows.
    """
    targets, numbers, columns, sources = [], [], [], []
    for kind, edges in zip(Transition, rep.edges, strict=True):
        targets.append(edges.target)
        numbers.append(_occurrences(edges.target))
        columns.append(np.full(len(edges.target), _COLUMN[kind]))
        sources.append(edges.source + (0 if kind in _FROM_Z else n_z_before))
    most = 1 + max((int(target.max()) for target in targets if len(target)), default=0)
    key = np.concatenate(numbers) * most + np.concatenate(targets)
    keys, row = np.unique(key, return_inverse=True)
    rows = np.full((len(keys), 4), empty, dtype=np.int64)
    rows[:, 0] = keys % most
    rows[row, np.concatenate(columns)] = np.concatenate(sources)
    return rows


def _occurrences(values: Array) -> Array:
    """Return how many equal values come before each, shape as ``values``."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.empty_like(order)
    counts[order] = np.arange(len(values)) - np.repeat(
        starts, np.diff(np.append(starts, len(values)))
    )
    return counts


class _Slopes(torch.autograd.Function):
    """Value and slopes; a function of its own, since only its arguments come unwrapped."""

    @staticmethod
    def forward(plan: PackedPlan, planes: int, *points: torch.Tensor) -> torch.Tensor:
        return plan.run(torch.stack(points), planes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ANN401
        del inputs
        ctx.mark_non_differentiable(output)


class Played(torch.autograd.Function):
    """``(emission, point)`` from T1, T2, D and B1; once differentiable, both ways."""

    @staticmethod
    def forward(  # noqa: D102 - see the class
        plan: PackedPlan, t1: torch.Tensor, t2: torch.Tensor, d: torch.Tensor, b1: torch.Tensor
    ) -> torch.Tensor:
        return plan.run(torch.stack([t1, t2, d, b1]), 1)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ANN401
        """Keep the points: slopes are computed when they are asked for."""
        del output
        ctx.plan = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        """Return ``Re sum_e conj(slope) g``."""
        planes = 5 if ctx.needs_input_grad[4] else 4
        slopes = _Slopes.apply(ctx.plan, planes, *ctx.saved_tensors)[1:]  # type: ignore[no-untyped-call]
        gradients = (slopes.conj() * cotangent).real.sum(dim=1)
        return None, *gradients, *([None] * (5 - planes))

    @staticmethod
    def jvp(ctx: Any, plan: None, *tangents: torch.Tensor | None) -> torch.Tensor:  # noqa: ANN401
        """Return ``sum_i slope_i d_i``."""
        del plan
        planes = 4 if tangents[3] is None else 5
        slopes = _Slopes.apply(ctx.plan, planes, *ctx.saved_tensors)[1:]  # type: ignore[no-untyped-call]
        parts = [s * d for s, d in zip(slopes, tangents, strict=False) if d is not None]
        return torch.stack(parts).sum(dim=0)
