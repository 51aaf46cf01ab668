"""What users wait for, timed on demand; elsewhere each runs once, so that it cannot rot.

``pytest -m slow --benchmark-only --benchmark-enable`` prints the times of this machine.
"""

from typing import Any

import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import analytic_fields
from bmapest_ray.tissue.table import PAPER_3T

pytestmark = pytest.mark.slow
MATRIX = 64


@pytest.fixture(scope="module")
def fractions() -> torch.Tensor:
    where = SliceSpec.parse("below-top:75")
    return load_slice(open_anatomy("mni152"), "mni152", where, MATRIX, 216.0).fraction


def operator(protocol: str, engine: Engine) -> Any:
    fields = analytic_fields(MATRIX)
    scene = Scene(parse_protocol(protocol), VoxelGrid(MATRIX, 0.216), fields, PAPER_3T)
    return build_operator(scene, EngineOptions(engine=engine)).operator


@pytest.mark.parametrize("engine", [Engine.EXACT, Engine.LOWRANK])
def test_forward_and_adjoint_of_four_contrasts(
    benchmark: Any, fractions: torch.Tensor, engine: Engine
) -> None:
    built = operator("t1inv", engine)
    back = benchmark(lambda: built.adjoint(built.forward(fractions)))
    assert back.shape == fractions.shape


def test_setting_up_a_chain(benchmark: Any) -> None:
    built = benchmark.pedantic(lambda: operator("t1inv", Engine.LOWRANK), rounds=1)
    assert len(built.channels) == 4


def test_inverting_four_magnitudes(benchmark: Any, fractions: torch.Tensor) -> None:
    built = operator("t1inv", Engine.LOWRANK)
    measured = BatchMeasurement(built.forward(fractions).abs(), "magnitude")
    start = torch.full_like(fractions, 0.3)
    result = benchmark(lambda: invert(measured, built, solver=SolverSettings(), start=start))
    assert result.converged
