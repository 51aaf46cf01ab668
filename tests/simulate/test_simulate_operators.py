"""One battery over all operators: adjoints, derivatives, batches, coils, memory, shapes."""

from dataclasses import dataclass

import pytest
import torch
from scenes import (
    analytic_fields,
    brain_maps,
    images_like,
    operator_of,
    relative,
    scene_of,
    smooth_maps,
)

from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.linearise import SLOPE_TOLERANCE
from bmapest_ray.simulate.operator import LinearOperator, NonlinearOperator, Operator
from bmapest_ray.tissue.fields import Fields

MATRIX = 8
PROTOCOL = "t1inv[2],t2prep[1]"


@dataclass(frozen=True)
class Case:
    """An operator of the battery and how exact its derivatives are."""

    engine: str
    mixing: str = "compartments"
    double: bool = False
    n_coils: int = 1
    protocol: str = PROTOCOL

    def __str__(self):
        precision = "128" if self.double else "64"
        return f"{self.engine}-{self.mixing}-{precision}-{self.n_coils}"

    @property
    def operator(self):
        return operator_of(
            self.protocol, MATRIX, self.engine, self.mixing, self.n_coils, self.double
        )

    @property
    def tolerance(self):
        return 1e-12 if self.double else 1e-5

    def maps(self, seed=0):
        return smooth_maps(MATRIX, seed, dtype=self.operator_real)

    def change(self, seed=0):
        draw = generator("change", seed)
        return torch.randn((3, MATRIX, MATRIX), generator=draw, dtype=self.operator_real)

    @property
    def operator_real(self):
        return torch.float64 if self.double else torch.float32


LINEAR = [
    Case("exact"),
    Case("exact", double=True),
    Case("exact", double=True, n_coils=2),
    Case("lowrank"),
    Case("lowrank", double=True),
    Case("lowrank", n_coils=2),
    Case("reference", n_coils=2, protocol="t1inv[0]"),
]
NONLINEAR = [
    Case("exact", "average"),
    Case("exact", "average", double=True, n_coils=2),
    Case("exact", "average-normalised", double=True),
    Case("reference", "average", protocol="t1inv[0]"),
]
every = pytest.mark.parametrize("case", LINEAR + NONLINEAR, ids=str)
linear = pytest.mark.parametrize("case", LINEAR, ids=str)
fast = pytest.mark.parametrize(
    "case", [c for c in LINEAR + NONLINEAR if c.engine != "reference"], ids=str
)
average = pytest.mark.parametrize("case", [c for c in NONLINEAR if c.double], ids=str)


def inner(a, b):
    """Return the real inner product ``Re sum conj(a) b``."""
    return float((a.conj() * b).real.double().sum())


@every
def test_the_adjoint_is_the_adjoint(case):
    operator, point, change = case.operator, case.maps(), case.change()
    images = images_like(operator)
    forth, back = operator.jvp(point, change), operator.vjp(point, images)
    difference = inner(forth, images) - inner(change, back)
    assert abs(difference) <= case.tolerance * float(forth.norm() * images.norm())
    assert inner(forth, images) != 0


@linear
def test_linear_operators_are_linear(case):
    operator, p, q = case.operator, case.maps(1), case.change(2)
    joined = 2 * operator.forward(p) - 3 * operator.forward(q)
    assert relative(operator.forward(2 * p - 3 * q), joined) < 10 * case.tolerance
    assert relative(operator.jvp(p, q), operator.forward(q)) < case.tolerance
    images = images_like(operator)
    if isinstance(operator, LinearOperator):
        assert torch.equal(operator.vjp(p, images), operator.adjoint(images))
    assert not operator.forward(torch.zeros_like(p)).any()


@every
def test_shapes_types_and_names(case):
    operator = case.operator
    assert isinstance(operator, Operator)
    assert operator.engine == case.engine
    assert operator.is_linear is (case.mixing == "compartments")
    assert (
        isinstance(operator, NonlinearOperator)
        or operator.is_linear
        or (case.engine == "reference")
    )
    assert (operator.matrix, operator.tissues) == (MATRIX, 3)
    assert operator.dtype == (torch.complex128 if case.double else torch.complex64)
    names = [channel.image for channel in operator.channels]
    images = case.protocol.split(",")
    assert names == [name for name in images for _ in range(case.n_coils)]
    assert [c.coil for c in operator.channels] == [*range(case.n_coils)] * len(images)
    assert [c.image_index for c in operator.channels][:: case.n_coils] == [*range(len(images))]
    found = operator.forward(case.maps())
    assert (found.dtype, found.shape) == (operator.dtype, (len(names), MATRIX, MATRIX))
    gradient = operator.vjp(case.maps(), found)
    assert (gradient.dtype, gradient.shape) == (case.operator_real, (3, MATRIX, MATRIX))


@fast
def test_single_and_double_maps_are_both_taken(case):
    operator = case.operator
    single, double = (operator.forward(case.maps().to(t)) for t in (torch.float32, torch.float64))
    assert single.dtype == double.dtype == operator.dtype
    assert relative(single, double) < 1e-5


@fast
def test_a_batch_is_a_loop(case):
    operator = case.operator
    points = torch.stack([case.maps(seed) for seed in range(2)]).view(2, 1, 3, MATRIX, MATRIX)
    changes = torch.stack([case.change(seed) for seed in range(2)]).view(points.shape)
    images = torch.stack([images_like(operator, seed) for seed in range(2)])
    images = images.view(2, 1, *images.shape[1:])
    forward, jvp = operator.forward(points), operator.jvp(points, changes)
    vjp = operator.vjp(points, images)
    assert forward.shape == jvp.shape == images.shape
    assert vjp.shape == points.shape
    place, tolerance = (1, 0), 10 * case.tolerance
    one = points[place]
    assert relative(forward[place], operator.forward(one)) < tolerance
    assert relative(jvp[place], operator.jvp(one, changes[place])) < tolerance
    assert relative(vjp[place], operator.vjp(one, images[place])) < tolerance


@pytest.mark.parametrize(
    ("engine", "mixing"),
    [("exact", "compartments"), ("lowrank", "compartments"), ("exact", "average")],
)
def test_coils_that_add_up_to_one_give_images_that_add_up(engine, mixing):
    single = analytic_fields(MATRIX)
    share = torch.rand((MATRIX, MATRIX), generator=generator("share"), dtype=torch.float64)
    first = torch.polar(share, 3 * share)
    coils = torch.stack([first, 1 - first, 1j * torch.ones_like(first)])
    options = EngineOptions(engine=Engine(engine), double=True, tolerance=1e-6)
    one, three = (
        build_operator(scene_of("t1inv[0,2]", MATRIX, mixing=mixing, fields=fields), options)
        for fields in (single, Fields(single.b0_hz, single.b1, coils))
    )
    maps = smooth_maps(MATRIX)
    alone = one.operator.forward(maps)
    seen = three.operator.forward(maps).view(2, 3, MATRIX, MATRIX)  # image-major over coils
    assert relative(seen[:, 0] + seen[:, 1], alone) < 1e-9
    assert relative(seen[:, 2], 1j * alone) < 1e-9
    assert three.dwell_s.tolist() == [float(one.dwell_s[0])] * 6


@pytest.mark.parametrize("case", [c for c in LINEAR if c.n_coils > 1], ids=str)
def test_a_coil_multiplies_the_object_not_the_image(case):
    coils = analytic_fields(MATRIX, 2).coils
    plain = operator_of(case.protocol, MATRIX, case.engine, double=case.double)
    seen = case.operator.forward(case.maps()).view(-1, 2, MATRIX, MATRIX)
    for number, coil in enumerate(coils.to(plain.dtype)):
        real, imaginary = (plain.forward(case.maps() * part) for part in (coil.real, coil.imag))
        assert relative(seen[:, number], real + 1j * imaginary) < 1e-5


@average
def test_the_derivative_matches_finite_differences(case):
    operator, point, change = case.operator, case.maps(), case.change()
    step = 1e-5
    ahead, behind = (operator.forward(point + s * change) for s in (step, -step))
    assert relative((ahead - behind) / (2 * step), operator.jvp(point, change)) < 1e-7


@pytest.mark.parametrize(
    ("mixing", "matrix"),
    [
        ("average", 8),
        pytest.param("average", 32, marks=pytest.mark.slow),
        pytest.param("average-normalised", 16, marks=pytest.mark.slow),
    ],
)
def test_linearise_gives_the_value_and_the_derivative(mixing, matrix):
    operator = operator_of(PROTOCOL, matrix, "exact", mixing, 2, True, workers=2)
    point = smooth_maps(8) if matrix == 8 else brain_maps(matrix).double()
    change = torch.randn(point.shape, generator=generator("change"), dtype=torch.float64)
    value, derivative = operator.linearise(point)
    assert isinstance(derivative, LinearOperator)
    assert derivative.channels == operator.channels
    tolerance = 5 * operator.tolerance  # measured there on some voxels, here on all
    assert relative(value, operator.forward(point)) < tolerance
    assert relative(derivative.forward(change), operator.jvp(point, change)) < SLOPE_TOLERANCE
    images = images_like(operator)
    assert relative(derivative.adjoint(images), operator.vjp(point, images)) < SLOPE_TOLERANCE


def test_linearise_of_an_empty_object_is_empty():
    operator = operator_of("t1inv[2]", MATRIX, "exact", "average", double=True)
    value, derivative = operator.linearise(torch.zeros(3, MATRIX, MATRIX, dtype=torch.float64))
    assert not value.any()
    assert not derivative.forward(smooth_maps(MATRIX)).any()


@pytest.mark.parametrize(("engine", "n_coils"), [("lowrank", 1), ("lowrank", 2), ("exact", 2)])
def test_normal_blocks_are_columns_of_the_normal_matrix(engine, n_coils):
    operator = operator_of(PROTOCOL, MATRIX, engine, n_coils=n_coils, double=True)
    blocks = operator.normal_blocks()
    assert blocks.shape == (3, 3, MATRIX, MATRIX)
    places = [(0, 0), (3, 5), (7, 2)]
    impulses = torch.zeros((len(places), 3, 3, MATRIX, MATRIX), dtype=torch.float64)
    for number, (y, x) in enumerate(places):
        impulses[number, torch.arange(3), torch.arange(3), y, x] = 1
    columns = operator.adjoint(operator.forward(impulses))  # (place, from, to, y, x)
    for number, (y, x) in enumerate(places):
        expected = columns[number, :, :, y, x].T
        assert relative(blocks[:, :, y, x], expected) < (1e-12 if engine == "lowrank" else 1e-5)
        assert torch.allclose(blocks[:, :, y, x], blocks[:, :, y, x].T)
        assert bool((torch.linalg.eigvalsh(blocks[:, :, y, x]) > 0).all())


@pytest.mark.parametrize(
    ("engine", "mixing"),
    [("exact", "compartments"), ("lowrank", "compartments"), ("exact", "average")],
)
def test_a_small_memory_budget_gives_the_same_numbers(engine, mixing):
    arguments = (PROTOCOL, MATRIX, engine, mixing, 2)
    large = operator_of(*arguments, double=True)
    small = operator_of(*arguments, double=True, memory_budget_gb=1e-6)
    maps = torch.stack([smooth_maps(MATRIX, seed) for seed in range(2)])
    images = torch.stack([images_like(large, seed) for seed in range(2)])
    assert relative(small.forward(maps), large.forward(maps)) < 1e-12
    assert relative(small.vjp(maps, images), large.vjp(maps, images)) < 1e-12


@pytest.mark.slow
def test_a_small_memory_budget_gives_the_same_linearisation():
    point, change = smooth_maps(16), smooth_maps(16, 1)
    near, far = (
        operator_of("t1inv[2]", 16, "exact", "average", 2, True, **options).linearise(point)[1]
        for options in ({"memory_budget_gb": 1e-6}, {})
    )
    assert relative(near.forward(change), far.forward(change)) < 1e-12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("engine", "mixing"),
    [("exact", "compartments"), ("lowrank", "compartments"), ("exact", "average")],
)
def test_cuda_gives_the_numbers_of_the_cpu(engine, mixing):
    arguments = (PROTOCOL, MATRIX, engine, mixing, 2)
    here, there = (operator_of(*arguments, double=True, device=d) for d in ("cpu", "cuda"))
    maps, images = smooth_maps(MATRIX), images_like(here)
    assert there.forward(maps).device.type == "cuda"
    assert relative(there.forward(maps).cpu(), here.forward(maps)) < 1e-10
    assert relative(there.vjp(maps, images).cpu(), here.vjp(maps, images)) < 1e-10
    assert relative(there.jvp(maps, maps).cpu(), here.jvp(maps, maps)) < 1e-10
