"""Indices of a plan as tensors: who feeds whom, whose place a state takes, what is heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.simulate.event_tensors import Layout
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.hearing import sample_index
from bmapest_ray.simulate.plan import Floats, Ints, Plan, RepetitionPlan, Transition

_FROM_Z = (Transition.Z_TO_Z, Transition.Z_TO_PLUS)
_CONJUGATE = (Transition.CONJ_TO_Z, Transition.CONJ_TO_PLUS)
_SILENT = 1e-9


@dataclass(frozen=True)
class GraphStep:
    """Indices of one repetition; sources count the states before, then their conjugates."""

    source: Tensor
    kind: Tensor
    target: Tensor
    n_z: int
    states: slice
    parent: Tensor
    sign: Tensor
    orphan_kt: Tensor
    heard: Tensor


@dataclass(frozen=True)
class HeardSamples:
    """Which emission is heard when; first axis ``hearing``; `event` is ``(hearing, sample)``."""

    emission: Tensor
    row: Tensor
    event: Tensor
    nominal_k: Tensor


def graph_steps(plan: Plan) -> list[GraphStep]:
    """Return the indices of every repetition."""
    steps, before, total, start = [], 1, 1, 0
    for rep in plan.repetitions:
        steps.append(_step(rep, before, total, start))
        before, total = rep.n_longitudinal, rep.n_longitudinal + rep.n_transversal
        start += total
    return steps


def _step(rep: RepetitionPlan, n_z_before: int, n_before: int, start: int) -> GraphStep:
    n_states = rep.n_longitudinal + rep.n_transversal
    parent = np.zeros(n_states, dtype=np.int64)
    sign = np.zeros(n_states)
    sources = []
    for kind, edges in zip(Transition, rep.edges, strict=True):
        source = edges.source + (0 if kind in _FROM_Z else n_z_before)
        sources.append(source + (n_before if kind in _CONJUGATE else 0))
        free = sign[edges.target] == 0  # the plainest transition has the first word
        parent[edges.target[free]] = source[free]
        sign[edges.target[free]] = -1.0 if kind in _CONJUGATE else 1.0
    orphan = np.column_stack([rep.k_per_m, rep.tau_s]) * (sign == 0)[:, None]
    kinds = [np.full(len(edges.source), kind) for kind, edges in enumerate(rep.edges)]
    return GraphStep(
        source=torch.from_numpy(np.concatenate(sources)),
        kind=torch.from_numpy(np.concatenate(kinds)),
        target=torch.from_numpy(np.concatenate([edges.target for edges in rep.edges])),
        n_z=rep.n_longitudinal,
        states=slice(start, start + n_states),
        parent=torch.from_numpy(parent),
        sign=torch.from_numpy(sign),
        orphan_kt=torch.from_numpy(orphan),
        heard=torch.from_numpy(rep.n_longitudinal + rep.heard),
    )


def heard_samples(
    table: EventTable, plan: Plan, layout: Layout, nyquist: Floats, chosen: Sequence[int]
) -> HeardSamples:
    """List which state is heard in which line, at the chosen kx indices."""
    emissions, rows, places, nominals = [], [], [], []
    emission = readout = 0
    columns = np.array(chosen)
    kx = (columns + 0.5 - table.matrix / 2) / table.fov_m
    for number, (rep, states) in enumerate(zip(table.repetitions, plan.repetitions, strict=True)):
        sampled = np.flatnonzero(rep.adc)
        k_start = states.k_per_m[states.n_longitudinal + states.heard]
        while sampled.size:
            declared = table.readouts[readout]
            events = sampled[: declared.samples][_picked(table, readout, columns)]
            excess = np.abs(k_start[:, None] + rep.k_per_m[events]) - nyquist - 0.5
            window = np.prod(1 / (1 + np.exp(np.clip(excess * 100, -60, 60))), axis=2)
            audible = np.flatnonzero((window > _SILENT).any(axis=1))
            emissions.append(emission + audible)
            rows.append(np.full(len(audible), declared.image * table.matrix + declared.line))
            flat = int(layout.first[number]) + events
            places.append(np.broadcast_to(flat, (len(audible), len(flat))))
            ky = np.full(len(kx), (declared.line - table.matrix / 2) / table.fov_m)
            nominal = np.column_stack([kx, ky])
            nominals.append(np.broadcast_to(nominal, (len(audible), *nominal.shape)))
            sampled = sampled[declared.samples :]
            readout += 1
        emission += len(states.heard)
    return HeardSamples(
        emission=torch.from_numpy(np.concatenate(emissions)),
        row=torch.from_numpy(np.concatenate(rows)),
        event=torch.from_numpy(np.concatenate(places)),
        nominal_k=torch.from_numpy(np.concatenate(nominals)),
    )


def _picked(table: EventTable, readout: int, columns: Ints) -> Ints:
    """Return which samples of a readout lie at some kx."""
    index = sample_index(table, readout)
    if len(index) != table.matrix:
        msg = (
            f"a design needs readouts of {table.matrix} samples, got {len(index)}; read whole lines"
        )
        raise InvalidInput(msg)
    place = np.empty(table.matrix, dtype=np.int64)
    place[index] = np.arange(table.matrix)
    return place[columns]
