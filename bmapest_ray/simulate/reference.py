"""The reference engine: ``mr0.execute_graph`` on the states of a plan, sample by sample.

Used to hold the fast engines to MR-zero. The graph handed to MR-zero is the plan itself (equal
states, so that only the execution is compared) or MR-zero's own pre-pass.
"""

from __future__ import annotations

from typing import Any

import torch

from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encode import Encoder
from bmapest_ray.simulate.exact import check_fractions
from bmapest_ray.simulate.nufft_operator import off_grid_images
from bmapest_ray.simulate.operator import make_channels
from bmapest_ray.simulate.plan import Plan, RepetitionPlan, Transition
from bmapest_ray.simulate.reconstruct import images_of
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import mixed_properties
from bmapest_ray.tissue.table import TissueTable

_KIND = {
    Transition.Z_TO_Z: "zz",
    Transition.Z_TO_PLUS: "z+",
    Transition.PLUS_TO_PLUS: "++",
    Transition.PLUS_TO_Z: "+z",
    Transition.CONJ_TO_Z: "-z",
    Transition.CONJ_TO_PLUS: "-+",
}


class State:
    """A state as ``execute_graph`` reads and writes it."""

    def __init__(self, dist_type: str, *, heard: bool) -> None:
        self.dist_type = dist_type
        self.ancestors: list[tuple[str, State]] = []
        self.latent_signal = 1.0
        self.emitted_signal = 1.0 if heard else 0.0
        self.mag: torch.Tensor | None = None
        self.kt_vec: torch.Tensor | None = None


def graph_of(plan: Plan) -> list[list[State]]:
    """Return a plan in the form that ``mr0.execute_graph`` takes."""
    before = [State("z0", heard=False)]
    graph = [before]
    n_z_before = 1
    for rep in plan.repetitions:
        states = _states(rep)
        for kind, edges in zip(Transition, rep.edges, strict=True):
            shift = 0 if kind in (Transition.Z_TO_Z, Transition.Z_TO_PLUS) else n_z_before
            for source, target in zip(edges.source.tolist(), edges.target.tolist(), strict=True):
                states[target].ancestors.append((_KIND[kind], before[source + shift]))
        graph.append(states)
        before, n_z_before = states, rep.n_longitudinal
    return graph


def _states(rep: RepetitionPlan) -> list[State]:
    heard = set(rep.heard.tolist())
    longitudinal = [State("z0" if i == 0 else "z", heard=False) for i in range(rep.n_longitudinal)]
    return longitudinal + [State("+", heard=i in heard) for i in range(rep.n_transversal)]


class ReferenceOperator:
    """Fractions to images by MR-zero itself; slow, complex64 only, differentiable.

    Parameters
    ----------
    models
        One per chain.
    table, fields, mixing
        The object. ``compartments`` simulates every tissue of a voxel as a voxel of its own.
    """

    engine = "reference"

    def __init__(
        self, models: tuple[ChainModel, ...], table: TissueTable, fields: Fields, mixing: Mixing
    ) -> None:
        self.models = models
        self.table = table
        self.fields = fields
        self.mixing = mixing
        self.is_linear = mixing.is_linear
        self.tissues = len(table.names)
        self.matrix = models[0].grid.matrix
        self.device = torch.device("cpu")
        self.dtype = torch.complex64
        names = tuple(name for model in models for name in model.table.images)
        self.channels = make_channels(names, fields.n_coils)

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        check_fractions(fractions, self.tissues, self.matrix)
        flat = fractions.reshape(-1, *fractions.shape[-3:]).to(torch.float32)
        images = torch.stack([self._images(maps) for maps in flat])
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Apply the derivative at ``fractions``."""
        if self.is_linear:
            return self.forward(change)
        pair = torch.func.jvp(self.forward, (fractions,), (change,))
        change_of_images: torch.Tensor = pair[1]
        return change_of_images

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions``."""
        # MR-zero takes abs(PD), which has no derivative at zero; a linear one is the same anywhere
        start = torch.ones_like(fractions) if self.is_linear else fractions.detach().clone()
        with torch.enable_grad():
            point = start.requires_grad_()
            (gradient,) = torch.autograd.grad(self.forward(point), point, images)
        return gradient

    def _images(self, maps: torch.Tensor) -> torch.Tensor:
        if self.is_linear and bool((maps < 0).any()):  # MR-zero clamps negative densities
            return self._played(maps.clamp(min=0)) - self._played((-maps).clamp(min=0))
        return self._played(maps)

    def _played(self, maps: torch.Tensor) -> torch.Tensor:
        data = self.sim_data(maps)
        return torch.cat([self.chain_images(model, data) for model in self.models])

    def chain_images(self, model: ChainModel, data: Any) -> torch.Tensor:  # noqa: ANN401
        """Simulate one chain on ``mr0.SimData``: ``(image * coil, y, x)``."""
        signal = mrzero.execute(
            graph_of(model.plan),
            mrzero.to_mrzero(model.table),
            data,
            min_emitted_signal=0.5,
            min_latent_signal=0.5,
        )
        return self.images_of_signal(model, signal)

    def sim_data(self, maps: torch.Tensor) -> Any:  # noqa: ANN401 - mr0.SimData
        """Return the object as MR-zero's voxels."""
        grid = self.models[0].grid
        n_coils = self.fields.n_coils
        properties = mixed_properties(maps.flatten(1), self.table, self.mixing)
        parts = properties["pd"].shape[0]
        coils = torch.ones(n_coils, grid.matrix**2, dtype=torch.complex64)
        if self.fields.coils is not None:
            coils = self.fields.coils.flatten(1).to(torch.complex64)
        flat = {name: values.flatten() for name, values in properties.items()}
        flat["b0_hz"] = self.fields.b0_hz.flatten().repeat(parts)
        flat["b1"] = self.fields.b1.flatten().repeat(parts)
        # as MR-zero's phantoms do: voxels without protons are left out and get no gradient
        held = torch.nonzero(flat["pd"].detach() > 0).flatten()
        chosen = {name: values[held] for name, values in flat.items()}
        chosen["coils"] = coils.repeat(1, parts)[:, held]
        positions = grid.positions_m().repeat(parts, 1)[held]
        return mrzero.sim_data(chosen, positions, grid.matrix, grid.fov_m)

    def images_of_signal(self, model: ChainModel, signal: torch.Tensor) -> torch.Tensor:
        """Sort a signal ``(sample, coil)`` into images ``(image * coil, y, x)``."""
        if not model.table.on_grid:
            return off_grid_images(model, signal)
        encoder = Encoder(model.table, model.hearings, model.grid, self.dtype, self.device)
        kspace = encoder.grid_signal(signal.T * encoder.voxel_weight)  # (coil, image, ky, kx)
        return images_of(kspace).transpose(0, 1).flatten(0, 1)
