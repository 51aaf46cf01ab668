"""Radial and spiral readouts: equal to MR-zero, linear, adjoint, and inverted."""

from dataclasses import replace

import pytest
import torch
from scenes import COARSE, analytic_fields, images_like, relative, scene_of, smooth_maps

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import invert
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol
from bmapest_ray.sequence.scanner import SCANNERS
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.measurement import Measurement, Signal
from bmapest_ray.simulate.nufft_operator import JoinedOperator, NufftOperator

MATRIX = 16
SPIRAL = (("interleaves", 4),)
RADIAL = (("spokes", 26),)


def protocol_of(*contrasts):
    """Chains of one contrast each, from ``(sequence, parameters)``."""
    chains = tuple(
        Chain((Contrast(f"{sequence}{i}", sequence, parameters),))
        for i, (sequence, parameters) in enumerate(contrasts)
    )
    return Protocol("off grid", chains, SCANNERS["clinical-3t"], COARSE)


def operator_of(protocol, engine="lowrank", n_coils=1, **options):
    scene = scene_of(protocol, MATRIX, fields=analytic_fields(MATRIX, n_coils))
    return build_operator(scene, EngineOptions(engine=Engine(engine), **options)).operator


@pytest.mark.parametrize(
    ("sequence", "parameters"),
    [("radial", RADIAL), ("radial", (*RADIAL, ("golden_angle", True))), ("spiral", SPIRAL)],
    ids=["radial", "golden", "spiral"],
)
def test_images_equal_those_of_mr_zero(sequence, parameters):
    protocol = protocol_of((sequence, parameters))
    maps = smooth_maps(MATRIX)
    found = operator_of(protocol, tolerance=1e-6).forward(maps)
    expected = operator_of(protocol, "reference").forward(maps)
    assert relative(found, expected) <= 1e-5


def test_coils_equal_those_of_mr_zero():
    protocol = protocol_of(("spiral", SPIRAL))
    maps = smooth_maps(MATRIX)
    found = operator_of(protocol, n_coils=2, tolerance=1e-6).forward(maps)
    expected = operator_of(protocol, "reference", n_coils=2).forward(maps)
    assert relative(found, expected) <= 1e-5


@pytest.mark.parametrize("n_coils", [1, 3])
def test_adjoint_and_batches(n_coils):
    protocol = protocol_of(("radial", RADIAL), ("t1inv", ()), ("spiral", SPIRAL))
    operator = operator_of(protocol, n_coils=n_coils, double=True)
    assert isinstance(operator, JoinedOperator)
    assert [channel.image for channel in operator.channels][::n_coils] == [
        "radial0", "t1inv1", "spiral2"
    ]  # fmt: skip
    maps, images = smooth_maps(MATRIX), images_like(operator)
    one = (operator.forward(maps).conj() * images).sum().real
    assert float(one) == pytest.approx(float((maps * operator.adjoint(images)).sum()), rel=1e-9)
    both = operator.forward(torch.stack([maps, 2 * maps]))
    assert relative(both[1], 2 * operator.forward(maps)) < 1e-12
    again = operator.adjoint(torch.stack([images, images]))
    assert relative(again[0], operator.adjoint(images)) < 1e-12


def test_diagonal_blocks_are_close_to_those_of_unit_voxels():
    operator = operator_of(protocol_of(("radial", RADIAL)), double=True)
    assert isinstance(operator, NufftOperator)
    unit = torch.zeros((3, MATRIX, MATRIX), dtype=torch.float64)
    unit[1, 9, 6] = 1.0
    column = operator.adjoint(operator.forward(unit))[:, 9, 6]
    assert operator.normal_blocks()[1, :, 9, 6].numpy() == pytest.approx(column.numpy(), rel=0.1)


def test_a_radial_image_tells_what_two_cartesian_ones_leave_open():
    cartesian = [
        ("t1inv", (("inversion_delay_s", 0.5),)),
        ("t2prep", (("echo_delay_s", 0.3),)),
    ]
    radial = ("radial", (*RADIAL, ("flip_angle_deg", 5.0)))
    maps = smooth_maps(MATRIX, dtype=torch.float32)
    start = torch.full_like(maps, 0.25)
    errors = []
    for contrasts in (cartesian, [*cartesian, radial]):
        operator = operator_of(protocol_of(*contrasts))
        data = Measurement(operator.forward(maps), Signal.COMPLEX)
        settings = SolverSettings(max_iterations=6)
        found = invert(data, operator, solver=settings, start=start)
        errors.append(float((found.maps - maps).square().mean().sqrt()))
    assert errors[1] < 0.01
    assert errors[1] < 0.4 * errors[0]


def test_sharpened_images_show_the_object_as_a_cartesian_one_does():
    contrast = (("flip_angle_deg", 10.0), ("repetition_time_s", 0.05), ("dummy_pulses", 60))
    maps = smooth_maps(MATRIX)
    spokes = operator_of(protocol_of(("radial", (("spokes", 40), *contrast))))
    wanted = operator_of(protocol_of(("spoiled_gre", contrast))).forward(maps).abs()
    assert relative(spokes.sharpened(spokes.forward(maps)).abs(), wanted) < 0.05


def test_engines_that_need_a_grid_say_so():
    protocol = protocol_of(("spiral", SPIRAL))
    with pytest.raises(InvalidInput, match="exact engine encodes Cartesian readouts"):
        operator_of(protocol, "exact")
    averaged = scene_of(protocol, MATRIX, mixing="average")
    with pytest.raises(InvalidInput, match="off the grid"):
        build_operator(averaged)


@pytest.mark.parametrize("name", ["radial", "spiral"])
def test_shipped_protocols_off_the_grid_are_simulated(name):
    protocol = replace(parse_protocol(name), accuracy=COARSE)
    operator = operator_of(protocol)
    images = operator.forward(smooth_maps(MATRIX))
    assert float(images.abs().max()) > 0.1
    assert [channel.image for channel in operator.channels] == [c.name for c in protocol.contrasts]
