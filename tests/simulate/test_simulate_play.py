"""Compiled propagation: torch's own result, slopes of finite differences, both derivatives."""

from dataclasses import replace

import pytest
import torch
from scenes import COARSE, FOV_M, analytic_fields

from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.plan import Plan
from bmapest_ray.simulate.play import Played, pack
from bmapest_ray.simulate.play_loops import WIDTH
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import PAPER_3T

POINTS = WIDTH + 7  # more than a stretch, and not a whole number of them
STEPS = {"t1_s": 1e-6, "t2_s": 1e-7, "diffusivity_m2_per_s": 1e-14, "b1": 1e-6}


@pytest.fixture(scope="module", params=["t2prep[1]", "dwi[3]", "dir[1]"])
def plan(request: pytest.FixtureRequest) -> Plan:
    protocol = replace(parse_protocol(request.param), accuracy=COARSE)
    scene = Scene(protocol, VoxelGrid(16, FOV_M), analytic_fields(16), PAPER_3T, Mixing.AVERAGE)
    operator = build_operator(scene, EngineOptions(engine=Engine.EXACT)).operator
    return operator.models[0].plan


@pytest.fixture(scope="module")
def points() -> torch.Tensor:
    draw = torch.rand((4, POINTS), generator=generator("play"), dtype=torch.float64)
    low = torch.tensor([0.3, 0.05, 1e-10, 0.7], dtype=torch.float64)[:, None]
    high = torch.tensor([4.0, 1.6, 4e-9, 1.2], dtype=torch.float64)[:, None]
    return low + draw * (high - low)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.complex128, 1e-12), (torch.complex64, 5e-6)])
def test_loops_play_what_torch_plays(plan, points, dtype, limit):
    propagator = Propagator(plan, dtype)
    torch_plays = propagator._stepped(SpinParameters(*points.to(propagator.real_dtype)))
    compiled = pack(plan).run(points.to(propagator.real_dtype), 5)[0]
    assert compiled.shape == torch_plays.shape == (plan.n_emissions, POINTS)
    assert float((compiled - torch_plays).norm() / torch_plays.norm()) < limit


def test_no_relaxation_time_is_a_silent_voxel_and_not_nan(plan, points):
    nothing = points.clone()
    nothing[:2] = 1e-6
    slopes = pack(plan).run(nothing, 5)
    assert bool(torch.isfinite(torch.view_as_real(slopes)).all())


@pytest.mark.parametrize("number", range(4))
def test_slopes_are_finite_differences(plan, points, number):
    step = torch.zeros_like(points)
    step[number] = list(STEPS.values())[number]
    packed = pack(plan)
    difference = (packed.run(points + step, 1)[0] - packed.run(points - step, 1)[0]) / 2
    slope = packed.run(points, 5)[1 + number] * step[number]
    assert float((slope - difference).norm()) <= 1e-6 * float(difference.norm())


def test_forward_and_reverse_mode_are_adjoint(plan, points):
    packed = pack(plan)
    change = torch.randn(points.shape, generator=generator("change"), dtype=torch.float64)
    change = change * points

    def play(*point: torch.Tensor) -> torch.Tensor:
        return Played.apply(packed, *point)

    value, along = torch.func.jvp(play, tuple(points), tuple(change))
    cotangent = torch.randn(value.shape, generator=generator("back"), dtype=torch.complex128)
    leaves = [point.clone().requires_grad_() for point in points]
    gradients = torch.autograd.grad(play(*leaves), leaves, cotangent)
    forward = float((along.conj() * cotangent).real.sum())
    backward = sum(float((g * c).sum()) for g, c in zip(gradients, change, strict=True))
    assert forward == pytest.approx(backward, rel=1e-10)
