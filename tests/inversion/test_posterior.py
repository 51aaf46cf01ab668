"""The posterior against dense matrices and Monte-Carlo."""

import math

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain

from bmapest_ray.base.errors import InvalidInput, SolveError
from bmapest_ray.inversion.conjugate_gradients import solve_spd
from bmapest_ray.inversion.information import information_at
from bmapest_ray.inversion.loss_rician import relative_information
from bmapest_ray.inversion.posterior import Posterior, coverage
from bmapest_ray.inversion.prior_gaussian import GaussianPrior
from bmapest_ray.inversion.prior_tv import TotalVariation

N = 12


def wide_prior(std=0.3, matrix=N):
    identity = torch.eye(3)[None, :, :, None, None] / std**2
    return GaussianPrior(
        torch.full((1, 3, matrix, matrix), 0.25), identity.expand(1, 3, 3, matrix, matrix)
    )


def posterior(magnitude=False, prior=None, contrasts=T1INV + T2PREP, free=None, snr=50.0):
    operator = SyntheticOperator(contrasts, matrix=N)
    maps = brain(N, 5) * 0.9 + 0.02
    images = operator.forward(maps)
    sigma = (images.abs().max() / snr).expand(len(images))
    free = torch.ones(N, N, dtype=torch.bool) if free is None else free
    return Posterior(information_at(operator, maps, sigma, magnitude=magnitude), prior, free)


def dense(one):
    """Covariance from columns of the derivative itself, not from products."""
    unit = torch.eye(3 * N * N).reshape(-1, 3, N, N)
    columns = one.information.whitened(unit)
    real = torch.view_as_real(columns) if columns.is_complex() else columns
    rows = real.flatten(1).double()
    precision = rows @ rows.T
    if one.prior is not None:
        bend = one.prior.curvature(one.information.maps[None])
        precision = precision + bend(unit).flatten(1).double()
    kept = one.free.expand(3, N, N).reshape(-1)
    covariance = torch.zeros_like(precision)
    covariance[kept[:, None] & kept] = torch.linalg.inv(precision[kept][:, kept]).flatten()
    return covariance


def own_blocks(covariance):
    return covariance.reshape(3, N * N, 3, N * N).diagonal(dim1=1, dim2=3).reshape(3, 3, N, N)


CASES = [
    {"magnitude": False},
    {"magnitude": True},
    {"magnitude": True, "prior": wide_prior(), "contrasts": T1INV[:1]},
    {"magnitude": False, "prior": TotalVariation(strength=5.0)},
]


@pytest.mark.parametrize("case", CASES, ids=["complex", "magnitude", "one-contrast", "tv"])
@pytest.mark.parametrize("method", ["dense", "probing"])
def test_the_standard_deviation_is_the_root_of_the_diagonal_of_the_inverse(case, method):
    one = posterior(**case)
    exact = own_blocks(dense(one)).float()
    spread = one.spread(method)
    assert spread.method == method
    expected = exact.diagonal(dim1=0, dim2=1).movedim(-1, 0).sqrt()
    errors = spread.std / expected - 1
    tolerance = 1e-3 if method == "dense" else 0.12
    assert float(errors.abs().max()) < tolerance
    if method == "probing":
        assert spread.relative_error < 0.03
        assert float(errors.square().mean().sqrt()) < 0.03
    scale = expected[:, None] * expected
    assert float(((spread.covariance - exact) / scale).abs().max()) < 2.5 * tolerance


def test_voxels_that_are_known_to_be_empty_have_no_spread_and_sharpen_the_others():
    free = torch.zeros(N, N, dtype=torch.bool)
    free[2:10, 3:9] = True
    some, all_ = posterior(free=free), posterior()
    assert float(some.spread().std[:, ~free].abs().max()) == 0
    torch.testing.assert_close(
        some.spread().covariance, own_blocks(dense(some)).float(), rtol=1e-2, atol=1e-7
    )
    assert bool((some.spread().std[:, free] <= 1.001 * all_.spread().std[:, free]).all())


@pytest.mark.parametrize("magnitude", [False, True])
def test_samples_have_the_mean_and_the_spread_of_the_posterior(magnitude):
    one = posterior(magnitude=magnitude, prior=wide_prior(0.1))
    drawn = one.samples(400, torch.Generator().manual_seed(0))
    std = own_blocks(dense(one)).diagonal(dim1=0, dim2=1).movedim(-1, 0).sqrt().float()
    assert float((drawn.std(0) / std).mean()) == pytest.approx(1, abs=0.01)
    away = (drawn.mean(0) - one.information.maps) / std * math.sqrt(400)
    assert float(away.square().mean()) == pytest.approx(1, abs=0.25)


def test_a_prior_only_narrows_the_cramer_rao_bound():
    bound, with_prior = posterior().spread("dense"), posterior(prior=wide_prior()).spread("dense")
    assert bool((with_prior.std < bound.std).all())


def test_linear_estimates_scatter_as_the_bound_says_and_are_covered():
    one = posterior(snr=30.0)
    spread = one.spread("dense")
    generator = torch.Generator().manual_seed(1)
    noise = torch.view_as_complex(
        torch.randn(100, *one.information.images.shape, 2, generator=generator)
    )
    estimates = one.information.maps + one.solve(one.information.adjoint(noise), 1e-5)
    truth = one.information.maps.expand_as(estimates)
    std = spread.std.expand_as(estimates)
    assert float(((estimates - truth) / std).square().mean()) == pytest.approx(1, abs=0.02)
    assert coverage(estimates, std, truth, one.free, 1.0) == pytest.approx(0.6827, abs=0.01)
    assert coverage(estimates, std, truth, one.free, 1.96) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("snr", [0.5, 1.5, 3.0, 8.0])
def test_the_information_of_a_magnitude_is_the_variance_of_its_score(snr):
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    y = torch.hypot(snr + noise[0], noise[1])
    z = y * snr
    score = y * torch.special.i1e(z) / torch.special.i0e(z) - snr
    expected = float(score.square().mean())
    told = float(relative_information(torch.tensor([snr], dtype=torch.float64)))
    assert told == pytest.approx(expected, abs=0.01)


def test_a_magnitude_at_a_null_tells_nothing():
    one = posterior(magnitude=True, snr=1e-4)
    assert float(one.information.roots.max()) < 1e-2 / float(one.information.sigma[0])


def test_what_cannot_be_determined_is_refused_with_a_remedy():
    with pytest.raises(InvalidInput, match="at least 3 contrasts, got 1"):
        posterior(contrasts=T1INV[:1])
    operator = SyntheticOperator(T1INV, matrix=N)
    with pytest.raises(InvalidInput, match="needs a noise level"):
        information_at(operator, brain(N), None, magnitude=True)


def test_conjugate_gradients_solve_each_system_and_report_a_singular_one():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(24)
    right = torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64)
    right[1] = 0

    def product(z):
        return (z.flatten(1) @ matrix).reshape(z.shape)

    answer = solve_spd(product, right, lambda z: z, 1e-9)
    torch.testing.assert_close(product(answer), right, rtol=0, atol=1e-6)
    assert not answer[1].any()
    with pytest.raises(SolveError, match="must determine"):
        solve_spd(torch.zeros_like, right, lambda z: z)
