"""Where things are: an object at [y, x] is seen at [y, x] of the images, by every engine."""

import pytest
import torch
from scenes import FOV_M, operator_of, plain_fields, relative, scene_of, smooth_maps

from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.chain import event_table
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.reconstruct import images_of, kspace_of

MATRIX = 16
ENGINES = [
    ("exact", "compartments"),
    ("lowrank", "compartments"),
    ("exact", "average-normalised"),
    ("reference", "compartments"),
]
every = pytest.mark.parametrize(("engine", "mixing"), ENGINES)


def letter():
    """An L: a bar along y at low x with a foot towards high x at low y. Shape ``(y, x)``."""
    shape = torch.zeros((MATRIX, MATRIX))
    shape[3:13, 4] = 1
    shape[3, 4:10] = 1
    return shape


def turned(shape):
    """All flips and transpositions of a picture; the first is the picture."""
    flips = [(), (0,), (1,), (0, 1)]
    return [s.flip(flip) if flip else s for s in (shape, shape.T) for flip in flips]


def likeness(image, shape):
    return float((image * shape).sum() / (image.norm() * shape.norm()))


@every
@pytest.mark.parametrize("tissue", [0, 2])
def test_a_letter_is_seen_as_it_stands(engine, mixing, tissue):
    operator = operator_of("t2prep[0]", MATRIX, engine, mixing)
    fractions = torch.zeros((3, MATRIX, MATRIX))
    fractions[tissue] = letter()
    (image,) = operator.forward(fractions).abs()
    like = [likeness(image, other) for other in turned(letter())]
    assert like[0] > 0.9
    assert like[0] > max(like[1:]) + 0.3


@every
@pytest.mark.parametrize(("row", "column"), [(2, 11), (13, 5), (8, 8), (0, 15)])
def test_one_voxel_is_the_brightest_pixel(engine, mixing, row, column):
    operator = operator_of("t1inv[3]", MATRIX, engine, mixing)
    fractions = torch.zeros((3, MATRIX, MATRIX))
    fractions[1, row, column] = 1
    (image,) = operator.forward(fractions).abs()
    assert divmod(int(image.argmax()), MATRIX) == (row, column)


def test_the_adjoint_puts_a_pixel_back_where_it_came_from():
    for engine in ("exact", "lowrank"):
        operator = operator_of("t2prep[0]", MATRIX, engine)
        fractions = torch.zeros((3, MATRIX, MATRIX))
        fractions[:, 4, 11] = 0.3
        back = operator.adjoint(operator.forward(fractions))
        for tissue in range(3):
            assert divmod(int(back[tissue].argmax()), MATRIX) == (4, 11)


def test_voxels_are_centred_on_the_field_of_view():
    grid = VoxelGrid(MATRIX, FOV_M)
    axis = grid.axis_m()
    assert axis.tolist() == pytest.approx([(i + 0.5 - 8) * FOV_M / 16 for i in range(16)])
    assert float(axis.sum()) == pytest.approx(0.0, abs=1e-12)
    x, y, z = grid.positions_m()[3 * MATRIX + 11].tolist()
    assert (x, y, z) == (float(axis[11]), float(axis[3]), 0.0)


@pytest.mark.parametrize("matrix", [2, 6, 16])
def test_reconstruction_is_unitary_and_undone(matrix):
    draw = generator("kspace", matrix)
    kspace = torch.randn((2, 3, matrix, matrix), generator=draw, dtype=torch.complex128)
    images = images_of(kspace)
    assert relative(kspace_of(images), kspace) < 1e-13
    assert relative(images_of(kspace_of(kspace)), kspace) < 1e-13
    assert float(images.norm()) == pytest.approx(float(kspace.norm()), rel=1e-13)
    assert images_of(kspace.to(torch.complex64)).dtype == torch.complex64


@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 2), (3, 7)])
def test_the_samples_of_one_voxel_make_one_pixel(row, column):
    matrix = 8
    grid = VoxelGrid(matrix, FOV_M)
    axis = grid.axis_m()
    index = torch.arange(matrix, dtype=torch.float64) - matrix / 2
    phase = -2 * torch.pi / FOV_M * (index[:, None] * axis[row] + (index + 0.5) * axis[column])
    image = images_of(torch.polar(torch.ones_like(phase), phase))
    expected = torch.zeros((matrix, matrix), dtype=torch.complex128)
    half = torch.tensor(-torch.pi * (column + 0.5 - matrix / 2) / matrix, dtype=torch.float64)
    expected[row, column] = matrix * torch.polar(torch.ones_like(half), half)
    assert float((image - expected).abs().max()) < 1e-12


@pytest.mark.parametrize("engine", ["exact", "lowrank", "reference"])
def test_off_resonance_turns_the_phase_backwards(engine):
    images = []
    for b0_hz in (0.0, 20.0):
        scene = scene_of("t1inv[3]", MATRIX, fields=plain_fields(MATRIX, b0_hz))
        operator = build_operator(scene, EngineOptions(engine=Engine(engine))).operator
        images.append(operator.forward(smooth_maps(MATRIX, dtype=torch.float32))[0])
    events = event_table(scene.protocol.chains[0], scene.protocol.scanner, MATRIX, FOV_M)
    rep = next(rep for rep in events.repetitions if rep.adc.any())
    echo_time_s = float(rep.time_s[rep.adc].mean())
    turned = torch.angle((images[1] * images[0].conj()).sum())
    assert float(turned) == pytest.approx(-2 * torch.pi * 20.0 * echo_time_s, abs=0.01)
