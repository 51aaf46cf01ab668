"""The signals of a protocol at the design's voxels, line by line, per unit of fraction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.sequence.protocol import Chain, Protocol, StateAccuracy
from bmapest_ray.simulate.chain import b1_bounds, make_probes
from bmapest_ray.simulate.event_tensors import EventTensors, event_tensors
from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.mrzero import nyquist_per_m
from bmapest_ray.simulate.parameters import ParametricChain, SpinPoints
from bmapest_ray.simulate.prepass import make_plan
from bmapest_ray.simulate.score_events import events_of
from bmapest_ray.tissue.mixing import Mixing

_STEP = 1e-3
"""Relative step of the difference quotients in a nuisance."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Where along kx the information is evaluated: symmetric indices and their weights."""

    index: tuple[int, ...]
    weight: Tensor


def gauss_columns(matrix: int, count: int) -> Columns:
    """Return Gauss-Legendre points over a line, on the nearest samples; weights sum to 1."""
    if count == matrix:
        return Columns(tuple(range(matrix)), torch.full((matrix,), 1 / matrix, dtype=torch.float64))
    nodes, weights = np.polynomial.legendre.leggauss(count)
    upper = np.round((nodes[nodes > 0] + 1) * matrix / 2 - 0.5).astype(int)
    upper = np.clip(upper, matrix // 2, matrix - 1)
    index = (*(matrix - 1 - upper[::-1]), *upper)
    return Columns(tuple(int(i) for i in index), torch.from_numpy(weights / weights.sum()))


@dataclass(frozen=True, eq=False)
class Signals:
    """What a protocol measures of unit fractions.

    Parameters
    ----------
    tissues
        ``(image, ky, column, tissue, voxel)``, complex128, without the nominal Fourier kernel.
    nuisances
        Change of the signal per unit of every nuisance, ``(image, ky, column, nuisance, voxel)``.
    sampled
        Which lines are acquired, bool ``(image, ky)``.
    dwell_s
        Of every image.
    """

    tissues: Tensor
    nuisances: Tensor
    sampled: Tensor
    dwell_s: Tensor


class ChainSignals:
    """The graph of a chain, ready to give signals for any events close to those it was built for.

    Parameters
    ----------
    table
        Events of the chain.
    accuracy
        Of its states.
    setting
        Circumstances.
    dwell_s
        Of every image of the chain.
    """

    def __init__(
        self, table: EventTable, accuracy: StateAccuracy, setting: DesignSetting, dwell_s: Tensor
    ) -> None:
        grid = setting.acquisition
        self.setting = setting
        self.dwell_s = dwell_s
        self.columns = gauss_columns(grid.matrix, setting.columns)
        nyquist = nyquist_per_m(grid.matrix, grid.fov_m).double().numpy()
        bounds = b1_bounds(setting.voxels.b1)
        probes = make_probes(setting.table, Mixing.COMPARTMENTS, bounds)
        plan = make_plan(table, probes, accuracy, nyquist)
        self.parametric = ParametricChain(table, plan, nyquist, self.columns.index)
        self.nominal = event_tensors(table)

    def at(self, events: EventTensors | None = None) -> Signals:
        """Return the signals for events; none are those of the table."""
        setting = self.setting
        tissues, voxels = len(setting.table.names), len(setting.voxels)
        points = setting.voxels.points(setting.table)
        variants = [points, *_perturbed(points, tuple(setting.nuisances))]
        stacked = self.parametric.factors(events or self.nominal, _joined(variants))
        split = stacked.view(*stacked.shape[:3], len(variants), tissues, voxels)
        return Signals(
            tissues=split[:, :, :, 0],
            nuisances=self._nuisances(split),
            sampled=self.parametric.sampled,
            dwell_s=self.dwell_s,
        )

    def _nuisances(self, split: Tensor) -> Tensor:
        """Return the columns of the nuisances from plain and perturbed signals."""
        fraction = self.setting.voxels.fraction.to(split.dtype)
        columns: list[Tensor] = []
        place = 1
        for name in self.setting.nuisances:
            if name == "phase":
                columns.append((1j * split[:, :, :, 0] * fraction).sum(-2)[:, :, :, None])
                continue
            change = (split[:, :, :, place] - split[:, :, :, place + 1]) / (2 * _STEP) * fraction
            columns.append(change.sum(-2)[:, :, :, None] if name == "b1" else change)
            place += 2
        if not columns:
            return split[:, :, :, 0, :0]
        return torch.cat(columns, dim=-2)


def nuisance_names(setting: DesignSetting) -> tuple[str, ...]:
    """Return the nuisance of every column of `Signals.nuisances`."""
    names = []
    for name in setting.nuisances:
        names += [name] * (1 if name in ("b1", "phase") else len(setting.table.names))
    return tuple(names)


def chain_signals(chain: Chain, protocol: Protocol, setting: DesignSetting) -> ChainSignals:
    """Build the graph of a chain under a setting.

    Raises
    ------
    InvalidInput
        If the chain breaks a limit of the scanner.
    SimulationError
        If a readout has no signal.
    """
    grid = setting.acquisition
    score = chain.write(grid.matrix, grid.fov_m, protocol.scanner)
    by_image = {readout.image: readout.dwell_s for readout in score.readouts}
    dwell = torch.tensor([by_image[i] for i in range(len(score.images))], dtype=torch.float64)
    return ChainSignals(events_of(score), setting.accuracy or protocol.accuracy, setting, dwell)


def _perturbed(points: SpinPoints, names: tuple[str, ...]) -> list[SpinPoints]:
    """Return the points with each nuisance up and down; tissues change one at a time in effect.

    A tissue's signal depends on its own T1, T2 and density alone, so all change at once.
    """
    keys = {"b1": "b1", "t1": "t1_s", "t2": "t2_s", "pd": "pd"}
    variants = []
    for name in names:
        if name in keys:
            value = getattr(points, keys[name])
            variants += [
                replace(points, **{keys[name]: value * (1 + sign * _STEP)}) for sign in (1, -1)
            ]
    return variants


def _joined(variants: list[SpinPoints]) -> SpinPoints:
    names = SpinPoints.__dataclass_fields__
    return SpinPoints(**{n: torch.cat([getattr(v, n) for v in variants]) for n in names})
