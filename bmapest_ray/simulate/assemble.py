"""From the low-rank factors of chains to one operator, whatever paths their readouts take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from bmapest_ray.sequence.protocol import Chain, Protocol
from bmapest_ray.simulate.chain import event_table
from bmapest_ray.simulate.factors import ImageFactors
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.nufft_operator import JoinedOperator, NufftOperator, encodings_of
from bmapest_ray.tissue.fields import Fields

FactorOperator = LowRankOperator | NufftOperator | JoinedOperator


def assemble(
    protocol: Protocol,
    acquisition: VoxelGrid,
    fields: Fields,
    factors: Sequence[tuple[ImageFactors, ...]],
    *,
    dtype: torch.dtype,
    device: str,
    memory_budget_gb: float,
    workers: int = 1,
) -> FactorOperator:
    """Make the operator of a protocol.

    Parameters
    ----------
    protocol, acquisition
        What is played, on which grid.
    fields
        Coils of the object.
    factors
        Of each chain, one per image.
    dtype, device, memory_budget_gb, workers
        Of the computation.
    """
    grid, scanner = acquisition, protocol.scanner
    scores = [chain.write(grid.matrix, grid.fov_m, scanner) for chain in protocol.chains]
    names = tuple(name for score in scores for name in score.images)
    off_grid = [not all(readout.on_grid for readout in score.readouts) for score in scores]
    parts: list[LowRankOperator | NufftOperator] = []
    for off, numbers in groupby(range(len(scores)), key=off_grid.__getitem__):
        chosen = list(numbers)
        own = tuple(image for number in chosen for image in factors[number])
        images = tuple(name for number in chosen for name in scores[number].images)
        if off:
            chains = [protocol.chains[number] for number in chosen]
            parts.append(_off_grid(chains, protocol, grid, images, own, fields, dtype, device))
            continue
        parts.append(
            LowRankOperator(
                images,
                own,
                fields,
                dtype=dtype,
                device=device,
                memory_budget_gb=memory_budget_gb,
                workers=workers,
            )
        )
    return parts[0] if len(parts) == 1 else JoinedOperator(tuple(parts), names)


def _off_grid(
    chains: list[Chain],
    protocol: Protocol,
    grid: VoxelGrid,
    images: tuple[str, ...],
    factors: tuple[ImageFactors, ...],
    fields: Fields,
    dtype: torch.dtype,
    device: str,
) -> NufftOperator:
    tables = [event_table(chain, protocol.scanner, grid.matrix, grid.fov_m) for chain in chains]
    encodings = [one for table in tables for one in encodings_of(table, dtype, device)]
    return NufftOperator(images, factors, encodings, fields, dtype=dtype, device=device)
