"""The prior of the cohort's voxels: closed forms, brute force, and what it does to a fit."""

import pytest
import torch
from synthetic import T1INV, SyntheticOperator, brain, psnr

from bmapest_ray.anatomy.cohort import CohortStatistics
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.prior_choice import Cohort, make_prior
from bmapest_ray.inversion.prior_gaussian import GaussianPrior
from bmapest_ray.inversion.prior_neighbours import AdaptivePrior, NeighbourPrior, neighbour_prior
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert, invert_batch

MATRIX = 16


def prior_of(samples: torch.Tensor, kernel: float) -> NeighbourPrior:
    """Return a prior of samples ``(sample, tissue)`` at one voxel."""
    first = GaussianPrior(
        torch.zeros(1, samples.shape[1], 1, 1), torch.eye(3)[None, ..., None, None]
    )
    return NeighbourPrior(first, samples[:, :, None, None], kernel)


def site(samples, kernel, maps, slope, data):
    """Return mean ``(tissue,)`` and precision of the site of one voxel."""
    one = maps[None, :, None, None], slope[None, :, None, None], data[None, ..., None, None]
    found = prior_of(samples, kernel).adapted(*one)
    return found.mean[0, :, 0, 0], found.precision[0, :, :, 0, 0]


def draws(*shape):
    return torch.rand(*shape, generator=generator("neighbours", *shape), dtype=torch.float64)


def test_a_single_sample_is_its_own_gaussian() -> None:
    sample, maps, slope = draws(1, 3), draws(3, 1)[:, 0], 10 * draws(3, 2)[:, 0]
    data = torch.diag(torch.tensor([40.0, 900.0, 0.0], dtype=torch.float64))
    mean, precision = site(sample, 0.05, maps, slope, data)
    torch.testing.assert_close(mean, sample[0])
    torch.testing.assert_close(precision, torch.eye(3).double() / 0.05**2)


def test_without_data_the_site_has_the_moments_of_the_samples() -> None:
    samples, nothing = draws(50, 3), torch.zeros(3, dtype=torch.float64)
    mean, precision = site(samples, 0.05, draws(3, 1)[:, 0], nothing, torch.zeros(3, 3).double())
    torch.testing.assert_close(mean, samples.mean(0))
    away = samples - samples.mean(0)
    covariance = away.T @ away / 50 + 0.05**2 * torch.eye(3)
    torch.testing.assert_close(torch.linalg.inv(precision), covariance)


def test_data_and_site_together_have_the_moments_of_the_mixture() -> None:
    """Against sums over a fine grid of two fractions."""
    samples = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.9, 0.0], [0.0, 0.0]]).double()
    maps, slope = torch.tensor([0.4, 0.3]).double(), torch.tensor([-1.5, 2.0]).double()
    data, kernel = torch.tensor([[9.0, 4.0], [4.0, 6.0]]).double(), 0.1
    axis = torch.linspace(-0.8, 1.8, 521, dtype=torch.float64)
    p = torch.cartesian_prod(axis, axis)
    away = p - maps
    misfit = away @ slope + 0.5 * (away @ data * away).sum(1)
    near = torch.logsumexp(-(torch.cdist(p, samples) ** 2) / (2 * kernel**2), dim=1)
    weight = torch.softmax(near - misfit, dim=0)
    wanted = weight @ p
    spread = (p - wanted).T @ (weight[:, None] * (p - wanted))
    mean, precision = site(samples, kernel, maps, slope, data)
    together = data + precision
    centre = torch.linalg.solve(together, data @ maps - slope + precision @ mean)
    torch.testing.assert_close(centre, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.inv(together), spread, atol=1e-4, rtol=0)


def test_samples_are_the_voxels_around_and_their_mirror_images() -> None:
    subjects = draws(2, 3, 6, 6).float()
    statistics = CohortStatistics(subjects.mean(0), torch.zeros(3, 3, 6, 6), 2)
    samples = neighbour_prior(statistics, subjects, window=3).samples
    assert samples.shape == (36, 3, 6, 6)
    here = {tuple(sample.tolist()) for sample in samples[:, :, 2, 1]}
    around = [s[:, 1:4, 0:3] for s in (*subjects, *subjects.flip(-1))]
    assert here == {tuple(v.tolist()) for s in around for v in s.flatten(1).T}
    alone = neighbour_prior(statistics, subjects, window=1, mirrored=0).samples
    torch.testing.assert_close(alone, subjects)
    outside = samples[:, :, 0, 0].sum(1) == 0
    assert int(outside.sum()) == 5 * 4  # the corner has four voxels inside


def test_many_voxels_are_matched_a_few_at_a_time(monkeypatch) -> None:
    own = cohort()
    prior = make_prior("neighbours", {}, own)
    assert isinstance(prior, AdaptivePrior)
    p, slope = (
        draws(2, 3, MATRIX, MATRIX).float() / 3,
        draws(2, 3, MATRIX, MATRIX, 1)[..., 0].float(),
    )
    blocks = (100 * torch.eye(3))[None, :, :, None, None].expand(1, 3, 3, MATRIX, MATRIX)
    whole = prior.adapted(p, slope, blocks)
    monkeypatch.setattr("bmapest_ray.inversion.prior_neighbours._VALUES_AT_ONCE", 5000)
    parts = prior.adapted(p, slope, blocks)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.precision, whole.precision)
    values = torch.linalg.eigvalsh(whole.precision.movedim((1, 2), (-2, -1)))
    assert float(values.min()) >= 0.999
    assert float(values.max()) <= 1.001 / 0.03**2


def cohort(count=9):
    """Return a cohort whose voxels are nearly pure."""
    stack = torch.stack([nearly_pure(100 + i) for i in range(count)])
    away = stack - stack.mean(0)
    covariance = torch.einsum("styx,suyx->tuyx", away, away) / (count - 1)
    return Cohort(CohortStatistics(stack.mean(0), covariance, count), stack)


def nearly_pure(seed):
    maps = brain(MATRIX, seed)
    sharp = maps**6 / (maps**6).sum(0).clamp_min(1e-3)
    return sharp * (maps.sum(0) > 0.5)


def measured(truths, snr=100.0):
    operator = SyntheticOperator(T1INV[:1], matrix=MATRIX)
    images = operator.forward(truths)
    sigma = images.abs().max() / snr
    noise = torch.randn(*images.shape, 2, generator=generator("neighbours"))
    images = images + sigma * torch.view_as_complex(noise)
    return BatchMeasurement(images, "complex", sigma.expand(1)), operator


def test_one_contrast_is_explained_by_what_occurs() -> None:
    own, truths = cohort(), torch.stack([nearly_pure(7), nearly_pure(8)])
    data, operator = measured(truths)
    found = {
        name: invert_batch(
            data, operator, solver=SolverSettings(), start=own.statistics.mean,
            prior=make_prior(name, {}, own),
        )
        for name in ("cohort", "neighbours")
    }  # fmt: skip
    for plain, better, truth in zip(*found.values(), truths, strict=True):
        assert sum(psnr(better.maps, truth)) > sum(psnr(plain.maps, truth)) + 3
        assert float(better.maps.min()) >= 0
        assert "the second fit" in better.message
        iterations = [step.iteration for step in better.history]
        assert iterations == sorted(set(iterations))
        assert better.products == better.history[-1].products


def test_a_fit_does_not_depend_on_its_neighbours_and_hopeless_data_stay_so() -> None:
    own, truths = cohort(), torch.stack([nearly_pure(7), nearly_pure(8)])
    data, operator = measured(truths)
    images = torch.cat([data.images[:1], 0 * data.images[:1], data.images[1:]])
    prior = make_prior("neighbours", {}, own)
    options = {"solver": SolverSettings(), "start": own.statistics.mean, "prior": prior}
    three = invert_batch(BatchMeasurement(images, "complex", data.sigma), operator, **options)
    assert three[1].status == "INVALID"
    for number, item in ((0, 0), (2, 1)):
        one = BatchMeasurement(data.images[item], "complex", data.sigma)
        alone = invert(one, operator, **options)
        torch.testing.assert_close(three[number].maps, alone.maps, atol=1e-5, rtol=0)


def test_a_model_without_voxel_blocks_is_refused() -> None:
    own, truths = cohort(), nearly_pure(7)[None]
    data, operator = measured(truths)

    class Bare:
        channels, forward = operator.channels, operator.forward

        def jvp(self, p, dp):  # noqa: ARG002
            return operator.forward(dp)

        def vjp(self, p, s):  # noqa: ARG002
            return operator.adjoint(s)

    with pytest.raises(InvalidInput, match="needs a model with voxel blocks"):
        invert_batch(
            data, Bare(), solver=SolverSettings(), start=own.statistics.mean,
            prior=make_prior("neighbours", {}, own),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kernel": 0.0}, "kernel must be positive"),
        ({"window": 2}, "odd"),
        ({"mirrored": 2}, "must be 0 or 1"),
        ({"kernl": 0.1}, "did you mean 'kernel'"),
    ],
)
def test_wrong_settings_are_refused(settings, told) -> None:
    with pytest.raises(InvalidInput, match=told):
        make_prior("neighbours", settings, cohort())
