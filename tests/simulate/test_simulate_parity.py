"""The exact engine against MR-zero: ``execute_graph`` on equal states, and on MR-zero's own."""

import pytest
import torch
from scenes import (
    COARSE,
    analytic_fields,
    brain_maps,
    plain_fields,
    relative,
    scene_of,
    smooth_maps,
)

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.tissue.table import PAPER_3T

MIXINGS = ("compartments", "average", "average-normalised")


def both(scene):
    """Return the reference and the exact operator of a scene."""
    engines = (Engine.REFERENCE, Engine.EXACT)
    return [build_operator(scene, EngineOptions(engine=engine)).operator for engine in engines]


def signal_and_gradient(operator, maps):
    """Images and the gradient of a fixed random-weighted loss, by one forward and one backward."""
    point = maps.detach().to(torch.float32, copy=True).requires_grad_()
    images = operator.forward(point)
    draw = torch.randn((2, *images.shape), generator=generator("parity-weights"))
    loss = (draw[0] * images.real + draw[1] * images.imag).sum()
    (gradient,) = torch.autograd.grad(loss, point)
    return images.detach(), gradient


def gradient_of(operator, maps, images):
    """Return the same gradient through ``vjp``, the way a solver gets it."""
    draw = torch.randn((2, *images.shape), generator=generator("parity-weights"))
    return operator.vjp(maps.to(torch.float32), torch.complex(draw[0], draw[1]))


def check_parity(scene, maps):
    reference, exact = both(scene)
    expected, expected_gradient = signal_and_gradient(reference, maps)
    found = exact.forward(maps)
    assert found.dtype == expected.dtype == torch.complex64
    assert relative(found, expected) <= 1e-5
    gradient = gradient_of(exact, maps, found)
    for tissue in range(3):
        assert relative(gradient[tissue], expected_gradient[tissue]) <= 1e-4


@pytest.mark.parametrize("mixing", MIXINGS)
def test_inversion_recovery_equals_mr_zero(mixing):
    check_parity(scene_of("t1inv", 16, mixing=mixing), smooth_maps(16))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_t2_preparation_equals_mr_zero(mixing):
    scene = scene_of("t2prep[1,3]", 16, mixing=mixing, accuracy=COARSE)
    heard = sum(model.plan.n_emissions for model in both(scene)[1].models)
    assert heard > 2 * 16 * 2  # several emitting states per line, also shifted ones
    check_parity(scene, smooth_maps(16))


@pytest.mark.parametrize("mixing", MIXINGS[:2])
def test_a_head_with_background_and_rim_equals_mr_zero(mixing):
    scene = scene_of("t1inv[1]", 16, mixing=mixing)
    reference, exact = both(scene)
    maps = brain_maps(16)
    assert bool((maps.sum(0) == 0).any())
    assert relative(exact.forward(maps), reference.forward(maps)) <= 1e-5


@pytest.mark.parametrize("mixing", MIXINGS[:2])
def test_coils_equal_mr_zero(mixing):
    fields = analytic_fields(8, 3)
    check_parity(scene_of("t1inv[2]", 8, mixing=mixing, fields=fields), smooth_maps(8))


@pytest.mark.parametrize("mixing", MIXINGS[:2])
def test_voxels_finer_than_the_acquisition_equal_mr_zero(mixing):
    finer = VoxelGrid(16, 0.216)
    scene = scene_of("t1inv[2]", 8, mixing=mixing, fields=analytic_fields(16), grid=finer)
    check_parity(scene, smooth_maps(16))


def test_finer_voxels_of_a_smooth_object_give_the_same_images():
    coarse, fine = (
        build_operator(
            scene_of("t1inv[2]", 16, fields=plain_fields(n), grid=VoxelGrid(n, 0.216)),
            EngineOptions(engine=Engine.EXACT),
        ).operator.forward(smooth_maps(n))
        for n in (16, 32)
    )
    assert relative(fine, coarse) < 0.05


def own_graph(operator, maps):
    """Images by MR-zero's own pre-pass and execution at thresholds of 1e-4."""
    images = []
    data = operator.sim_data(maps.to(torch.float32))
    rows = {name: getattr(PAPER_3T, name) for name in PAPER_3T.__dataclass_fields__}
    for model in operator.models:
        sequence = mrzero.to_mrzero(model.table)
        graph = mrzero.compute_graph(
            sequence,
            data,
            mrzero.probe_table(rows, PAPER_3T.names),
            max_state_count=5000,
            min_state_mag=1e-4,
        )
        signal = mrzero.execute(
            graph, sequence, data, min_emitted_signal=1e-4, min_latent_signal=1e-4
        )
        images.append(operator.images_of_signal(model, signal))
    return torch.cat(images)


@pytest.mark.parametrize("protocol", ["t1inv", "t2prep[1]"])
def test_mr_zeros_own_graph_gives_the_same_images(protocol):
    reference, exact = both(scene_of(protocol, 16))
    maps = smooth_maps(16)
    assert relative(exact.forward(maps), own_graph(reference, maps)) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("mixing", MIXINGS[:2])
@pytest.mark.parametrize("protocol", ["t2prep", "t2star", "dir", "flair", "dwi", "irflash"])
def test_every_preparation_equals_mr_zero(protocol, mixing):
    table = PAPER_3T.with_diffusivity_times(1e5) if protocol == "dwi" else PAPER_3T
    check_parity(scene_of(protocol, 16, mixing=mixing, table=table), smooth_maps(16))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["tse_t2w", "bssfp[1]", "se_t1w", "epi", "diffusion_se"])
def test_echoes_inside_the_window_equal_mr_zero(protocol):
    check_parity(scene_of(protocol, 16), smooth_maps(16))


@pytest.mark.slow
def test_both_preparations_with_three_coils_equal_mr_zero():
    scene = scene_of("t1inv,t2prep[0,2]", 16, fields=analytic_fields(16, 3))
    check_parity(scene, smooth_maps(16))


@pytest.mark.slow
@pytest.mark.parametrize("mixing", MIXINGS[:2])
@pytest.mark.parametrize("protocol", ["t1inv[0,2]", "t2prep[1]"])
def test_a_real_head_equals_mr_zero(brainweb_dir, protocol, mixing):
    anatomy = open_anatomy(f"bids:{brainweb_dir / 'brainweb14'}")
    where = SliceSpec.parse("below-top:75")
    maps = load_slice(anatomy, "42", where, matrix=32).fraction
    reference, exact = both(scene_of(protocol, 32, mixing=mixing))
    expected, expected_gradient = signal_and_gradient(reference, maps)
    found = exact.forward(maps)
    assert relative(found, expected) <= 1e-5
    gradient = gradient_of(exact, maps, found)
    # MR-zero takes abs(PD), whose derivative at zero is zero: compare where there is some tissue
    for tissue, there in enumerate(maps > 0.01):
        assert relative(gradient[tissue][there], expected_gradient[tissue][there]) <= 1e-4
