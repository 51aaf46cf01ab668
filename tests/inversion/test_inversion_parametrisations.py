"""One battery over all parametrisations, and what is special about each."""

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain, cohort_mean, psnr

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.cohort_coefficients import CohortMixture, principal_components
from bmapest_ray.inversion.parametrisation import Direct, Parametrisation, choose_constraint
from bmapest_ray.inversion.parametrisations import (
    PARAMETRISATIONS,
    make_parametrisation,
    parametrisation_settings,
)
from bmapest_ray.inversion.pointwise import SingleTissue, Softmax
from bmapest_ray.inversion.resolution import Coarse, LearnedUpsampling
from bmapest_ray.inversion.result import Status
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert, invert_batch

MATRIX = 12
COHORT = torch.stack([brain(MATRIX, seed).double() for seed in range(50, 56)])
TRUTHS = torch.stack([brain(MATRIX, seed).double() for seed in (0, 1)])
INSIDE = 0.9 * TRUTHS + 0.02
INVERTIBLE = ("direct", "sigmoid", "softmax")
VOXELWISE = ("direct", "sigmoid", "softmax", "single-tissue")


def make(name: str, **settings) -> Parametrisation:
    found = make_parametrisation(name, settings, cohort=COHORT, known=TRUTHS[0], matrix=MATRIX)
    return Direct() if found is None else found


@pytest.fixture(params=[*PARAMETRISATIONS, "mixture-global clamped", "pca clamped"])
def parametrisation(request) -> Parametrisation:
    name, _, clamped = request.param.partition(" ")
    return make(name, clamp=True) if clamped else make(name)


def _random_like(x, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)


def test_shapes_and_protocol(parametrisation):
    x = parametrisation.inverse(INSIDE)
    assert isinstance(parametrisation, Parametrisation)
    assert parametrisation.forward(x).shape == INSIDE.shape
    assert parametrisation.constraints


def test_inverse_then_forward_is_a_projection(parametrisation):
    once = parametrisation.forward(parametrisation.inverse(INSIDE))
    twice = parametrisation.forward(parametrisation.inverse(once))
    tolerance = 0.1 if getattr(parametrisation, "clamp", False) else 2e-4
    torch.testing.assert_close(twice, once, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_round_trip_of_the_invertible_ones(name):
    found = make(name)
    torch.testing.assert_close(found.forward(found.inverse(INSIDE)), INSIDE, rtol=0, atol=1e-9)


def test_jvp_matches_central_differences(parametrisation):
    x = parametrisation.inverse(INSIDE)
    x = x + 0.01 * _random_like(x, 1)
    dx, step = _random_like(x, 2), 1e-6
    ends = [parametrisation.forward(x + sign * step * dx) for sign in (1, -1)]
    numeric = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(parametrisation.jvp(x, dx), numeric, rtol=1e-6, atol=1e-7)


def test_vjp_is_the_adjoint_of_jvp(parametrisation):
    x = parametrisation.inverse(INSIDE)
    dx, dp = _random_like(x, 3), _random_like(INSIDE, 4)
    left = (parametrisation.jvp(x, dx) * dp).sum()
    right = (dx * parametrisation.vjp(x, dp)).sum()
    torch.testing.assert_close(left, right)


def test_batch_items_are_independent(parametrisation):
    index = torch.tensor([1])
    x = parametrisation.inverse(INSIDE)
    one = parametrisation.select(index)
    torch.testing.assert_close(one.inverse(INSIDE[1:]), x[1:])
    torch.testing.assert_close(one.forward(x[1:]), parametrisation.forward(x)[1:])


@pytest.mark.parametrize("name", VOXELWISE)
def test_blocks_are_those_of_the_chain_rule(name):
    found = make(name)
    root = _random_like(torch.empty(1, 3, 3, MATRIX, MATRIX, dtype=torch.float64), 5)
    blocks = torch.einsum("btiyx,buiyx->btuyx", root, root)
    x, dx = found.inverse(INSIDE), _random_like(found.inverse(INSIDE), 6)
    inner = torch.einsum("biyx,bijyx,bjyx->b", dx, found.blocks(x, blocks), dx)
    dp = found.jvp(x, dx)
    outer = torch.einsum("btyx,btuyx,buyx->b", dp, blocks.expand(2, -1, -1, -1, -1), dp)
    torch.testing.assert_close(inner, outer)


@pytest.mark.parametrize("linear", [True, False])
def test_coarse_blocks_are_the_diagonal_of_the_normal_matrix(linear):
    coarse = Coarse(2, linear)
    x = torch.zeros((1, 3, 3, 3), dtype=torch.float64)
    root = _random_like(torch.empty(1, 3, 3, 6, 6, dtype=torch.float64), 5)
    blocks = torch.einsum("btiyx,buiyx->btuyx", root, root)
    unit = x.clone()
    unit[0, 2, 1, 1] = 1
    p = coarse.jvp(x, unit)
    found = coarse.vjp(x, torch.einsum("btuyx,buyx->btyx", blocks, p))[0, 2, 1, 1]
    torch.testing.assert_close(found, coarse.blocks(x, blocks)[0, 2, 2, 1, 1])


def test_softmax_stays_in_the_simplex_and_sigmoid_in_the_box():
    wild = 30 * _random_like(INSIDE, 7)
    p = Softmax().forward(wild)
    assert float(p.min()) >= 0
    assert float(p.sum(1).max()) <= 1 + 1e-12
    assert float(make("sigmoid").forward(wild).max()) <= 1


def test_coarse_keeps_the_simplex_and_constant_maps():
    for linear in (True, False):
        coarse = Coarse(4, linear)
        x = torch.softmax(_random_like(torch.empty(1, 4, 3, 3, dtype=torch.float64)), 1)[:, 1:]
        p = coarse.forward(x)
        assert float(p.min()) >= 0
        assert float(p.sum(1).max()) <= 1
        constant = torch.full((1, 3, 12, 12), 0.3, dtype=torch.float64)
        torch.testing.assert_close(coarse.forward(coarse.inverse(constant)), constant)


def test_learned_upsampling_starts_as_bilinear_interpolation():
    learned = LearnedUpsampling(3, MATRIX)
    torch.testing.assert_close(
        learned.forward(learned.inverse(INSIDE)), Coarse(2).forward(Coarse(2).inverse(INSIDE))
    )


@pytest.mark.parametrize("sharing", ["global", "pixel", "tissue"])
def test_a_cohort_member_is_its_own_combination(sharing):
    mixture = CohortMixture(COHORT[None], sharing)
    target = 0.3 * COHORT[1:2] + 0.7 * COHORT[4:5]
    x = mixture.inverse(target)
    torch.testing.assert_close(mixture.forward(x), target, rtol=0, atol=1e-9)
    if sharing == "global":
        torch.testing.assert_close(x[0, [1, 4]], torch.tensor([0.3, 0.7], dtype=torch.float64))


def test_principal_components_are_those_of_the_covariance():
    mean, components = principal_components(COHORT[None], 5)
    centred = (COHORT - COHORT.mean(0)).flatten(1)
    torch.testing.assert_close(mean[0], COHORT.mean(0))
    flat = components[0].flatten(1)
    torch.testing.assert_close(flat.T @ flat, centred.T @ centred / 5, rtol=0, atol=1e-10)
    with pytest.raises(InvalidInput, match=r"1\.\.5"):
        principal_components(COHORT[None], 6)


def test_the_papers_pca_cannot_reach_the_mean():
    paper, ours = make("pca-paper", components=3), make("pca", components=3)
    mean = COHORT.mean(0, keepdim=True)
    torch.testing.assert_close(ours.forward(ours.inverse(mean)), mean)
    assert float((paper.forward(paper.inverse(mean)) - mean).abs().max()) > 0.1


def test_single_tissue_leaves_the_others_and_its_capacity():
    found = SingleTissue(TRUTHS[:1], 1)
    p = found.forward(torch.full((1, 1, MATRIX, MATRIX), 0.25, dtype=torch.float64))
    assert torch.equal(p[:, [0, 2]], TRUTHS[:1, [0, 2]])
    assert float(p[:, 1].min()) == 0.25
    torch.testing.assert_close(found.capacity(), 1 - TRUTHS[:1, [0, 2]].sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "single-tissue", "mixture-tissue", "pca"])
def test_gauss_newton_recovers_maps_in_the_range_of_each(name):
    operator = SyntheticOperator(T1INV + T2PREP, MATRIX, torch.complex128)
    found = make(name)
    target = 0.3 * COHORT[:1] + 0.65 * COHORT[2:3] + 0.015
    truth = TRUTHS[:1] if name == "single-tissue" else found.forward(found.inverse(target))
    measurement = BatchMeasurement(operator.forward(truth), "complex")
    start = COHORT.mean(0, keepdim=True) * 0.9 + 0.03
    settings = SolverSettings(max_iterations=100, inner_iterations=60, decrease_tolerance=0.0)
    (result,) = invert_batch(
        measurement, operator, solver=settings, start=start, parametrisation=found
    )
    assert result.status in (Status.CONVERGED, Status.MAX_ITERATIONS)
    assert min(psnr(result.maps, truth[0])) > 55


def test_coarse_fit_of_fine_data_and_its_use_as_start():
    operator = SyntheticOperator(T1INV + T2PREP, MATRIX)
    truth = brain(MATRIX)
    measurement = BatchMeasurement(operator.forward(truth).abs(), "magnitude")
    coarse = invert(
        measurement, operator, solver=SolverSettings(), start=cohort_mean(MATRIX),
        parametrisation=Coarse(2),
    )  # fmt: skip
    fine = invert(measurement, operator, solver=SolverSettings(), start=coarse.maps)
    assert coarse.objective < coarse.history[0].objective
    assert min(psnr(fine.maps, truth)) > 80 > 30 > min(psnr(coarse.maps, truth))


def test_single_tissue_of_one_contrast_is_determined():
    operator = SyntheticOperator(T1INV[:1], MATRIX, torch.complex128)
    start = TRUTHS[0].clone()
    start[2] = 0.0
    result = invert(
        BatchMeasurement(operator.forward(TRUTHS[0]), "complex"), operator, start=start,
        solver=SolverSettings(inner_iterations=60), parametrisation=SingleTissue(TRUTHS[:1], 2),
    )  # fmt: skip
    assert result.converged, result.message
    torch.testing.assert_close(result.maps, TRUTHS[0], rtol=0, atol=1e-4)


def test_names_settings_and_constraints_are_checked():
    assert parametrisation_settings("coarse") == {"factor": 2, "linear": True}
    for name, settings, match in (
        ("softmx", {}, "did you mean 'softmax'"),
        ("coarse", {"facto": 3}, "did you mean 'factor'"),
        ("coarse", {"factor": 5}, "divide the matrix"),
        ("single-tissue", {"tissue": 3}, r"0\.\.2"),
    ):
        with pytest.raises(InvalidInput, match=match):
            make(name, **settings).inverse(INSIDE)
    with pytest.raises(InvalidInput, match="other subjects"):
        make_parametrisation("pca", cohort=COHORT[:1])
    with pytest.raises(InvalidInput, match="needs the maps"):
        make_parametrisation("single-tissue")
    with pytest.raises(InvalidInput, match="must be one of none"):
        choose_constraint(Softmax(), "simplex")
    with pytest.raises(InvalidInput, match="batch axis"):
        CohortMixture(COHORT)
    assert make_parametrisation("direct") is None
