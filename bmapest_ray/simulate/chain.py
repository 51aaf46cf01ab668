"""One chain made ready for simulation: events, graph, hearings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.build import build_chain
from bmapest_ray.sequence.protocol import Chain, Protocol, StateAccuracy
from bmapest_ray.sequence.scanner import Scanner
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.hearing import Hearings
from bmapest_ray.simulate.listen import find_hearings
from bmapest_ray.simulate.plan import Plan
from bmapest_ray.simulate.prepass import make_plan
from bmapest_ray.simulate.score_events import events_of
from bmapest_ray.simulate.stage import Probes
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import TissueTable

_B1_PROBES = 2
_B1_STEP = 0.05


@dataclass(frozen=True)
class MeanTissue:
    """What a graph for the mean of a head is made for.

    Parameters
    ----------
    shares
        Mean fraction of every tissue over the voxels of the head; GM, WM and CSF of the default
        anatomy's slice.
    b1
        Equally likely values of B1 in it; what a pulse does is averaged over them.
    """

    shares: tuple[float, ...] = (0.463, 0.355, 0.102)
    b1: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class ChainModel:
    """A chain with its phase graph.

    Parameters
    ----------
    table
        Events of the chain.
    plan
        States that serve every tissue and B1 of the object.
    hearings
        What is received.
    grid
        Voxels of the object.
    """

    table: EventTable
    plan: Plan
    hearings: Hearings
    grid: VoxelGrid


HEAD = MeanTissue()
"""That of the default anatomy's slice, at nominal B1."""


@lru_cache(maxsize=64)
def event_table(chain: Chain, scanner: Scanner, matrix: int, fov_m: float) -> EventTable:
    """Return the events of a chain, built once per process.

    Straight from the score where it can be: writing, reading and checking a ``.seq`` file and
    loading MR-zero for that takes longer than all else that an operator needs.

    Raises
    ------
    InvalidInput
        If the chain breaks a limit of the scanner.
    """
    score = chain.write(matrix, fov_m, scanner)
    known = all(block.raw is None for block in score.blocks)
    if known and all(readout.on_grid for readout in score.readouts):
        return events_of(score)
    return mrzero.import_chain(build_chain(chain, matrix, fov_m, scanner), matrix, fov_m)


@lru_cache(maxsize=64)
def _plan(
    chain: Chain,
    scanner: Scanner,
    acquisition: VoxelGrid,
    grid: VoxelGrid,
    table: TissueTable,
    mixing: Mixing,
    b1_range: tuple[float, float],
    accuracy: StateAccuracy,
    mean: MeanTissue,
) -> Plan:
    events = event_table(chain, scanner, acquisition.matrix, acquisition.fov_m)
    probes = make_probes(table, mixing, b1_range, mean=mean if accuracy.is_for_mean else None)
    nyquist = mrzero.nyquist_per_m(grid.matrix, grid.fov_m).double().numpy()
    return make_plan(events, probes, accuracy, nyquist)


def make_probes(
    table: TissueTable,
    mixing: Mixing,
    b1_range: tuple[float, float],
    *,
    mean: MeanTissue | None = None,
) -> Probes:
    """Return the parameter sets that a graph must serve: tissues, their means, a few B1.

    Averaged voxels lie between the tissues, so the mean of each pair and of all is a probe too.
    With ``mean`` nothing but the mean tissue of a head is probed, as MR-zero does by default.
    """
    rows = np.array(
        [table.t1_s, table.t2_s, table.t2dash_s, table.diffusivity_m2_per_s], dtype=np.float64
    )
    if mean is not None:
        t1_s, t2_s, t2dash_s, diffusivity = (rows @ np.array(mean.shares))[:, None]
        return Probes(t1_s, t2_s, t2dash_s, diffusivity, np.array([mean.b1]))
    columns = list(rows.T)
    if not mixing.is_linear:
        count = rows.shape[1]
        pairs = [(rows[:, i] + rows[:, j]) / 2 for i in range(count) for j in range(i)]
        columns += [*pairs, rows.mean(axis=1)]
    b1 = np.unique(np.linspace(*b1_range, _B1_PROBES))
    points = np.repeat(np.array(columns), len(b1), axis=0).T
    t1_s, t2_s, t2dash_s, diffusivity = points
    return Probes(t1_s, t2_s, t2dash_s, diffusivity, np.tile(b1, len(columns)))


def b1_bounds(b1: torch.Tensor) -> tuple[float, float]:
    """Return the range of B1, widened to a raster so that similar fields share a graph."""
    low = np.floor(float(b1.min()) / _B1_STEP) * _B1_STEP
    high = np.ceil(float(b1.max()) / _B1_STEP) * _B1_STEP
    return round(float(low), 6), round(float(high), 6)


def prepare_chain(
    chain: Chain,
    protocol: Protocol,
    acquisition: VoxelGrid,
    grid: VoxelGrid,
    table: TissueTable,
    fields: Fields,
    mixing: Mixing,
    *,
    tolerance: float,
    mean: MeanTissue = HEAD,
) -> ChainModel:
    """Build, import and plan one chain.

    Parameters
    ----------
    chain, protocol
        The chain and the protocol that gives scanner and accuracy.
    acquisition
        Matrix and field of view of the sequence.
    grid
        Voxels of the object; finer than the acquisition for honest data.
    table, fields, mixing
        The object.
    tolerance
        Of the interpolation within a readout.
    mean
        Where the graph is made for the mean tissue, that of which head.

    Raises
    ------
    InvalidInput
        If the fields do not lie on the grid or the chain breaks a limit.
    SimulationError
        If a readout has no signal.
    """
    if fields.matrix != grid.matrix:
        msg = (
            f"field maps must have the matrix of the object ({grid.matrix}), got {fields.matrix}; "
            "resample them"
        )
        raise InvalidInput(msg)
    plan = _plan(
        chain,
        protocol.scanner,
        acquisition,
        grid,
        table,
        mixing,
        b1_bounds(fields.b1),
        protocol.accuracy,
        mean,
    )
    events = event_table(chain, protocol.scanner, acquisition.matrix, acquisition.fov_m)
    decay = [1 / t2 + 1 / dash for t2, dash in zip(table.t2_s, table.t2dash_s, strict=True)]
    hearings = find_hearings(
        events,
        plan,
        mrzero.nyquist_per_m(grid.matrix, grid.fov_m).double().numpy(),
        max_b0_hz=max(1.0, float(fields.b0_hz.abs().max())),
        max_decay_per_s=max(decay),
        max_diffusivity_m2_per_s=max(table.diffusivity_m2_per_s),
        tolerance=tolerance,
    )
    return ChainModel(table=events, plan=plan, hearings=hearings, grid=grid)
