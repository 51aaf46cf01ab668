"""Gradients to what is played: against the exact engine and against rebuilt sequences."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scenes import (
    COARSE,
    FOV_M,
    PAPER_3T,
    analytic_fields,
    brain_maps,
    operator_of,
    relative,
    scene_of,
)

from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.chain import event_table
from bmapest_ray.simulate.event_tensors import event_tensors, same_structure
from bmapest_ray.simulate.mrzero import nyquist_per_m
from bmapest_ray.simulate.parameters import ParametricChain, SpinPoints
from bmapest_ray.simulate.reconstruct import kspace_of
from bmapest_ray.simulate.score_events import events_of

MATRIX = 16


def points_of(grid, matrix=MATRIX):
    """Every tissue at every voxel of the analytic fields."""
    maps = analytic_fields(matrix)

    def row(name):
        return PAPER_3T.column(name).double().repeat_interleave(matrix * matrix)

    names = ("pd", "t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")
    return SpinPoints(
        **{name: row(name) for name in names},
        b1=maps.b1.double().flatten().repeat(3),
        b0_hz=maps.b0_hz.double().flatten().repeat(3),
        position_m=grid.positions_m()[:, :2].repeat(3, 1),
    )


def parametric_of(protocol, matrix=MATRIX):
    model = scene_of(protocol, matrix, accuracy=COARSE).model(parse_protocol(protocol).chains[0])
    nyquist = nyquist_per_m(matrix, FOV_M).double().numpy()
    return ParametricChain(model.table, model.plan, nyquist), model


@pytest.mark.parametrize("protocol", ["t1inv[0]", "t2prep[1]", "tse_t2w", "epi"])
def test_kspace_is_that_of_the_exact_engine(protocol):
    chain, model = parametric_of(protocol)
    maps = brain_maps(MATRIX).double()
    found = chain.kspace(event_tensors(model.table), points_of(model.grid), maps.flatten())
    operator = operator_of(protocol, MATRIX, "exact", double=True)
    assert relative(found, kspace_of(operator.forward(maps))) < 1e-7


@pytest.mark.parametrize("name", ["t2prep[1]", "mprage", "bssfp", "tse_t2w"])
def test_events_of_a_score_are_those_of_its_seq_file(name):
    protocol = parse_protocol(name)
    chain = protocol.chains[0]
    direct = events_of(chain.write(MATRIX, FOV_M, protocol.scanner))
    imported = event_table(chain, protocol.scanner, MATRIX, FOV_M)
    assert len(direct.repetitions) == len(imported.repetitions)
    for ours, theirs in zip(direct.repetitions[:-1], imported.repetitions[:-1], strict=True):
        assert ours.angle_rad == pytest.approx(theirs.angle_rad, abs=1e-5)
        turn = np.exp(1j * ours.phase_rad) - np.exp(1j * theirs.phase_rad)
        assert abs(turn) < 1e-4
        assert ours.time_s[-1] == pytest.approx(theirs.time_s[-1], rel=1e-6, abs=1e-7)
        np.testing.assert_allclose(ours.k_per_m[-1], theirs.k_per_m[-1], atol=1e-2)
        np.testing.assert_allclose(ours.time_s[ours.adc], theirs.time_s[theirs.adc], atol=1e-7)
        np.testing.assert_allclose(ours.k_per_m[ours.adc], theirs.k_per_m[theirs.adc], atol=1e-2)


def test_structure_tells_two_chains_apart():
    protocol = parse_protocol("t1inv[0]")
    one = events_of(protocol.chains[0].write(MATRIX, FOV_M, protocol.scanner))
    longer = protocol.contrasts[0].with_parameters(inversion_delay_s=0.7)
    other = events_of(replace(protocol.chains[0], contrasts=(longer,)).write(
        MATRIX, FOV_M, protocol.scanner))  # fmt: skip
    prepared = parse_protocol("t2prep[0]").chains[0]
    assert same_structure(one, other)
    assert not same_structure(one, events_of(prepared.write(MATRIX, FOV_M, protocol.scanner)))


@pytest.mark.parametrize("field", ["angle_rad", "phase_rad", "duration_s", "moment_per_m"])
@pytest.mark.parametrize("protocol", ["t2prep[2]", "tse_t2w"])
def test_gradients_match_central_differences(protocol, field):
    chain, model = parametric_of(protocol)
    base = event_tensors(model.table)
    points = points_of(model.grid)
    some = torch.arange(7, 3 * MATRIX**2, 61)
    points = SpinPoints(**{f.name: getattr(points, f.name)[some] for f in fields(SpinPoints)})
    weight = torch.ones(len(some), dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    aim = torch.randn(chain.n_rows, MATRIX, generator=draw, dtype=torch.complex128)
    value = getattr(base, field)
    direction = torch.randn(value.shape, generator=draw, dtype=torch.float64)
    direction *= {"angle_rad": 0.3, "phase_rad": 0.3, "duration_s": 1e-5, "moment_per_m": 0.5}[
        field
    ]

    def cost(step):
        moved = replace(base, **{field: value + step * direction})
        kspace = chain.kspace(moved, points, weight).flatten(0, 1)
        return (kspace * aim.conj()).real.sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cost(step), step)
    size = 1e-4
    difference = (cost(size) - cost(-size)) / (2 * size)
    assert float(slope) == pytest.approx(float(difference), rel=1e-3)


@pytest.mark.parametrize(
    ("protocol", "parameter", "step"),
    [
        ("t1inv[0]", "inversion_delay_s", 1e-3),
        ("t2prep[1]", "echo_delay_s", 2e-3),
        ("t2star[1]", "extra_echo_delay_s", 1e-3),
        ("t2prep[2]", "flip_angle_deg", 0.01),
        ("tse_t2w", "repetition_time_s", 1e-2),
        ("se_pdw", "echo_time_s", 2e-4),
    ],
)
def test_gradient_to_a_parameter_is_that_of_sequences_built_anew(protocol, parameter, step):
    known = parse_protocol(protocol)
    contrast = known.contrasts[0]
    value = dict(contrast.parameters)[parameter]
    nyquist = nyquist_per_m(MATRIX, FOV_M).double().numpy()
    chain, model = parametric_of(protocol)
    points = points_of(model.grid)
    weight = brain_maps(MATRIX).double().flatten()

    def table(change):
        moved = contrast.with_parameters(**{parameter: value + change})
        score = replace(known.chains[0], contrasts=(moved,)).write(MATRIX, FOV_M, known.scanner)
        return events_of(score)

    tables = {sign: table(sign * step) for sign in (-1, 0, 1)}
    events = {sign: event_tensors(table) for sign, table in tables.items()}
    chain = ParametricChain(tables[0], model.plan, nyquist)
    assert same_structure(tables[-1], tables[1])
    slope = events[1].minus(events[-1], 2 * step)
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    cost = chain.kspace(events[0].moved([(x, slope)]), points, weight).abs().square().sum()
    (gradient,) = torch.autograd.grad(cost, x)
    anew = []
    for sign in (1, -1):
        scene = scene_of(replace(known, name=f"{sign}"), MATRIX, accuracy=COARSE)
        plan = scene.model(known.chains[0]).plan
        built = ParametricChain(tables[sign], plan, nyquist)
        anew.append(built.kspace(events[sign], points, weight).abs().square().sum())
    difference = float(anew[0] - anew[1]) / (2 * step)
    assert float(gradient) == pytest.approx(difference, rel=2e-3)
