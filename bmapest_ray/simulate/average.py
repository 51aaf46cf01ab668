"""The exact engine for averaged voxels: every voxel is propagated with its own T1, T2 and D.

Blocks of columns keep the memory bounded: the signal is a sum over voxels, so each block is
simulated, and differentiated, on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encoded import EncodedOperator
from bmapest_ray.simulate.exact import check_fractions, check_images
from bmapest_ray.simulate.hearing import Profile
from bmapest_ray.simulate.linearise import linearised
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.reconstruct import images_of, kspace_of
from bmapest_ray.simulate.voxels import decay, precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import mixed_properties
from bmapest_ray.tissue.table import TissueTable

_SAVED_PER_STATE = 12
"""Complex numbers that automatic differentiation keeps per state and voxel."""


class AverageOperator(EncodedOperator):
    """Fractions to images with one set of properties per voxel; nonlinear.

    Parameters
    ----------
    models
        One per chain.
    table, fields
        The object.
    mixing
        ``average`` or ``average-normalised``.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    memory_budget_gb
        Bound on the arrays kept for a derivative; it does not depend on the number of contrasts.
    tolerance
        Of the images that `linearise` returns.
    workers
        Threads that `linearise` uses, one chain each.
    """

    is_linear = False

    def __init__(
        self,
        models: tuple[ChainModel, ...],
        table: TissueTable,
        fields: Fields,
        *,
        mixing: Mixing = Mixing.AVERAGE,
        dtype: torch.dtype = torch.complex64,
        device: torch.device | str = "cpu",
        memory_budget_gb: float = 1.0,
        tolerance: float = 1e-5,
        workers: int = 1,
    ) -> None:
        super().__init__(models, table, fields, dtype, device, memory_budget_gb)
        self.mixing = mixing
        self.tolerance = tolerance
        self.workers = workers
        self._propagators = [Propagator(m.plan, dtype, self.device) for m in models]

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images of fractions ``(..., tissue, y, x)``."""
        check_fractions(fractions, self.tissues, self.matrix)
        flat = fractions.reshape(-1, *fractions.shape[-3:])
        images = torch.stack([self._images(maps) for maps in flat])
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions`` to images."""
        check_fractions(fractions, self.tissues, self.matrix)
        check_images(images, len(self.channels), self.models[0].table.matrix)
        flat = fractions.reshape(-1, *fractions.shape[-3:]).to(self.device, self.real_dtype)
        cotangents = images.reshape(-1, *images.shape[-3:]).to(self.device, self.dtype)
        gradients = [self._gradient(p, s) for p, s in zip(flat, cotangents, strict=True)]
        return torch.stack(gradients).reshape(fractions.shape)

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Apply the derivative at ``fractions`` to a change of the fractions."""
        flat = fractions.reshape(-1, *fractions.shape[-3:]).to(self.device, self.real_dtype)
        changes = change.reshape(flat.shape).to(self.device, self.real_dtype)
        images = torch.stack(
            [
                torch.func.jvp(self._images, (p,), (d,))[1]
                for p, d in zip(flat, changes, strict=True)
            ]
        )
        return images.reshape(*fractions.shape[:-3], *images.shape[1:])

    def linearise(self, fractions: torch.Tensor) -> tuple[torch.Tensor, LowRankOperator]:
        """Return the images at ``fractions`` ``(tissue, y, x)`` and the derivative there.

        The images are compressed to ``tolerance`` and the derivative to 1e-3 at least, so that a
        solver pays for FFTs only and still ends where it should.
        """
        check_fractions(fractions, self.tissues, self.matrix)
        return linearised(
            self.models,
            self._propagators,
            fractions.to(self.device, self.real_dtype),
            self.table,
            self.fields,
            self.mixing,
            tolerance=self.tolerance,
            memory_budget_gb=self.memory_budget_gb,
            workers=self.workers,
        )

    def properties(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what decides the signal of every voxel, SI units, from maps ``(map, voxel)``."""
        mixed = mixed_properties(maps, self.table, self.mixing)
        return {name: values[0] for name, values in mixed.items()}

    def _images(self, maps: torch.Tensor) -> torch.Tensor:
        columns_first = maps.to(self.device, self.real_dtype).transpose(-1, -2)
        images = []
        for number, model in enumerate(self.models):
            kspace = torch.zeros((), dtype=self.dtype, device=self.device)
            for columns in self._blocks(model):
                kspace = kspace + self._kspace(number, columns, columns_first[:, columns])
            images.append(images_of(kspace).transpose(0, 1).flatten(0, 1))
        return torch.cat(images)

    def _gradient(self, maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        columns_first = maps.transpose(-1, -2)
        total = torch.zeros_like(columns_first)
        start = 0
        for number, (model, encoder) in enumerate(zip(self.models, self._encoders, strict=True)):
            stop = start + encoder.n_images * self.n_coils
            split = images[start:stop].view(encoder.n_images, self.n_coils, *images.shape[-2:])
            cotangent = kspace_of(split.transpose(0, 1))
            start = stop
            for columns in self._blocks(model):
                with torch.enable_grad():
                    point = columns_first[:, columns].detach().clone().requires_grad_()
                    kspace = self._kspace(number, columns, point)
                    (gradient,) = torch.autograd.grad(kspace, point, cotangent)
                total[:, columns] += gradient
        return total.transpose(-1, -2)

    def _blocks(self, model: ChainModel) -> Iterator[slice]:
        """Yield columns so that a derivative's saved arrays stay inside the budget."""
        element = 16 if self.dtype == torch.complex128 else 8
        states = model.plan.n_states * _SAVED_PER_STATE + len(model.hearings.emission) * 8
        width = int(self.memory_budget_gb * 2**30 / (states * self.matrix * element))
        width = max(1, min(self.matrix, width))
        for start in range(0, self.matrix, width):
            yield slice(start, min(start + width, self.matrix))

    def _kspace(self, number: int, columns: slice, maps: torch.Tensor) -> torch.Tensor:
        """Return ``(coil, image, ky, kx)`` of a block of columns, ``maps (tissue, x, y)``."""
        shape = maps.shape[1:]
        properties = {
            name: values.view(shape) for name, values in self.properties(maps.flatten(1)).items()
        }
        model = self.models[number]
        heard = self._emitted(number, columns, properties)
        weight = properties["pd"][None, None]
        if self._coils is not None:
            weight = weight * self._coils[:, None, columns]
        return self._encoders[number].encode(
            self._amplitude_of(model, heard, properties["diffusivity_m2_per_s"]),
            self._factor_of(columns, properties),
            weight,
            columns,
            chunk=256,
        )

    def _emitted(
        self, number: int, columns: slice, properties: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Play the pulses for voxels with protons; the others are silent, and stay so nearby."""
        inside = torch.nonzero(properties["pd"].detach().flatten() > 0).flatten()
        names = ("t1_s", "t2_s", "diffusivity_m2_per_s")
        t1, t2, diffusivity = (properties[name].flatten()[inside] for name in names)
        b1 = self._b1[columns].flatten()[inside]
        propagator = self._propagators[number]
        silent = torch.zeros(
            (propagator.plan.n_emissions, properties["pd"].numel()),
            dtype=self.dtype,
            device=self.device,
        )
        if not len(inside):
            return silent
        heard = propagator.heard(SpinParameters(t1, t2, diffusivity, b1))
        return silent.index_copy(1, inside, heard)

    def _amplitude_of(
        self, model: ChainModel, heard: torch.Tensor, diffusivity: torch.Tensor
    ) -> Callable[[slice], torch.Tensor]:
        hearings = model.hearings
        emission = torch.from_numpy(hearings.emission).to(self.device)
        centre = torch.from_numpy(hearings.b_centre_s_per_m2).to(self.device, self.real_dtype)
        phase = torch.from_numpy(hearings.phase).to(self.device, self.dtype)

        def amplitude(piece: slice) -> torch.Tensor:
            faded = torch.exp(-centre[piece, None, None] * diffusivity)
            value = heard[emission[piece]].view(-1, *diffusivity.shape)
            return (value * faded * phase[piece, None, None])[:, None]

        return amplitude

    def _factor_of(
        self, columns: slice, properties: dict[str, torch.Tensor]
    ) -> Callable[[Profile], torch.Tensor]:
        b0_hz = self._b0_hz[columns]

        def factor(profile: Profile) -> torch.Tensor:
            time = torch.as_tensor(
                profile.tau_s + profile.nodes.time_s, dtype=torch.float64, device=self.device
            )
            fading = decay(
                profile,
                properties["t2_s"],
                properties["t2dash_s"],
                properties["diffusivity_m2_per_s"],
            )
            return (precession(b0_hz, time, self.dtype) * fading)[:, None]

        return factor
