"""Amplitudes of a chain's hearings for pure tissues, tabulated over B1.

A tissue's amplitude depends on the voxel through B1 alone. Products of cosines and sines of
``B1 * angle`` are entire functions of B1, so a few Chebyshev nodes carry them; their number is
chosen by comparing with amplitudes between the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.nodes import barycentric_matrix, chebyshev_points
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.tissue.table import TissueTable

_NODE_COUNTS = (12, 18, 28, 40, 64, 96, 144)


@dataclass(frozen=True)
class TissueAmplitudes:
    """Amplitudes of pure tissues at B1 nodes.

    Parameters
    ----------
    values
        Receiver phase, ``sqrt(2)`` and diffusion up to the centre included, not the proton
        density. Shape ``(hearing, tissue, b1 node)``, complex128.
    b1_nodes
        Shape ``(b1 node,)``.
    """

    values: torch.Tensor
    b1_nodes: np.ndarray[tuple[int], np.dtype[np.float64]]

    def weights(self, b1: torch.Tensor) -> torch.Tensor:
        """Return Lagrange weights for B1 of any shape, ``(b1 node, ...)``, float64."""
        flat = barycentric_matrix(self.b1_nodes, b1.flatten().double().cpu().numpy())
        return torch.from_numpy(flat).view(-1, *b1.shape).to(b1.device)


def tissue_amplitudes(
    model: ChainModel, table: TissueTable, b1: torch.Tensor, *, tolerance: float
) -> TissueAmplitudes:
    """Tabulate the amplitudes of every tissue over the range of ``b1``.

    Raises
    ------
    SimulationError
        If no number of nodes reaches the tolerance.
    """
    propagator = Propagator(model.plan, torch.complex128)
    low, high = float(b1.min()), float(b1.max())
    if high - low < 1e-9:
        nodes = np.array([low])
        return TissueAmplitudes(_at(model, table, propagator, nodes), nodes)
    between = np.linspace(low, high, 5)
    error = float("inf")
    for count in _NODE_COUNTS:
        nodes = chebyshev_points(low, high, count)
        both = _at(model, table, propagator, np.concatenate([nodes, between]))
        values, truth = both[..., :count].contiguous(), both[..., count:]
        error = float((values @ _lagrange(nodes, between) - truth).norm() / truth.norm())
        if error <= tolerance:
            return _thinned(TissueAmplitudes(values, nodes), truth, between, tolerance)
    msg = (
        f"amplitudes over B1 must be interpolated to {tolerance:.1g}, got {error:.1g} with "
        f"{_NODE_COUNTS[-1]} nodes for B1 in {low:.2f}..{high:.2f}; check the B1 map"
    )
    raise SimulationError(msg)


def _lagrange(
    nodes: np.ndarray[tuple[int], np.dtype[np.float64]],
    points: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> torch.Tensor:
    return torch.from_numpy(barycentric_matrix(nodes, points)).to(torch.complex128)


def _thinned(
    table: TissueAmplitudes,
    truth: torch.Tensor,
    between: np.ndarray[tuple[int], np.dtype[np.float64]],
    tolerance: float,
) -> TissueAmplitudes:
    """Return the table on the fewest nodes that still keep the tolerance, half of them at least."""
    low, high = float(between[0]), float(between[-1])
    for count in range(len(table.b1_nodes) // 2, len(table.b1_nodes)):
        nodes = chebyshev_points(low, high, count)
        fewer = TissueAmplitudes(table.values @ _lagrange(table.b1_nodes, nodes), nodes)
        if float((fewer.values @ _lagrange(nodes, between) - truth).norm()) <= tolerance * float(
            truth.norm()
        ):
            return fewer
    return table


def _at(
    model: ChainModel,
    table: TissueTable,
    propagator: Propagator,
    b1: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> torch.Tensor:
    tissues = len(table.names)
    repeat = len(b1)
    diffusivity = table.column("diffusivity_m2_per_s")
    parameters = SpinParameters(
        t1_s=table.column("t1_s").repeat_interleave(repeat),
        t2_s=table.column("t2_s").repeat_interleave(repeat),
        diffusivity_m2_per_s=diffusivity.repeat_interleave(repeat),
        b1=torch.from_numpy(b1).repeat(tissues),
    )
    heard = propagator.heard(parameters)
    values = heard[torch.from_numpy(model.hearings.emission)].view(-1, tissues, repeat)
    centre = torch.from_numpy(model.hearings.b_centre_s_per_m2)
    diffusion = torch.exp(-centre[:, None, None] * diffusivity[:, None])
    return values * diffusion * torch.from_numpy(model.hearings.phase)[:, None, None]
