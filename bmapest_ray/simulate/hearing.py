"""What the receiver hears: which state, during which readout, with which factors.

A *hearing* is one emitting state during one readout. Its signal at sample j is

    S_j += exp(i adc_phase) window_j sum_v sqrt(2) m(v) PD(v) c(v) exp(-D b_centre)
           f(t_j; v) exp(-2 pi i k_j . x_v),
    f(t; v) = exp(-t / T2 - |tau + t| / T2' - D (b(t) - b_centre) - 2 pi i (tau + t) B0).

Hearings whose ``f`` is the same function share a *profile*; hearings that also share kx and the
window share a *trace*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.simulate.events import EventTable
from bmapest_ray.simulate.nodes import NodeSet
from bmapest_ray.simulate.plan import Floats, Ints


@dataclass(frozen=True)
class Profile:
    """The voxel factor ``f`` of a group of hearings.

    Parameters
    ----------
    nodes
        Where it is evaluated and how it is interpolated.
    tau_s
        Precession time right after the pulse.
    attenuation_s_per_m2
        ``b(t) - b_centre`` at the nodes. Shape ``(node,)``.
    """

    nodes: NodeSet
    tau_s: float
    attenuation_s_per_m2: Floats


@dataclass(frozen=True)
class Trace:
    """Positions and weights along x of a group of hearings.

    Parameters
    ----------
    kx_per_m, nominal_kx_per_m
        Of the samples, actual and as reconstructed. Shape ``(sample,)``.
    window
        Attenuation by the voxel's shape. Shape ``(sample,)``.
    """

    kx_per_m: Floats
    nominal_kx_per_m: Floats
    window: Floats


@dataclass(frozen=True)
class Hearings:
    """All hearings of a chain, sorted by image, profile, trace and offset along y.

    Every array has shape ``(hearing,)``.

    Parameters
    ----------
    emission
        Index of the state among the emissions of the plan.
    readout
        Index of the readout of the chain.
    image
        Index of the image.
    profile, trace
        Indices into ``profiles`` and ``traces``.
    phase
        ``sqrt(2) exp(i adc_phase)``.
    b_centre_s_per_m2
        b at the middle sample.
    ky_per_m, nominal_ky_per_m
        Line position of the state and of the readout.
    """

    emission: Ints
    readout: Ints
    image: Ints
    profile: Ints
    trace: Ints
    phase: NDArray[np.complex128]
    b_centre_s_per_m2: Floats
    ky_per_m: Floats
    nominal_ky_per_m: Floats
    profiles: tuple[Profile, ...]
    traces: tuple[Trace, ...]


def nominal_k_per_m(table: EventTable, readout: int) -> Floats:
    """Return where the samples of a readout are reconstructed, shape ``(sample, 2)``, 1/m."""
    if not table.on_grid:
        return table.paths[readout]
    declared = table.readouts[readout]
    index = sample_index(table, readout)
    kx = (index + 0.5 - table.matrix / 2) / table.fov_m
    ky = np.full(len(index), (declared.line - table.matrix / 2) / table.fov_m)
    return np.column_stack([kx, ky])


def sample_index(table: EventTable, readout: int) -> Ints:
    """Return the kx index of every sample of a readout."""
    declared = table.readouts[readout]
    index = np.arange(declared.samples)
    return table.matrix - 1 - index if declared.reverse else index
