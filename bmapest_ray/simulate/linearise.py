"""The derivative of averaged voxels as a low-rank linear operator.

A voxel's factors depend on its own fractions only, so the derivative at a point has the form of
compartments: ``dS = sum_t dp_t(v) (dA/dp_t)(v)``. The columns ``dA/dp_t`` are compressed with a
basis made from sampled voxels; the solver's inner iterations then cost FFTs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.averaged_chain import AveragedChain, Pair
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.factors import ImageFactors, best_basis, scatter_kspace
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.propagate import Propagator
from bmapest_ray.simulate.rows import half_sample
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import TissueTable

_BASIS_VOXELS = 160
_TEST_VOXELS = 96
_SAVED_PER_STATE = 4


SLOPE_TOLERANCE = 1e-3
"""Of the derivative: a solver that iterates needs its images exactly, the way down roughly."""

_Factors = tuple[list[ImageFactors], list[ImageFactors]]


@dataclass(frozen=True)
class _Bases(Pair):
    """Orthonormal bases of an image's columns and their errors."""

    value_error: float
    slope_error: float


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
    duals = [
        Pair(rows.dual(basis.values), rows.dual(basis.slopes))
        for rows, basis in zip(chain.images, bases, strict=True)
    ]
    at, slopes = _projected(chain, fractions, duals, memory_budget_gb)
    values, derivatives = [], []
    for image, (rows, basis) in enumerate(zip(chain.images, bases, strict=True)):
        kspace = scatter_kspace(chain.model, rows.samples(basis.values), image)
        grid = at[image].view(len(kspace), -1, matrix, matrix)
        values.append(ImageFactors(kspace, grid, basis.value_error))
        kspace = scatter_kspace(chain.model, rows.samples(basis.slopes), image)
        grid = slopes[image].view(len(kspace), -1, matrix, matrix)
        derivatives.append(ImageFactors(kspace, grid, basis.slope_error))
    return values, derivatives


def _bases(chain: AveragedChain, fractions: torch.Tensor, tolerance: float) -> list[_Bases]:
    """Return two bases per image: for the values of sampled voxels and for their derivatives.

    The error is measured on voxels that did not make a basis, which grows until it is met.

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
            _image_bases(columns, others, tolerance)
            for columns, others in zip(used, tested, strict=True)
        ]
        share = max(
            max(one.value_error / tolerance, one.slope_error / SLOPE_TOLERANCE) for one in bases
        )
        if share <= 1:
            return bases
        if size >= len(rest):
            msg = (
                f"averaged voxels must be compressed to {tolerance:.1g}, got {share:.1g} times "
                f"that with all {len(rest)} voxels; raise the tolerance"
            )
            raise SimulationError(msg)
        size *= 2


def _image_bases(used: torch.Tensor, tested: torch.Tensor, tolerance: float) -> _Bases:
    """Return the bases of columns ``(row, 1 + tissue, voxel)``."""
    values, value_error = best_basis(used[:, 0], tested[:, 0], tolerance)
    slopes, slope_error = best_basis(
        used[:, 1:].flatten(1), tested[:, 1:].flatten(1), SLOPE_TOLERANCE
    )
    return _Bases(values, slopes, value_error, slope_error)


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
    duals: Sequence[Pair],
    memory_budget_gb: float,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return ``dual^H A`` ``(rank, 1, voxel)`` and its derivatives ``(rank, tissue, voxel)``."""
    dtype = chain.propagator.dtype
    count = fractions.shape[1]
    inside = torch.nonzero(fractions.sum(dim=0) > 0).flatten()  # elsewhere T2 is 0: no slope either
    project = [Pair(dual.values.to(dtype), dual.slopes.to(dtype)) for dual in duals]
    tissues = len(fractions)
    at = [torch.zeros((d.values.shape[1], 1, count), dtype=dtype) for d in duals]
    slopes = [torch.zeros((d.slopes.shape[1], tissues, count), dtype=dtype) for d in duals]
    most = max(len(rep.k_per_m) for rep in chain.model.plan.repetitions)
    rows = sum(len(dual.values) for dual in duals)
    per_voxel = (most * 8 + rows * 4) * 2 * _SAVED_PER_STATE * 4
    width = max(64, min(count, int(memory_budget_gb * 2**30 / per_voxel)))
    for voxels in torch.split(inside, width):
        half = half_sample(chain.positions_m[voxels], chain.model.table.fov_m).to(dtype)
        value, slope = chain.derivatives(fractions[:, voxels], voxels, project)
        for image in range(len(duals)):
            at[image][:, 0, voxels] = value[image] * half
            slopes[image][..., voxels] = slope[image].transpose(0, 1) * half
    return at, slopes
