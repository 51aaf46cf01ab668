"""OK where model and noise are right, MISFIT where one of them is not."""

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain

from bmapest_ray.inversion.information import information_at
from bmapest_ray.inversion.prior_gaussian import GaussianPrior
from bmapest_ray.inversion.refit_check import (
    FALSE_ALARM,
    Fit,
    judge_fit,
    judge_noise_free,
)
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import invert_batch
from bmapest_ray.simulate.measurement import Measurement, Signal

N, SUBJECTS = 16, 30
START = torch.full((3, N, N), 0.25)


def scans(operator, signal, seed=0, snr=60.0, count=SUBJECTS):
    truth = torch.stack([brain(N, seed + i) for i in range(count)])
    images = operator.forward(truth)
    sigma = images.abs().max() / snr
    generator = torch.Generator().manual_seed(seed)
    noise = torch.view_as_complex(torch.randn(*images.shape, 2, generator=generator))
    images = images + sigma * noise
    images = images.abs() if signal is Signal.MAGNITUDE else images
    return Measurement(images, signal, sigma.expand(images.shape[1]))


def verdicts(measurement, operator, constraint="simplex", prior=None):
    """Fit complex data; judge magnitudes at the truth, as where a fit stopped does not matter."""
    magnitude = measurement.signal is Signal.MAGNITUDE
    start = torch.stack([brain(N, i) for i in range(len(measurement.images))])
    maps = start
    if not magnitude:
        settings = SolverSettings(support="all", signs="none")
        fits = invert_batch(
            measurement, operator, solver=settings, start=start, constraints=constraint, prior=prior
        )
        maps = [fit.maps for fit in fits]
    return [
        judge_fit(
            images, information_at(operator, p, measurement.sigma, magnitude=magnitude), prior
        )
        for images, p in zip(measurement.images, maps, strict=True)
    ]


def alarms(told):
    return sum(verdict.fit is Fit.MISFIT for verdict in told)


PRIOR = GaussianPrior(
    torch.full((1, 3, N, N), 0.25),
    (torch.eye(3) / 0.5**2)[None, :, :, None, None].expand(1, 3, 3, N, N),
)


@pytest.mark.parametrize(
    ("signal", "constraint", "prior"),
    [
        (Signal.COMPLEX, "none", None),
        (Signal.COMPLEX, "simplex", None),
        (Signal.MAGNITUDE, "simplex", None),
        (Signal.COMPLEX, "simplex", PRIOR),
    ],
    ids=["free", "simplex", "magnitude", "prior"],
)
def test_matched_fits_rarely_alarm(signal, constraint, prior):
    operator = SyntheticOperator(T1INV + T2PREP, matrix=N)
    count = 8 if signal is Signal.MAGNITUDE else SUBJECTS
    told = verdicts(scans(operator, signal, count=count), operator, constraint, prior)
    assert alarms(told) <= count // 15  # 1.2 % of alarms are expected
    assert all(abs(verdict.ratios["size"] - 1) < 0.15 for verdict in told)


def test_a_noise_level_that_is_off_by_a_quarter_alarms():
    operator = SyntheticOperator(T1INV + T2PREP, matrix=N)
    right = scans(operator, Signal.COMPLEX, count=5)
    wrong = Measurement(right.images, right.signal, right.sigma / 1.25)
    assert alarms(verdicts(wrong, operator)) == 5


@pytest.mark.parametrize("signal", [Signal.COMPLEX, Signal.MAGNITUDE])
def test_tissue_values_that_are_off_by_a_tenth_alarm(signal):
    operator, other = (SyntheticOperator(T1INV + T2PREP, matrix=N) for _ in range(2))
    other.weights = operator.weights.clone()
    other.weights[4:, 0] *= 0.9  # GM's T2 is shorter
    told = verdicts(scans(other, signal, count=2), operator)
    assert alarms(told) == 2
    assert all(v.probabilities["tissue"] < FALSE_ALARM for v in told)


def test_a_phase_that_is_off_alarms_for_complex_data_alone():
    operator = SyntheticOperator(T1INV + T2PREP, matrix=N)
    other = SyntheticOperator(T1INV + T2PREP, matrix=N, phase=1.3)
    assert alarms(verdicts(scans(other, Signal.COMPLEX, count=4), operator)) == 4


def test_noise_free_data_are_reproduced_or_not():
    images = SyntheticOperator(T1INV, matrix=N).forward(brain(N))
    assert judge_noise_free(images, images * (1 + 1e-4)).fit is Fit.OK
    assert judge_noise_free(images, images * 1.01).fit is Fit.MISFIT
