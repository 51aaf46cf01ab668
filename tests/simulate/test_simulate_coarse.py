"""The engine for coarse graphs gives what the general one gives, at a fraction of its cost."""

from dataclasses import replace

import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.average_coarse import CoarseAverageOperator
from bmapest_ray.simulate.average_following import FollowingOperator
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.factory import build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.propagate import Propagator, SpinParameters
from bmapest_ray.simulate.reference import ReferenceOperator
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields, make_fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import PAPER_3T, TissueTable

MATRIX = 16
COARSE = StateAccuracy(
    min_state_mag=1e-3, min_latent_signal=1e-2, min_emitted_signal=1e-2, probes="mean"
)


def scene_of(text: str, coils: int = 1) -> tuple[Scene, torch.Tensor]:
    maps = load_slice(open_anatomy("mni152"), "mni152", SliceSpec.parse("below-top:75"), MATRIX)
    fields = make_fields("paper", "paper", maps, n_coils=coils)
    protocol = replace(parse_protocol(text), accuracy=COARSE)
    table = PAPER_3T.with_diffusivity_times(1e5)
    acquisition, voxels = VoxelGrid(MATRIX, 0.2), VoxelGrid(MATRIX, 0.192)
    return Scene(protocol, acquisition, fields, table, Mixing.AVERAGE, voxels), maps.fraction


def parts(scene: Scene) -> tuple[tuple[ChainModel, ...], TissueTable, Fields]:
    return tuple(scene.model(c) for c in scene.protocol.chains), scene.table, scene.fields


@pytest.mark.parametrize(("text", "coils"), [("t1inv,t2prep", 1), ("t2star,dwi", 2)])
def test_coarse_and_general_engine_agree(text: str, coils: int) -> None:
    scene, p = scene_of(text, coils)
    general = AverageOperator(*parts(scene), dtype=torch.complex128)
    coarse = CoarseAverageOperator(*parts(scene), dtype=torch.complex128)
    images = coarse.forward(p)
    wanted = general.forward(p)
    assert float((images - wanted).norm() / wanted.norm()) < 1e-5
    draw = torch.randn(2, *images.shape, generator=generator("coarse"), dtype=torch.float64)
    cotangent = torch.view_as_complex(draw.movedim(0, -1).contiguous())
    gradient, wanted = coarse.vjp(p, cotangent), general.vjp(p, cotangent)
    assert float((gradient - wanted).norm() / wanted.norm()) < 1e-5


def test_derivative_is_taken_where_it_is_asked_for() -> None:
    scene, p = scene_of("t1inv")
    operator = CoarseAverageOperator(*parts(scene), dtype=torch.complex128)
    s = operator.forward(p)
    here = operator.vjp(p, s)
    operator.forward(0.9 * p)  # another simulation is kept now
    assert torch.equal(operator.vjp(p, s), here)
    assert not torch.equal(operator.vjp(0.9 * p, s), here)


def test_empty_voxels_change_nothing_and_get_no_gradient() -> None:
    scene, p = scene_of("t1inv[0]")
    operator = CoarseAverageOperator(*parts(scene))
    gradient = operator.vjp(p, operator.forward(p))
    assert not gradient[:, p.sum(0) == 0].any()
    assert not operator.forward(torch.zeros_like(p)).any()


def test_factory_takes_it_for_mean_graphs() -> None:
    scene, _ = scene_of("t1inv[0]")
    assert isinstance(build_operator(scene).operator, CoarseAverageOperator)


def following(text: str) -> tuple[FollowingOperator, Scene, torch.Tensor]:
    scene, p = scene_of(text)
    follow = replace(COARSE, probes="mean-of-maps")
    scene = replace(scene, protocol=replace(scene.protocol, accuracy=follow))
    operator = build_operator(scene).operator
    assert isinstance(operator, FollowingOperator)
    return operator, scene, p


def test_the_graph_follows_the_mean_tissue_of_the_maps() -> None:
    operator, scene, p = following("t1inv[2]")
    inside = p[:, p.sum(0) > 0].double().mean(1)
    mean = operator.mean_of(p)
    assert mean.shares == pytest.approx(inside.tolist(), abs=0.001)
    fixed = CoarseAverageOperator(
        tuple(scene.model(c, mean) for c in scene.protocol.chains),
        *parts(scene)[1:], mixing=Mixing.AVERAGE,
    )  # fmt: skip
    images = operator.forward(p)
    assert torch.equal(images, fixed.forward(p))
    assert torch.equal(operator.vjp(p, images), fixed.vjp(p, images))
    # maps whose mean tissue is nulled while the train is read lose lines; half of them do not
    t1_s = float(torch.tensor(PAPER_3T.t1_s).double() @ inside)
    nulled = p * (1.5 / t1_s)
    heard = [operator.at(maps).models[0].plan.n_emissions for maps in (nulled, 0.5 * p)]
    assert heard[0] < heard[1] == MATRIX
    assert not torch.equal(operator.forward(nulled), fixed.forward(nulled))
    both = torch.stack([p, nulled])
    assert torch.equal(operator.forward(both)[1], operator.forward(nulled))
    change = 1e-3 * p
    moved = operator.forward(p + change) - operator.forward(p - change)
    assert float((0.5 * moved - operator.jvp(p, change)).norm() / moved.norm()) < 1e-3


@pytest.mark.parametrize("scale", [0.8, 0.9, 1.0, 1.1])
def test_the_graph_is_that_of_mr_zeros_own_pre_pass(scale: float) -> None:
    """Which lines are lost near a null depends on B1 as well, which MR-zero averages."""
    operator, _, p = following("t1inv")
    p = scale * p
    model = operator.at(p).models[0]
    reference = ReferenceOperator(
        (model,), operator.at(p).table, operator.at(p).fields, Mixing.AVERAGE
    )
    data, sequence = reference.sim_data(p), mrzero.to_mrzero(model.table)
    graph = mrzero.compute_graph(sequence, data, None, max_state_count=200, min_state_mag=1e-3)
    signal = mrzero.execute(graph, sequence, data, min_emitted_signal=1e-2, min_latent_signal=1e-2)
    wanted = reference.images_of_signal(model, signal)
    error = (operator.forward(p) - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert float(error.max()) < 1e-3


def test_voxels_without_density_are_left_out() -> None:
    operator, _, p = following("t1inv[0]")
    dead = p.clone()
    y, x = map(int, (p.sum(0) > 0.9).nonzero()[0])
    dead[:, y, x] = torch.tensor([-0.3, 0.1, 0.1])  # a density of -0.07
    empty = dead.clone()
    empty[:, y, x] = 0.0
    images = operator.forward(dead)
    assert torch.equal(images, operator.forward(empty))
    assert not operator.vjp(dead, images)[:, y, x].any()
    assert operator.mean_of(dead) == operator.mean_of(empty)
    change = torch.zeros_like(p)
    change[:, y, x] = 0.1
    assert not operator.jvp(dead, change).any()


def test_maps_without_any_tissue_have_a_graph() -> None:
    operator, _, p = following("t1inv[0]")
    assert not operator.forward(torch.zeros_like(p)).any()


def test_trains_play_as_their_repetitions_one_by_one() -> None:
    scene, _ = scene_of("t1inv,t2prep")
    for chain in scene.protocol.chains:
        propagator = Propagator(scene.model(chain).plan, torch.complex128)
        assert sum(train.stop - train.first for train in propagator._trains.values()) > 40
        t1_s = torch.tensor([1e-6, 0.02, 0.83, 4.16], dtype=torch.float64)
        parameters = SpinParameters(
            t1_s, 0.1 * t1_s, torch.full_like(t1_s, 1e-9), torch.linspace(0.0, 1.3, 4).double()
        )
        at_once = propagator.heard(parameters)
        propagator._trains = {}
        one_by_one = propagator.heard(parameters)
        assert float((at_once - one_by_one).abs().max()) < 1e-12
