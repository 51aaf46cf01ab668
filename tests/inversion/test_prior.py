"""Priors: derivatives against finite differences, closed forms, and what they do to a fit."""

from dataclasses import dataclass

import pytest
import torch
from synthetic import T1INV, SyntheticOperator, brain, psnr

from bmapest_ray.anatomy.cohort import CohortStatistics
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.prior_choice import (
    Cohort,
    SumPrior,
    cross_validate,
    make_prior,
    prior_settings,
)
from bmapest_ray.inversion.prior_gaussian import GaussianPrior, gaussian_prior
from bmapest_ray.inversion.prior_pca import pca_prior
from bmapest_ray.inversion.prior_tv import TotalVariation
from bmapest_ray.inversion.problem import Prior
from bmapest_ray.inversion.result import Status
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import invert, invert_batch
from bmapest_ray.simulate.measurement import Measurement, Signal

N = 12


def statistics(stack):
    away = stack - stack.mean(0)
    covariance = torch.einsum("styx,suyx->tuyx", away, away) / (len(stack) - 1)
    return CohortStatistics(stack.mean(0), covariance, len(stack))


def cohort(matrix=N, count=8, dtype=torch.float64):
    stack = torch.stack([brain(matrix, 100 + i) for i in range(count)]).to(dtype)
    return Cohort(statistics(stack), stack)


NAMES = ("cohort", "tv", "pca", "neighbours", "cohort+tv", "pca+tv")


def random_maps(seed, batch=2, matrix=N):
    generator = torch.Generator().manual_seed(seed)
    return 0.4 * torch.rand(batch, 3, matrix, matrix, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_a_prior_fulfils_the_protocol_and_its_gradient_is_that_of_its_value(name):
    prior = make_prior(name, {}, cohort())
    assert isinstance(prior, Prior)
    assert prior.name == name
    p, dp = random_maps(1), random_maps(2) - 0.2
    step = 1e-5
    slope = (prior.value(p + step * dp) - prior.value(p - step * dp)) / (2 * step)
    expected = (prior.gradient(p) * dp).flatten(1).sum(1)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_curvature_is_symmetric_and_positive_and_has_the_stated_blocks(name):
    prior = make_prior(name, {}, cohort())
    p, a, b = random_maps(1, 1), random_maps(2, 1) - 0.2, random_maps(3, 1) - 0.2
    product = prior.curvature(p)
    torch.testing.assert_close((a * product(b)).sum(), (b * product(a)).sum())
    assert float((a * product(a)).sum()) > 0
    blocks = prior.blocks(p)
    blocks = blocks.expand(1, *blocks.shape[-4:])
    for y, x in ((0, 0), (5, 4), (N - 1, 3)):
        for tissue in range(3):
            unit = torch.zeros_like(p)
            unit[0, tissue, y, x] = 1
            torch.testing.assert_close(product(unit)[0, :, y, x], blocks[0, :, tissue, y, x])


@pytest.mark.parametrize("name", ["cohort", "pca"])
def test_the_curvature_of_a_gaussian_is_its_second_derivative(name):
    prior = make_prior(name, {}, cohort())
    p, dp = random_maps(1, 1), random_maps(2, 1) - 0.2
    change = prior.gradient(p + dp) - prior.gradient(p)
    torch.testing.assert_close(prior.curvature(p)(dp), change, rtol=1e-9, atol=1e-6)


def test_the_total_variation_lies_below_its_lagged_quadratic():
    prior = TotalVariation()
    p, dp = random_maps(1, 1), 0.3 * (random_maps(2, 1) - 0.2)
    model = (
        prior.value(p) + (prior.gradient(p) * dp).sum() + 0.5 * (dp * prior.curvature(p)(dp)).sum()
    )
    assert float(prior.value(p + dp)) < float(model)


def test_an_edge_costs_the_same_between_any_two_classes():
    prior = TotalVariation(strength=2.0, edge=1e-4)
    grey_white, grey_nothing = torch.zeros(2, 1, 3, 8, 8)
    grey_white[:, 0, :, :4] = 1
    grey_white[:, 1, :, 4:] = 1
    grey_nothing[:, 0, :, :4] = 1
    expected = torch.full((1,), 2.0 * 8 * 2**0.5, dtype=torch.float64)
    for maps in (grey_white, grey_nothing):
        torch.testing.assert_close(prior.value(maps), expected, rtol=1e-3, atol=0)
    assert float(prior.value(torch.full((1, 3, 8, 8), 0.3))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_perturbation_has_the_curvature_as_covariance(name):
    prior = make_prior(name, {}, cohort(6))
    p = random_maps(1, 1, 6)
    draws = prior.perturbation(p.expand(6000, -1, -1, -1), torch.Generator().manual_seed(0))
    for seed in (4, 5):
        test = random_maps(seed, 1, 6) - 0.2
        measured = (draws * test).flatten(1).sum(1).square().mean()
        expected = (test * prior.curvature(p)(test)).sum()
        assert float(measured / expected) == pytest.approx(1, abs=0.08)  # 4 standard errors


def test_the_precision_is_the_inverse_of_the_predictive_covariance():
    stats = cohort().statistics
    prior = gaussian_prior(stats, floor=0.05, window=1, strength=2.0)
    covariance = stats.covariance * (1 + 1 / 8) + 0.05**2 * torch.eye(3)[:, :, None, None]
    product = torch.einsum("tuyx,uvyx->yxtv", prior.precision[0], covariance)
    torch.testing.assert_close(product, 2 * torch.eye(3).double().expand_as(product))


def test_background_without_variance_stays_well_conditioned_in_single_precision():
    prior = gaussian_prior(cohort(dtype=torch.float32).statistics, floor=0.02)
    values = torch.linalg.eigvalsh(prior.precision[0].movedim((0, 1), (-2, -1)))
    assert prior.precision.dtype == torch.float32
    assert float(values.max()) <= 1.001 / 0.02**2
    assert float(values.min()) > 0.1


def test_the_pca_precision_inverts_its_covariance():
    own = cohort(6)
    prior = pca_prior(own.statistics, own.subjects, components=4, share=0.4, floor=0.1)
    unit = torch.eye(3 * 36, dtype=torch.float64).reshape(-1, 3, 6, 6)
    precision = prior.curvature(unit)(unit).flatten(1)
    basis = prior.components.flatten(1)
    local = prior.local.curvature(unit)(unit).flatten(1)
    covariance = torch.linalg.inv(local) + basis.T @ basis
    torch.testing.assert_close(
        precision @ covariance, torch.eye(3 * 36).double(), rtol=0, atol=1e-9
    )
    sample = own.subjects - own.subjects.mean(0)
    full = torch.linalg.matrix_norm(sample.flatten(1).T @ sample.flatten(1) / 7)
    assert float(torch.linalg.matrix_norm(basis.T @ basis) / full) == pytest.approx(
        0.4 * 9 / 8, rel=1e-6, abs=0.02
    )


def test_a_prior_is_selected_with_its_batch_items():
    stats = cohort().statistics
    one, two = gaussian_prior(stats), gaussian_prior(stats, strength=3.0)
    both = GaussianPrior(torch.cat([one.mean, two.mean]), torch.cat([one.precision, two.precision]))
    p = random_maps(1)
    torch.testing.assert_close(both.select(torch.tensor([1])).value(p[1:]), both.value(p)[1:])
    assert one.select(torch.tensor([1])) is one


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("cohrt", {}, "did you mean 'cohort'"),
        ("cohort", {"strenght": 1.0}, "did you mean 'strength'"),
        ("none", {"strength": 1.0}, "no settings"),
        ("cohort", {"window": 2}, "odd"),
        ("cohort", {"window": 1.5}, "whole number"),
        ("cohort", {"floor": 0.0}, "positive"),
        ("tv", {"strength": "much"}, "a number"),
        ("pca", {"components": 8}, "from 1 to 7"),
        ("pca", {"share": 1.0}, "between 0 and 1"),
    ],
)
def test_wrong_priors_are_refused_in_one_sentence(name, settings, told):
    with pytest.raises(InvalidInput, match=told):
        make_prior(name, settings, cohort())


def test_a_cohort_prior_without_cohort_says_what_to_use_instead():
    with pytest.raises(InvalidInput, match="use prior 'tv'"):
        make_prior("cohort")
    assert make_prior("none") is None


def test_settings_of_a_sum_carry_the_name_of_their_part():
    assert "tv.strength" in prior_settings("cohort+tv")
    prior = make_prior("cohort+tv", {"tv.strength": 7.0}, cohort())
    assert isinstance(prior, SumPrior)
    assert prior.parts[1].strength == 7.0


def test_cross_validation_takes_the_settings_of_the_lowest_mean_error():
    errors = {(1.0, "04"): 1.0, (1.0, "05"): 1.0, (2.0, "04"): 0.1, (2.0, "05"): 4.0}
    best, means = cross_validate(
        [{"strength": 1.0}, {"strength": 2.0}],
        ["04", "05"],
        lambda settings, subject: errors[settings["strength"], subject],
    )
    assert best == {"strength": 2.0}
    assert list(means.values()) == pytest.approx([1.0, 0.4**0.5])
    with pytest.raises(InvalidInput, match="tune subject"):
        cross_validate([{}], [], lambda *_: 1.0)


@dataclass(frozen=True)
class Scan:
    measurement: Measurement
    operator: SyntheticOperator
    truth: torch.Tensor


def scan(contrasts=T1INV[:1], snr=60.0, signal=Signal.COMPLEX, seed=3):
    operator = SyntheticOperator(contrasts, matrix=16)
    truth = brain(16, 7)
    images = operator.forward(truth)
    sigma = images.abs().max() / snr
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*images.shape, 2, generator=generator)
    images = images + sigma * torch.view_as_complex(noise)
    images = images.abs() if signal is Signal.MAGNITUDE else images
    return Scan(Measurement(images, signal, sigma.expand(len(images))), operator, truth)


@pytest.mark.parametrize("name", ["cohort", "pca", "cohort+tv"])
def test_one_contrast_with_a_prior_beats_the_cohort_and_keeps_the_constraints(name):
    one, own = scan(), cohort(16, dtype=torch.float32)
    settings = {"tv.strength": 0.3} if name == "cohort+tv" else {}
    fit = invert(one.measurement, one.operator, solver=SolverSettings(),
                 start=own.statistics.mean, prior=make_prior(name, settings, own))  # fmt: skip
    assert fit.status is Status.CONVERGED
    assert float(fit.maps.min()) >= 0
    assert float(fit.maps.sum(0).max()) <= 1 + 1e-6
    before = psnr(own.statistics.mean, one.truth)
    assert sum(psnr(fit.maps, one.truth)) > sum(before) + 3


def test_a_gaussian_prior_without_constraints_gives_the_dense_solution():
    one, own = scan(), cohort(16, dtype=torch.float32)
    prior = make_prior("cohort", {"floor": 0.1}, own)
    settings = SolverSettings(gradient_tolerance=1e-7, noise_tolerance=1e-4, support="all")
    fit = invert(one.measurement, one.operator, solver=settings, prior=prior,
                 start=own.statistics.mean, constraints="none")  # fmt: skip
    double = SyntheticOperator(T1INV[:1], matrix=16, dtype=torch.complex128)
    unit = torch.eye(3 * 256, dtype=torch.float64).reshape(-1, 3, 16, 16)
    columns = torch.view_as_real(double.forward(unit)).flatten(1)
    sigma = float(one.measurement.sigma[0])
    precision = prior.curvature(unit)(unit).flatten(1)
    data = torch.view_as_real(one.measurement.images.to(torch.complex128)).flatten()
    mean = prior.mean.double().flatten()
    right = columns @ (data - mean @ columns) / sigma**2
    exact = mean + torch.linalg.solve(columns @ columns.T / sigma**2 + precision, right)
    torch.testing.assert_close(fit.maps.double().flatten(), exact, rtol=0, atol=2e-4)


def test_a_batch_shares_a_prior():
    one, own = scan(), cohort(16, dtype=torch.float32)
    images = torch.stack([one.measurement.images, one.operator.forward(brain(16, 9))])
    both = invert_batch(
        Measurement(images, Signal.COMPLEX, one.measurement.sigma), one.operator,
        solver=SolverSettings(), start=own.statistics.mean, prior=make_prior("cohort", {}, own),
    )  # fmt: skip
    alone = invert(one.measurement, one.operator, solver=SolverSettings(),
                   start=own.statistics.mean, prior=make_prior("cohort", {}, own))  # fmt: skip
    torch.testing.assert_close(both[0].maps, alone.maps, rtol=0, atol=1e-5)
