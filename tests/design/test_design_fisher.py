"""The bound with the point spread: against dense inverses, blocks, closed forms and draws."""

import math
from dataclasses import replace

import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.design.fisher import bound, covariance_of, image_information, k_weights
from bmapest_ray.design.score import score_protocol
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.signals import Signals, chain_signals, gauss_columns
from bmapest_ray.design.voxels import DesignVoxels, choose_voxels
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.measurement import Signal
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields, make_fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX = 8
GRID = VoxelGrid(MATRIX, 0.216)
SIGMA = 0.01
PROTOCOL = parse_protocol("t1inv[0,3],t2star[2]")


def uniform(b0_hz=0.0, b1=0.9):
    shape = (MATRIX, MATRIX)
    real = torch.float64
    return Fields(torch.full(shape, b0_hz, dtype=real), torch.full(shape, b1, dtype=real))


def setting_of(fields, count=1, **others):
    maps = torch.full((3, MATRIX, MATRIX), 0.3, dtype=torch.float64)
    known = {"sigma": SIGMA, "dwell_s": 30e-6, "columns": MATRIX, "accuracy": None, **others}
    voxels = choose_voxels(maps, fields, GRID, count)
    return DesignSetting(acquisition=GRID, table=PAPER_3T, voxels=voxels, **known)


def dense(fields):
    """The operator as a real matrix, ``(real and imaginary part, unknown)``."""
    scene = Scene(PROTOCOL, GRID, fields, PAPER_3T)
    options = EngineOptions(engine=Engine.LOWRANK, double=True, tolerance=1e-6)
    operator = build_operator(scene, options).operator
    units = torch.eye(3 * MATRIX**2, dtype=torch.float64).view(-1, 3, MATRIX, MATRIX)
    images = torch.cat([operator.forward(part) for part in units.split(64)])
    return torch.view_as_real(images).flatten(1).T


def signals_of(setting):
    return [chain_signals(chain, PROTOCOL, setting).at() for chain in PROTOCOL.chains]


def test_uniform_fields_give_exactly_the_inverse_of_the_whole_operator():
    fields = uniform(b0_hz=5.0)
    matrix = dense(fields)
    covariance = torch.linalg.inv(matrix.T @ matrix) * SIGMA**2
    expected = covariance.diagonal().view(3, -1)
    found = bound(signals_of(setting_of(fields)), setting_of(fields)).covariance[0].diagonal()
    assert torch.allclose(expected, expected.mean(1, keepdim=True).expand_as(expected), rtol=1e-3)
    assert torch.allclose(found, expected.mean(1), rtol=1e-3)


def test_mean_information_is_the_block_of_the_normal_operator():
    fields = uniform(b0_hz=5.0)
    setting = setting_of(fields)
    information = sum(image_information(s, setting).sum(0) for s in signals_of(setting))
    mean = (information * k_weights(setting)[:, None, None, None]).sum(0).real[0]
    scene = Scene(PROTOCOL, GRID, fields, PAPER_3T)
    operator = build_operator(scene, EngineOptions(double=True, tolerance=1e-6)).operator
    block = operator.normal_blocks()[..., 3, 4] / SIGMA**2
    assert torch.allclose(mean, block, rtol=1e-3)


def test_inverting_the_mean_block_promises_too_much():
    setting = setting_of(uniform())
    information = sum(image_information(s, setting).sum(0) for s in signals_of(setting))
    mean = (information * k_weights(setting)[:, None, None, None]).sum(0).real[0]
    promised = torch.linalg.inv(mean).diagonal()
    assert bool((bound(signals_of(setting), setting).variance > 1.02 * promised).all())


def test_draws_of_a_least_squares_fit_scatter_as_predicted():
    anatomy = open_anatomy("mni152")
    maps = load_slice(anatomy, "mni152", SliceSpec.parse("below-top:75"), matrix=MATRIX)
    fields = make_fields("analytic", "analytic", maps)
    matrix = dense(fields)
    solve = torch.linalg.pinv(matrix)
    noise = torch.randn(
        (len(matrix), 400), generator=generator("design-draws"), dtype=torch.float64
    )
    errors = (solve @ noise * SIGMA).view(3, MATRIX**2, -1)
    inside = maps.head.flatten()
    achieved = errors[:, inside].square().mean((1, 2)).sqrt()
    voxels = choose_voxels(maps.fraction, fields, GRID, int(inside.sum()))
    setting = replace(setting_of(fields), voxels=voxels)
    predicted = bound(signals_of(setting), setting).std
    assert torch.allclose(predicted, achieved, rtol=0.03)


def test_few_columns_and_voxels_are_enough():
    where = SliceSpec.parse("below-top:75")
    maps = load_slice(open_anatomy("mni152"), "mni152", where, matrix=MATRIX)
    fields = make_fields("analytic", "analytic", maps)
    inside = int(maps.head.sum())
    some = setting_of(fields)
    full = replace(some, voxels=choose_voxels(maps.fraction, fields, GRID, inside))
    few = replace(some, voxels=choose_voxels(maps.fraction, fields, GRID, 8), columns=4)
    expected = bound(signals_of(full), full).std
    assert torch.allclose(bound(signals_of(few), few).std, expected, rtol=0.02)


def made_up(rows, sampled=None):
    """Signals ``(image, tissue)`` that are the same on every line of one voxel."""
    tissues = torch.as_tensor(rows, dtype=torch.complex128)
    shape = (len(rows), MATRIX, MATRIX, tissues.shape[1], 1)
    full = tissues[:, None, None, :, None].expand(shape)
    everything = torch.ones((len(rows), MATRIX), dtype=torch.bool)
    dwell = torch.full((len(rows),), 30e-6, dtype=torch.float64)
    return Signals(full, full[:, :, :, :0], everything if sampled is None else sampled, dwell)


def test_without_point_spread_it_is_the_textbook_bound():
    rows = torch.tensor([[1.0, 0.2, 0.1], [0.3, 1.0, 0.2], [0.5, 0.4, 1.0], [1, 1, 1]])
    setting = setting_of(uniform())
    found = bound([made_up(rows.tolist())], setting).covariance[0]
    expected = torch.linalg.inv(rows.T.double() @ rows.double()) * SIGMA**2 / MATRIX**2
    assert torch.allclose(found, expected)


def test_magnitudes_of_a_real_image_tell_as_much_where_the_signal_is_strong():
    rows = [[1.0, 0.2, 0.1], [0.3, 1.0, 0.2], [0.5, 0.4, 1.0]]
    setting = setting_of(uniform())
    complex_ = bound([made_up(rows)], setting).variance
    magnitude = bound([made_up(rows)], replace(setting, signal=Signal.MAGNITUDE)).variance
    assert torch.allclose(magnitude, complex_, rtol=1e-2)
    dim = replace(setting, signal=Signal.MAGNITUDE, sigma=3.0)
    assert bool((bound([made_up(rows)], dim).variance > 1.2 * complex_ * (3 / SIGMA) ** 2).all())


def test_a_prior_and_known_nuisances_are_the_limits_of_unknown_ones():
    fields = uniform(b0_hz=3.0)
    plain = setting_of(fields, columns=4)
    known = replace(plain, nuisances={"b1": 1e-9, "t1": 1e-9, "phase": 1e-9})
    unknown = replace(plain, nuisances={"b1": 0.1, "t1": 0.05, "phase": math.inf})
    assert torch.allclose(bound(signals_of(known), known).std, bound(signals_of(plain), plain).std)
    assert bool(
        (bound(signals_of(unknown), unknown).std > bound(signals_of(known), known).std).all()
    )
    sd = 0.05
    strong = replace(plain, prior=torch.eye(3) / sd**2, sigma=1e3)
    information = sum(image_information(s, strong).sum(0) for s in signals_of(strong))
    assert torch.allclose(
        covariance_of(information, strong)[0].diagonal().sqrt(),
        torch.full((3,), sd, dtype=torch.float64),
        rtol=1e-4,
    )


def test_too_few_contrasts_are_refused_with_the_numbers():
    setting = setting_of(uniform(), columns=4)
    with pytest.raises(InvalidInput, match=r"3 tissues, got 1 contrast\(s\) .* to nothing"):
        score_protocol(parse_protocol("t1inv[0]"), setting)
    # conjugate symmetry makes two contrasts of real maps just solvable, and useless
    with pytest.raises(InvalidInput, match=r"3 tissues, got 2 contrast\(s\) .* deviation of \d+"):
        score_protocol(parse_protocol("t1inv[0,1]"), replace(setting, sigma=1.0))


def test_twice_the_dwell_time_halves_the_variance():
    setting = setting_of(uniform())
    signals = made_up([[1.0, 0.2, 0.1], [0.3, 1.0, 0.2], [0.5, 0.4, 1.0]])
    longer = replace(signals, dwell_s=signals.dwell_s * 2)
    ratio = bound([signals], setting).variance / bound([longer], setting).variance
    assert torch.allclose(ratio, torch.full_like(ratio, 2.0))


def test_columns_are_symmetric_and_weigh_one():
    columns = gauss_columns(64, 4)
    assert [63 - i for i in columns.index] == list(reversed(columns.index))
    assert float(columns.weight.sum()) == pytest.approx(1)


def test_voxels_cover_the_transmit_field_and_are_refused_beyond_the_head():
    b1 = torch.linspace(0.8, 1.2, MATRIX**2, dtype=torch.float64).view(MATRIX, MATRIX)
    maps = torch.full((3, MATRIX, MATRIX), 0.3)
    chosen = choose_voxels(maps, Fields(torch.zeros_like(b1), b1), GRID, 8)
    assert float(chosen.b1.mean()) == pytest.approx(1, abs=0.01)
    assert isinstance(chosen, DesignVoxels)
    assert len(chosen) == 8
    with pytest.raises(InvalidInput, match=r"in 1\.\.64"):
        choose_voxels(maps, Fields(torch.zeros_like(b1), b1), GRID, 65)
