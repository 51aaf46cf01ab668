"""How far a protocol's settings are from a finer graph and from another kind of simulation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.seeding import seed_of
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.reconstruct import kspace_of
from bmapest_ray.simulate.reference import ReferenceOperator
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields, make_fields
from bmapest_ray.tissue.table import PAPER_3T, TissueTable

FINER = 10.0
_FOV_M = 0.216


@dataclass(frozen=True)
class AccuracyFigures:
    """Relative errors of a protocol's signal.

    Parameters
    ----------
    states, finer_states
        Of the protocol's graph and of the one with ten times finer thresholds.
    graph_error
        Between the two, over all images of the default slice.
    isochromat_error
        Between the engine and MR-zero's isochromats on three one-tissue voxels; it includes the
        statistical error of the spins, about one over the root of their number.
    """

    states: int
    finer_states: int
    graph_error: float
    isochromat_error: float


def measure_accuracy(
    protocol: Protocol,
    *,
    matrix: int = 32,
    isochromat_matrix: int = 8,
    spins: int = 20000,
    table: TissueTable = PAPER_3T,
) -> AccuracyFigures:
    """Compare a protocol's settings with ten times finer ones and with isochromats.

    Parameters
    ----------
    protocol
        Its ``accuracy`` is what is examined.
    matrix, isochromat_matrix
        Pixels along one side for the two comparisons.
    spins
        Isochromats per voxel.
    """
    states, images = _images(protocol, matrix, table)
    finer_states, finer = _images(_finer(protocol), matrix, table)
    return AccuracyFigures(
        states=states,
        finer_states=finer_states,
        graph_error=float((images - finer).norm() / finer.norm()),
        isochromat_error=_isochromat_error(protocol, isochromat_matrix, spins, table),
    )


def _finer(protocol: Protocol) -> Protocol:
    accuracy = protocol.accuracy
    return replace(
        protocol,
        accuracy=replace(
            accuracy,
            max_state_count=int(accuracy.max_state_count * FINER),
            min_state_mag=accuracy.min_state_mag / FINER,
            min_latent_signal=accuracy.min_latent_signal / FINER,
            min_emitted_signal=accuracy.min_emitted_signal / FINER,
        ),
    )


def _images(protocol: Protocol, matrix: int, table: TissueTable) -> tuple[int, torch.Tensor]:
    fov_mm = _FOV_M * 1000
    maps = load_slice(
        open_anatomy("mni152"), "mni152", SliceSpec.parse("below-top:75"), matrix, fov_mm
    )
    fields = make_fields("analytic", "analytic", maps)
    scene = Scene(protocol, VoxelGrid(matrix, _FOV_M), fields, table)
    operator = build_operator(scene, EngineOptions(engine=Engine.EXACT)).operator
    assert not hasattr(operator, "ranks")  # noqa: S101 - the exact engine was asked for
    states = sum(scene.model(chain).plan.n_states for chain in protocol.chains)
    return states, operator.forward(maps.fraction)


def _isochromat_error(protocol: Protocol, matrix: int, spins: int, table: TissueTable) -> float:
    """Compare three one-tissue voxels; isochromats fill a box, states a sinc voxel."""
    still = replace(table, diffusivity_m2_per_s=(1e-15,) * len(table.names))
    flat = torch.zeros((matrix, matrix), dtype=torch.float64)
    scene = Scene(protocol, VoxelGrid(matrix, _FOV_M), Fields(flat + 5.0, flat + 0.95), still)
    fractions = torch.zeros((len(table.names), matrix, matrix))
    for tissue in range(len(table.names)):
        fractions[tissue, 1 + 2 * tissue, matrix // 2 - tissue] = 1.0
    built = build_operator(scene, EngineOptions(engine=Engine.REFERENCE))
    reference = built.operator
    assert isinstance(reference, ReferenceOperator)  # noqa: S101 - it was asked for
    exact = build_operator(scene, EngineOptions(engine=Engine.EXACT)).operator.forward(fractions)
    data = reference.sim_data(fractions)
    images = []
    for model in reference.models:
        signal = mrzero.isochromats(
            mrzero.to_mrzero(model.table), data, spins, seed_of("isochromats", matrix) % 2**31
        )
        images.append(reference.images_of_signal(model, signal))
    box = _box(matrix)
    seen = kspace_of(torch.cat(images)) / box
    wanted = kspace_of(exact)
    return float((seen - wanted).norm() / wanted.norm())


def _box(matrix: int) -> torch.Tensor:
    """Return how a box voxel attenuates k-space, ``(ky, kx)``."""
    index = torch.arange(matrix) - matrix // 2
    return torch.sinc(index / matrix)[:, None] * torch.sinc((index + 0.5) / matrix)[None, :]
