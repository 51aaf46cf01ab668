"""Signal of a voxel of pure tissue in every contrast, as a smooth function of what is not known.

For whole volumes at 1 mm the affordable model is voxel-wise: a voxel of tissue t shows the signal
of the middle of k-space, where an image gets its contrast; the point spread of a readout is left
out. The signal is tabulated over log T1, log T2 and B1 and interpolated by polynomials.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.chain import ChainModel, prepare_chain
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.nodes import chebyshev_points
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.voxels import decay
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import TissueTable

B1_RANGE = (0.6, 1.4)
_B1_NODES = 7
_LOG_T1 = (-0.45, -0.15, 0.15, 0.45)
_LOG_T2 = (-0.45, 0.0, 0.45)
_NODE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Response:
    """Signals of pure tissues, per unit of proton density, real up to one phase per contrast.

    Parameters
    ----------
    names
        Contrasts.
    values
        Shape `(contrast, tissue, t1 node, t2 node, b1 node)`.
    table
        The tissues that the nodes are relative to.
    quadrature
        Largest share of a tissue's signal that is out of phase with the contrast's; it is lost.
    """

    names: tuple[str, ...]
    values: Tensor
    table: TissueTable
    quadrature: float = 0.0

    def at(self, log_t1: Tensor, log_t2: Tensor) -> Tensor:
        """Return signals at the B1 nodes for changes of log T1 and log T2, ``(tissue,)`` each.

        Shape `(b1 node, contrast, tissue)`, differentiable, proton density left out.
        """
        first = _lagrange(_LOG_T1, log_t1).to(self.values)
        second = _lagrange(_LOG_T2, log_t2).to(self.values)
        return torch.einsum("ctabn,ta,tb->nct", self.values, first, second)

    def only(self, image: str, name: str) -> Response:
        """Return one image of a protocol, by its name's end or its number, renamed `name`.

        Raises
        ------
        InvalidInput
            If there are several images and none is picked, or no such image.
        """
        if not image and len(self.names) == 1:
            return replace(self, names=(name,))
        ends = [str(number) for number in range(len(self.names))]
        found = [i for i, n in enumerate(self.names) if image and image in (n.split(".")[-1], n)]
        found = found or [i for i, end in enumerate(ends) if image == end]
        if len(found) != 1:
            raise InvalidInput(
                f"{name} makes the images {', '.join(self.names)}, '{image}' picks none of them; "
                f"write e.g. FILE={name}:{ends[-1]}"
            )
        return replace(self, names=(f"{name}{image}",), values=self.values[found])

    @staticmethod
    def b1_weights(b1: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights of the B1 nodes at B1 ``(voxel,)`` and their slopes, each `(voxel, node)`.

        B1 outside the tabulated range counts as the range's edge.
        """
        low, high = B1_RANGE
        x = (2 * b1.clamp(low, high) - low - high) / (high - low)
        powers = [torch.ones_like(x)]
        for _ in range(_B1_NODES - 1):
            powers.append(powers[-1] * x)
        slopes = [torch.zeros_like(x), *(k * power for k, power in enumerate(powers[:-1], 1))]
        matrix = _from_powers().to(b1)
        return torch.stack(powers, 1) @ matrix, torch.stack(slopes, 1) @ matrix * 2 / (high - low)


@cache
def _from_powers() -> Tensor:
    """Return the matrix from powers of B1, scaled to [-1, 1], to weights of the nodes."""
    low, high = B1_RANGE
    x = (2 * b1_nodes() - low - high) / (high - low)
    return torch.from_numpy(np.linalg.inv(np.vander(x, increasing=True)))


def b1_nodes() -> np.ndarray:
    """Return the B1 at which signals are tabulated."""
    return chebyshev_points(*B1_RANGE, _B1_NODES)


def response_of(protocol: Protocol, table: TissueTable, matrix: int, fov_m: float) -> Response:
    """Simulate the response of every image of a protocol.

    Parameters
    ----------
    matrix, fov_m
        Lines and field of view of the sequence: they decide how long its trains are.

    Raises
    ------
    InvalidInput
        If the sequence cannot be played on that matrix or does not read the middle of k-space.
    """
    values, quadrature = [], 0.0
    for chain in protocol.chains:
        grid = VoxelGrid(matrix, fov_m)
        b1 = torch.ones(matrix, matrix)
        b1[0, 0], b1[0, 1] = B1_RANGE
        fields = Fields(torch.zeros(matrix, matrix), b1)
        model = prepare_chain(
            chain, protocol, grid, grid, table, fields, Mixing.COMPARTMENTS,
            tolerance=_NODE_TOLERANCE,
        )  # fmt: skip
        for signal in _central_signals(model, table):
            real, lost = _in_phase(signal)
            values.append(real)
            quadrature = max(quadrature, lost)
    return Response(image_names(protocol), torch.stack(values), table, quadrature)


def image_names(protocol: Protocol) -> tuple[str, ...]:
    """Return the names of the images that a protocol makes."""
    grid = VoxelGrid(32, 0.2)
    scores = (c.write(grid.matrix, grid.fov_m, protocol.scanner) for c in protocol.chains)
    return tuple(name for score in scores for name in score.images)


def joined(responses: list[Response]) -> Response:
    """Return the contrasts of several responses as one."""
    return replace(
        responses[0],
        names=tuple(name for response in responses for name in response.names),
        values=torch.cat([response.values for response in responses]),
        quadrature=max(response.quadrature for response in responses),
    )


def _central_signals(model: ChainModel, table: TissueTable) -> list[Tensor]:
    """Return the complex signal ``(tissue, t1, t2, b1)`` at the middle of k-space of each image."""
    count = len(table.names)
    shape = (count, len(_LOG_T1), len(_LOG_T2), _B1_NODES)
    t1_s = _scaled(table.column("t1_s"), _LOG_T1)[:, :, None, None].expand(shape).flatten()
    t2_s = _scaled(table.column("t2_s"), _LOG_T2)[:, None, :, None].expand(shape).flatten()
    t2dash_s = table.column("t2dash_s")[:, None, None, None].expand(shape).flatten()
    diffusivity = table.column("diffusivity_m2_per_s")[:, None, None, None].expand(shape).flatten()
    b1 = torch.from_numpy(b1_nodes()).expand(shape).flatten()
    propagator = Propagator(model.plan, torch.complex128)
    heard = propagator.heard(SpinParameters(t1_s, t2_s, diffusivity, b1))
    found = model.hearings
    middle = 0.5 / model.table.fov_m
    signals = []
    for image in range(int(found.image.max()) + 1):
        central = (found.image == image) & (np.abs(found.nominal_ky_per_m) < middle)
        if not central.any():
            msg = "a contrast must read the middle of k-space, got an image without it"
            raise InvalidInput(f"{msg}; choose a Cartesian sequence with full sampling")
        total = torch.zeros(len(b1), dtype=torch.complex128)
        for index in np.flatnonzero(central):
            profile = found.profiles[found.profile[index]]
            fading = decay(profile, t2_s, t2dash_s, diffusivity)
            centre = torch.exp(-float(found.b_centre_s_per_m2[index]) * diffusivity)
            emitted = heard[int(found.emission[index])] * complex(found.phase[index])
            total += emitted * centre * fading[len(fading) // 2]
        signals.append(total.view(shape))
    return signals


def _scaled(values: Tensor, logs: tuple[float, ...]) -> Tensor:
    return values[:, None] * torch.tensor(logs, dtype=torch.float64).exp()


def _in_phase(signal: Tensor) -> tuple[Tensor, float]:
    """Turn a signal so that its strongest tissue is real and positive; drop what is not real."""
    flat = signal.flatten()
    strongest = flat[flat.abs().argmax()]
    turned = signal * (strongest.conj() / strongest.abs())
    return turned.real, float(turned.imag.abs().max() / turned.abs().max())


def _lagrange(nodes: tuple[float, ...], points: Tensor) -> Tensor:
    """Return polynomial weights ``(point, node)`` at points, differentiable."""
    columns = []
    for index, node in enumerate(nodes):
        others = [other for other in nodes if other != node]
        terms = [(points - other) / (nodes[index] - other) for other in others]
        columns.append(torch.stack(terms).prod(0))
    return torch.stack(columns, dim=-1)
