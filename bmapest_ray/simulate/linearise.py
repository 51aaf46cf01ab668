"""The derivative of averaged voxels as a low-rank linear operator.

A voxel's factors depend on its own fractions only, so the derivative at a point has the form of
compartments: ``dS = sum_t dp_t(v) (dA/dp_t)(v)``. The columns ``dA/dp_t`` are compressed with a
basis made from sampled voxels; the solver's inner iterations then cost FFTs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.factors import ImageFactors, best_basis, scatter_kspace
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.rows import ImageRows, RowGroup, group_rows, half_sample
from bmapest_ray.simulate.voxels import decay, precession
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.properties import PROPERTIES, mixed_properties
from bmapest_ray.tissue.table import TissueTable

_BASIS_VOXELS = 160
_TEST_VOXELS = 96
_SAVED_PER_STATE = 4


_Factors = tuple[list[ImageFactors], list[ImageFactors]]


class AveragedChain:
    """Rows of a chain as a differentiable function of the fractions of some voxels."""

    def __init__(
        self,
        model: ChainModel,
        propagator: Propagator,
        table: TissueTable,
        fields: Fields,
        mixing: Mixing,
    ) -> None:
        self.model = model
        self.propagator = propagator
        self.table = table
        self.mixing = mixing
        self.b0_hz = fields.b0_hz.double().flatten()
        self.b1 = fields.b1.double().flatten()
        self.positions_m = model.grid.positions_m()[:, :2]
        self.images: list[ImageRows] = [
            group_rows(model, image) for image in range(len(model.table.images))
        ]

    def derivatives(
        self, fractions: torch.Tensor, voxels: torch.Tensor, project: Sequence[torch.Tensor] | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return rows and their derivatives ``(tissue, row, voxel)``, projected if asked for.

        A row depends on five properties of its voxel, so it is differentiated to them, projected,
        and only then turned into derivatives to the fractions.
        """
        at, along = self._properties(fractions)
        order = (at["t1_s"], at["t2_s"], at["diffusivity_m2_per_s"])
        heard = self.propagator.slopes(
            SpinParameters(order[0], order[1], order[2], self.b1[voxels])
        )
        values, slopes = [], []
        for image, rows in enumerate(self.images):
            dual = None if project is None else project[image]
            by_property = self._image_slopes(rows, heard, at, voxels, dual)
            values.append(by_property["pd"] * at["pd"].to(heard.dtype))
            total = torch.zeros((), dtype=heard.dtype)
            for name, slope in by_property.items():
                total = total + slope * along[name][:, None].to(heard.dtype)
            slopes.append(total)
        return values, slopes

    def _properties(
        self, fractions: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return properties ``(voxel,)`` and their derivatives to fractions ``(tissue, voxel)``."""
        with torch.enable_grad():
            unknowns = fractions.detach().requires_grad_()
            mixed = mixed_properties(unknowns, self.table, self.mixing)
            # backwards, since torch's forward mode is not safe among threads
            along = {
                name: torch.autograd.grad(mixed[name].sum(), unknowns, retain_graph=True)[0]
                for name in PROPERTIES
            }
        return {name: mixed[name][0].detach() for name in PROPERTIES}, along

    def _image_slopes(
        self,
        rows: ImageRows,
        heard: torch.Tensor,
        at: dict[str, torch.Tensor],
        voxels: torch.Tensor,
        dual: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """Return the slopes of rows (projected on ``dual``) to every property of a voxel."""
        collected: dict[str, list[torch.Tensor]] = {name: [] for name in PROPERTIES}
        for group, span in zip(rows.groups, rows.spans, strict=True):
            basis = None if dual is None else dual[span].conj().T
            for name, slope in self._group_slopes(group, heard, at, voxels):
                flat = slope.flatten(0, 1)
                collected[name].append(flat if basis is None else basis @ flat)
        if dual is None:
            return {name: torch.cat(parts) for name, parts in collected.items()}
        return {name: torch.stack(parts).sum(dim=0) for name, parts in collected.items()}

    def _group_slopes(
        self,
        group: RowGroup,
        heard: torch.Tensor,
        at: dict[str, torch.Tensor],
        voxels: torch.Tensor,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the slope of ``A / pd * pd`` to each property, ``(hearing, node, voxel)``."""
        hearings, profile, real = self.model.hearings, group.profile, at["pd"].dtype
        span = group.hearings
        centre = torch.from_numpy(hearings.b_centre_s_per_m2[span]).to(real)[:, None]
        phase = torch.from_numpy(hearings.phase[span]).to(heard)[:, None]
        turn = phase * group.shift(self.positions_m[voxels]).to(heard)
        faded = turn * torch.exp(-centre * at["diffusivity_m2_per_s"])
        picked = torch.from_numpy(hearings.emission[span])
        value = heard[0, picked] * faded

        nodes = torch.from_numpy(profile.nodes.time_s).to(real)[:, None]
        tau = torch.from_numpy(abs(profile.tau_s + profile.nodes.time_s)).to(real)[:, None]
        change = torch.from_numpy(profile.attenuation_s_per_m2 + 0 * profile.nodes.time_s).to(real)
        time = torch.from_numpy(profile.tau_s + profile.nodes.time_s)
        fading = decay(profile, at["t2_s"], at["t2dash_s"], at["diffusivity_m2_per_s"])
        factor = precession(self.b0_hz[voxels], time, self.propagator.dtype) * fading
        dense = factor * at["pd"]
        yield "pd", value[:, None] * factor
        yield "t1_s", (heard[1, picked] * faded)[:, None] * dense
        rate = nodes / at["t2_s"].square()
        yield "t2_s", (heard[2, picked] * faded)[:, None] * dense + value[:, None] * (dense * rate)
        yield "t2dash_s", value[:, None] * (dense * (tau / at["t2dash_s"].square()))
        less = heard[3, picked] * faded - centre * value
        yield (
            "diffusivity_m2_per_s",
            less[:, None] * dense - value[:, None] * (dense * change[:, None]),
        )


def linearised(
    models: Sequence[ChainModel],
    propagators: Sequence[Propagator],
    fractions: torch.Tensor,
    table: TissueTable,
    fields: Fields,
    mixing: Mixing,
    *,
    tolerance: float,
    memory_budget_gb: float,
    workers: int = 1,
) -> tuple[torch.Tensor, LowRankOperator]:
    """Return the images at ``fractions`` ``(tissue, y, x)`` and the derivative there.

    ``workers`` threads take one chain each; they share the memory.
    """
    flat = fractions.flatten(1)
    values: list[ImageFactors] = []
    slopes: list[ImageFactors] = []
    names: list[str] = []

    def of_chain(model: ChainModel, propagator: Propagator) -> _Factors:
        chain = AveragedChain(model, propagator, table, fields, mixing)
        return _chain_factors(chain, flat, tolerance, memory_budget_gb / workers)

    with ThreadPoolExecutor(workers) as pool:
        for at, slope in pool.map(of_chain, models, propagators):
            values += at
            slopes += slope
    for model in models:
        names += model.table.images
    dtype = propagators[0].dtype
    ones = torch.ones((1, *fractions.shape[1:]), dtype=fractions.dtype)
    images = LowRankOperator(tuple(names), tuple(values), fields, dtype=dtype).forward(ones)
    return images, LowRankOperator(
        tuple(names), tuple(slopes), fields, dtype=dtype, workers=workers
    )


def _chain_factors(
    chain: AveragedChain, fractions: torch.Tensor, tolerance: float, memory_budget_gb: float
) -> _Factors:
    matrix = chain.model.grid.matrix
    bases = _bases(chain, fractions, tolerance)
    duals = [rows.dual(basis) for rows, (basis, _) in zip(chain.images, bases, strict=True)]
    at, slopes = _projected(chain, fractions, duals, memory_budget_gb)
    values, derivatives = [], []
    for image, (rows, (basis, error)) in enumerate(zip(chain.images, bases, strict=True)):
        kspace = scatter_kspace(chain.model, rows.samples(basis), image)
        grid = (len(kspace), -1, matrix, matrix)
        values.append(ImageFactors(kspace, at[image].view(grid), error))
        derivatives.append(ImageFactors(kspace, slopes[image].view(grid), error))
    return values, derivatives


def _bases(
    chain: AveragedChain, fractions: torch.Tensor, tolerance: float
) -> list[tuple[torch.Tensor, float]]:
    """Return a basis per image from the values and derivatives of sampled voxels.

    The error is measured on voxels that did not make the basis, which grows until it is met.

    Raises
    ------
    SimulationError
        If the tolerance cannot be reached.
    """
    count = fractions.shape[1]
    inside = torch.nonzero(fractions.sum(dim=0) > 0).flatten()
    pool = inside if len(inside) >= _BASIS_VOXELS else torch.arange(count)
    order = pool[torch.randperm(len(pool), generator=generator("linearise-voxels", count))]
    few = len(order) <= 2 * _TEST_VOXELS
    rest = order if few else order[_TEST_VOXELS:]
    tested = _scaled_columns(chain, fractions, order if few else order[:_TEST_VOXELS])
    size = _BASIS_VOXELS
    used = [columns[..., :0] for columns in tested]
    while True:
        more = _scaled_columns(chain, fractions, rest[used[0].shape[-1] : size])
        used = [torch.cat(pair, dim=-1) for pair in zip(used, more, strict=True)]
        bases = [
            best_basis(columns.flatten(1), others.flatten(1), tolerance)
            for columns, others in zip(used, tested, strict=True)
        ]
        worst = max(error for _, error in bases)
        if worst <= tolerance:
            return bases
        if size >= len(rest):
            msg = (
                f"the derivative of averaged voxels must be compressed to {tolerance:.1g}, got "
                f"{worst:.1g} with all {len(rest)} voxels; raise the tolerance"
            )
            raise SimulationError(msg)
        size *= 2


def _scaled_columns(
    chain: AveragedChain, fractions: torch.Tensor, voxels: torch.Tensor
) -> list[torch.Tensor]:
    """Return values and derivatives of every image, ``(row, 1 + tissue, voxel)``, complex128."""
    value, slope = chain.derivatives(fractions[:, voxels], voxels, None)
    columns = []
    for rows, at, along in zip(chain.images, value, slope, strict=True):
        every = torch.cat([at[None], along]).to(torch.complex128).transpose(0, 1)
        scaled = rows.scaled(every.flatten(1))
        columns.append(scaled.view(len(scaled), -1, len(voxels)))
    return columns


def _projected(
    chain: AveragedChain,
    fractions: torch.Tensor,
    duals: Sequence[torch.Tensor],
    memory_budget_gb: float,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return ``dual^H A`` ``(rank, 1, voxel)`` and its derivatives ``(rank, tissue, voxel)``."""
    dtype = chain.propagator.dtype
    count = fractions.shape[1]
    inside = torch.nonzero(fractions.sum(dim=0) > 0).flatten()  # elsewhere T2 is 0: no slope either
    project = [dual.to(dtype) for dual in duals]
    tissues = len(fractions)
    at = [torch.zeros((d.shape[1], 1, count), dtype=dtype) for d in duals]
    slopes = [torch.zeros((d.shape[1], tissues, count), dtype=dtype) for d in duals]
    most = max(len(rep.k_per_m) for rep in chain.model.plan.repetitions)
    rows = sum(len(dual) for dual in duals)
    per_voxel = (most * 8 + rows * 4) * 2 * _SAVED_PER_STATE * 4
    width = max(64, min(count, int(memory_budget_gb * 2**30 / per_voxel)))
    for voxels in torch.split(inside, width):
        half = half_sample(chain.positions_m[voxels], chain.model.table.fov_m).to(dtype)
        value, slope = chain.derivatives(fractions[:, voxels], voxels, project)
        for image in range(len(duals)):
            at[image][:, 0, voxels] = value[image] * half
            slopes[image][..., voxels] = slope[image].transpose(0, 1) * half
    return at, slopes
