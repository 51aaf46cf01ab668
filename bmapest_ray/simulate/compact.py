"""Renumber the states that a search keeps, list their edges and which of them are heard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.plan import Edges, Ints, RepetitionPlan, Transition
from bmapest_ray.simulate.stage import Stage, starts_longitudinal


def compact(
    stages: list[Stage], table: EventTable, accuracy: StateAccuracy, strongest: float
) -> tuple[RepetitionPlan, ...]:
    """Renumber the states that stay and list their edges."""
    plans = []
    before = np.zeros(1, dtype=np.int64)
    n_z_before = 1
    for stage, rep in zip(stages, table.repetitions, strict=True):
        assert stage.latent is not None  # noqa: S101 - set by _backward
        keep = stage.latent >= accuracy.min_latent_signal * strongest
        keep[0] = True
        fid = stage.children[Transition.Z_TO_PLUS][0]
        if accuracy.is_for_mean:
            fid = -1  # MR-zero's mean graph loses the lines where the mean tissue is nulled
        if rep.adc.any() and fid >= 0:
            keep[fid] = True
        number = np.where(keep, np.cumsum(keep) - 1, -1)
        n_z = int(keep[: stage.n_z].sum())
        plans.append(
            RepetitionPlan(
                angle_rad=rep.angle_rad,
                phase_rad=rep.phase_rad,
                duration_s=float(rep.time_s[-1]),
                n_longitudinal=n_z,
                n_transversal=int(keep.sum()) - n_z,
                edges=_edges(stage, number, before, n_z_before),
                k_per_m=stage.k[keep],
                tau_s=stage.tau[keep],
                attenuation_s_per_m2=stage.attenuation[keep],
                heard=_heard(stage, rep, keep, n_z, fid, accuracy, strongest),
            )
        )
        before, n_z_before = number, stage.n_z
    return tuple(plans)


def _edges(stage: Stage, number: Ints, before: Ints, n_z_before: int) -> tuple[Edges, ...]:
    kept_z = before[:n_z_before]
    kept_plus = before[n_z_before:]
    offset = int((kept_z >= 0).sum())
    edges = []
    for kind in Transition:
        child = stage.children[kind]
        source = (
            kept_z
            if starts_longitudinal(kind)
            else np.where(kept_plus >= 0, kept_plus - offset, -1)
        )
        target = np.where(child >= 0, number[child], -1)
        used = (source >= 0) & (target >= 0)
        edges.append(Edges(source=source[used], target=target[used]))
    return tuple(edges)


def _heard(
    stage: Stage,
    rep: Repetition,
    keep: NDArray[np.bool_],
    n_z: int,
    fid: int,
    accuracy: StateAccuracy,
    strongest: float,
) -> Ints:
    if not rep.adc.any():
        return np.zeros(0, dtype=np.int64)
    loudest = stage.emission.max(axis=1)
    loud = (loudest >= accuracy.min_emitted_signal * strongest) & (loudest > 0)
    if fid >= 0:
        loud[fid] = loudest[fid] > 0
    heard: Ints = np.flatnonzero(loud[keep]) - n_z
    if not heard.size and not accuracy.is_for_mean:
        msg = (
            "every ADC line must have a state that emits, got a readout without signal after a "
            f"pulse of {np.rad2deg(rep.angle_rad):.3g} degrees; lower min_emitted_signal or check "
            "the pulse"
        )
        raise SimulationError(msg)
    return heard
