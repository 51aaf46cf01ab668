"""The low-rank engine: its error against the exact one, its algebra at any size, its limits."""

from dataclasses import replace

import pytest
import torch
from scenes import (
    FOV_M,
    analytic_fields,
    brain_maps,
    images_like,
    operator_of,
    plain_fields,
    relative,
    scene_of,
    smooth_maps,
)

from bmapest_ray.base.errors import InvalidInput, SimulationError
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.factors import FactorBuilder, ImageFactors
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator, choose_engine
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.rows import group_rows, half_sample

PROTOCOL = "t1inv[0,2],t2prep[1]"


@pytest.fixture(scope="module")
def exact():
    """The exact engine at the shipped thresholds, double precision."""
    options = EngineOptions(engine=Engine.EXACT, double=True)
    return build_operator(scene_of(PROTOCOL, 16), options).operator


def lowrank(tolerance, protocol=PROTOCOL, **changes):
    options = EngineOptions(
        engine=Engine.LOWRANK, double=changes.pop("double", True), tolerance=tolerance
    )
    return build_operator(scene_of(protocol, 16, **changes), options).operator


def random_operator(matrix, n_coils=1, ranks=(2, 3), dtype=torch.complex128, workers=1):
    """An operator of random factors: algebra needs no physics."""
    draw = generator("factors", matrix)
    factors = tuple(
        ImageFactors(
            kspace=torch.randn((rank, matrix, matrix), generator=draw, dtype=torch.complex128),
            object_=torch.randn((rank, 3, matrix, matrix), generator=draw, dtype=torch.complex128),
            error=0.0,
        )
        for rank in ranks
    )
    fields = analytic_fields(matrix, n_coils)
    names = tuple(f"image{i}" for i in range(len(ranks)))
    operator = LowRankOperator(names, factors, fields, dtype=dtype, workers=workers)
    return operator, factors, fields


def test_the_error_at_the_default_tolerance_and_its_fall(exact):
    maps = torch.stack([smooth_maps(16), brain_maps(16).double()])
    expected = exact.forward(maps)
    errors, ranks = [], []
    for tolerance in (1e-3, 1e-4, 1e-5, 1e-6):
        operator = lowrank(tolerance)
        found = operator.forward(maps)
        errors.append(max(relative(found[i], expected[i]) for i in range(2)))
        ranks.append(sum(operator.ranks))
        assert operator.truncation_error <= tolerance
        assert errors[-1] <= 2 * tolerance
    assert errors == sorted(errors, reverse=True)
    assert ranks == sorted(ranks)
    assert errors[-1] < errors[0] / 100


def test_the_adjoint_has_the_same_error(exact):
    images = images_like(exact)
    found = lowrank(1e-4).adjoint(images)
    assert relative(found, exact.adjoint(images)) <= 2e-4


def test_single_precision_reaches_the_tolerance(exact):
    found = lowrank(1e-5, double=False).forward(smooth_maps(16))
    assert found.dtype == torch.complex64
    assert relative(found, exact.forward(smooth_maps(16))) <= 2e-5


def test_fields_that_do_not_vary_are_taken():
    fields = plain_fields(16, b0_hz=3.0, b1=0.9)
    scene = scene_of("t1inv[1]", 16, fields=fields)
    slow, fast = (
        build_operator(scene, EngineOptions(engine=e, double=True)).operator
        for e in (Engine.EXACT, Engine.LOWRANK)
    )
    assert relative(fast.forward(smooth_maps(16)), slow.forward(smooth_maps(16))) < 2e-4


def test_strong_off_resonance_costs_rank_not_accuracy():
    weak = analytic_fields(16)
    strong = type(weak)(8 * weak.b0_hz, weak.b1)
    scene = scene_of("t1inv[1]", 16, fields=strong)
    exact_, fast = (
        build_operator(scene, EngineOptions(engine=e, double=True)).operator
        for e in (Engine.EXACT, Engine.LOWRANK)
    )
    assert relative(fast.forward(smooth_maps(16)), exact_.forward(smooth_maps(16))) < 2e-4
    assert sum(fast.ranks) > sum(lowrank(1e-4, "t1inv[1]").ranks)


@pytest.mark.parametrize("n_coils", [1, 3])
@pytest.mark.parametrize("matrix", [6, 130])
def test_forward_is_the_sum_of_filtered_transforms(matrix, n_coils):
    operator, factors, fields = random_operator(matrix, n_coils)
    maps = torch.randn((3, matrix, matrix), generator=generator("maps"), dtype=torch.float64)
    coils = torch.ones((1, matrix, matrix)) if fields.coils is None else fields.coils
    expected = []
    for factor in factors:
        for coil in coils.to(torch.complex128):
            objects = (factor.object_ * maps).sum(1) * coil
            centred = torch.fft.fft2(torch.fft.ifftshift(objects, dim=(-2, -1)), norm="ortho")
            filtered = factor.kspace * torch.fft.fftshift(centred, dim=(-2, -1))
            total = torch.fft.ifftshift(filtered.sum(0) * matrix)
            expected.append(torch.fft.fftshift(torch.fft.ifft2(total, norm="ortho")))
    assert relative(operator.forward(maps), torch.stack(expected)) < 1e-12


@pytest.mark.parametrize("n_coils", [1, 3])
@pytest.mark.parametrize("matrix", [6, 130])
def test_the_adjoint_at_any_size(matrix, n_coils):
    operator, _, _ = random_operator(matrix, n_coils)
    draw = generator("maps")
    maps = torch.randn((2, 3, matrix, matrix), generator=draw, dtype=torch.float64)
    shape = (2, 2 * n_coils, matrix, matrix)
    images = torch.randn(shape, generator=draw, dtype=torch.complex128)
    forth, back = operator.forward(maps), operator.adjoint(images)
    one, other = float((forth.conj() * images).real.sum()), float((maps * back).sum())
    assert one == pytest.approx(other, rel=1e-11, abs=1e-12 * float(forth.norm() * images.norm()))


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_threads_share_the_images_and_change_nothing(workers):
    ranks = (3, 1, 9, 2, 4)
    alone, together = (random_operator(10, 2, ranks, workers=number)[0] for number in (1, workers))
    draw = generator("maps")
    maps = torch.randn((2, 3, 10, 10), generator=draw, dtype=torch.float64).requires_grad_()
    images = alone.forward(maps.detach())
    assert torch.equal(together.forward(maps.detach()), images)
    torch.testing.assert_close(together.adjoint(images), alone.adjoint(images))
    (gradient,) = torch.autograd.grad((together.forward(maps).conj() * images).real.sum(), maps)
    torch.testing.assert_close(gradient, alone.adjoint(images))
    with torch.no_grad():
        assert not together.forward(maps).requires_grad


def test_auto_takes_the_fastest_engine_that_is_able():
    linear, finer = scene_of("t1inv[0]", 8), VoxelGrid(16, FOV_M)
    assert choose_engine(Engine.AUTO, linear) is Engine.LOWRANK
    assert choose_engine(Engine.AUTO, scene_of("t1inv[0]", 8, mixing="average")) is Engine.EXACT
    hires = scene_of("t1inv[0]", 8, grid=finer, fields=analytic_fields(16))
    assert choose_engine(Engine.AUTO, hires) is Engine.EXACT
    for engine in (Engine.EXACT, Engine.REFERENCE, Engine.LOWRANK):
        assert choose_engine(engine, linear) is engine
    assert build_operator(linear, EngineOptions()).engine is Engine.LOWRANK


def test_what_lowrank_cannot_do_is_refused():
    average = scene_of("t1inv[0]", 8, mixing="average")
    with pytest.raises(InvalidInput, match=r"lowrank .*got average on 8 for 8; use the exact"):
        build_operator(average, EngineOptions(engine=Engine.LOWRANK))
    finer = scene_of("t1inv[0]", 8, grid=VoxelGrid(16, FOV_M), fields=analytic_fields(16))
    with pytest.raises(InvalidInput, match=r"lowrank .*got compartments on 16 for 8"):
        build_operator(finer, EngineOptions(engine=Engine.LOWRANK))


def test_a_tolerance_that_is_missed_is_an_error(monkeypatch):
    monkeypatch.setattr("bmapest_ray.simulate.factors._MAX_RANK", 2)
    with pytest.raises(SimulationError, match=r"within 0.0001 of the exact one, got .*; raise"):
        lowrank(1e-4, "t1inv[1]")


def test_channels_and_ranks_are_told():
    operator = operator_of("t1inv[0,2]", 8, "lowrank")
    assert [channel.image for channel in operator.channels] == ["t1inv[0]", "t1inv[2]"]
    assert len(operator.ranks) == 2
    assert 0 < operator.truncation_error <= 1e-4


@pytest.mark.parametrize("width_hz", [0.0, 40.0, 600.0])
def test_object_weights_are_the_projected_rows(width_hz):
    """Also where B0 is so wide that states with unlike tau need buckets of their own."""
    ramp = torch.linspace(-0.5, 0.5, 16, dtype=torch.float64)
    fields = replace(analytic_fields(16), b0_hz=(width_hz * ramp + 3).expand(16, 16).contiguous())
    scene = scene_of("t2prep[2],dwi[1]", 16, fields=fields)
    for chain in scene.protocol.chains:
        builder = FactorBuilder(scene.model(chain), scene.table, scene.fields, 1e-6)
        rows = group_rows(builder.model, 0)
        count = sum(span.stop - span.start for span in rows.spans)
        draw = torch.randn((count, 3), generator=generator("dual", count), dtype=torch.complex128)
        weights = builder._object(rows, draw, torch.complex128)
        columns = builder._columns(rows, torch.arange(256)).view(count, 3, 16, 16)
        half = half_sample(builder.positions_m, builder.model.table.fov_m).view(16, 16)
        expected = torch.einsum("ir,ityx->rtyx", draw.conj(), columns) * half
        assert relative(weights, expected) < 1e-7


@pytest.mark.parametrize("n_coils", [1, 2])
def test_own_responses_are_the_diagonal(n_coils):
    operator, _, _ = random_operator(8, n_coils)
    responses = operator.own_responses()
    for tissue, y, x in ((0, 0, 0), (1, 3, 6), (2, 7, 2)):
        impulse = torch.zeros((3, 8, 8), dtype=torch.float64)
        impulse[tissue, y, x] = 1.0
        seen = operator.forward(impulse)[:, y, x]
        torch.testing.assert_close(responses[tissue, :, y, x], seen)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
def test_leading_ranks_are_within_their_tolerance_and_adjoint(tolerance, workers):
    options = EngineOptions(engine=Engine.LOWRANK, workers=workers)
    operator = build_operator(scene_of(PROTOCOL, 16), options).operator
    coarse = operator.coarse(tolerance)
    assert sum(coarse.ranks) < sum(operator.ranks)
    assert len(coarse.ranks) == len(operator.ranks)
    assert operator.coarse(tolerance) is coarse
    maps = torch.stack([brain_maps(16), brain_maps(16).flip(0)])
    full, rough = operator.forward(maps), coarse.forward(maps)
    error = (full - rough).flatten(2).norm(dim=-1) / full.flatten(2).norm(dim=-1)
    assert 0 < float(error.max()) < 3 * tolerance
    images = images_like(operator)
    back = coarse.adjoint(images)
    left = (coarse.forward(maps[0]).conj() * images).real.sum()
    torch.testing.assert_close(left, (maps[0] * back).sum(), rtol=1e-4, atol=1e-4)
