"""Every fidelity: gradient against finite differences, curvature against J^T J, signs, weights."""

import math

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.fidelities import channel_weights, make_fidelity
from bmapest_ray.inversion.loss import half_squares
from bmapest_ray.inversion.loss_rician import relative_information, rician_moments
from bmapest_ray.inversion.settings import LOSSES, SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement

LEAST_SQUARES = [
    "magnitude", "complex", "kspace-magnitude", "kspace-complex", "raw", "kspace-smoothed",
]  # fmt: skip


def _measured(seed=3):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, 12, 12)

    def normal():
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return torch.complex(normal(), normal()), torch.complex(normal(), normal()), normal, shape


class _Channel:
    def __init__(self, image):
        self.image = image


CHANNELS = [_Channel("a[0]"), _Channel("a[1]"), _Channel("b[0]")]


def _fidelity(loss, data, sigma=(0.5, 1.0, 2.0), **settings):
    measurement = BatchMeasurement(data, "complex", torch.tensor(sigma, dtype=torch.float64))
    return make_fidelity(measurement, CHANNELS, SolverSettings(loss=loss, **settings))


def _inner(a, b):
    return (a.conj() * b).real.flatten(1).sum(1)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_matches_central_differences(loss):
    data, s, normal, _ = _measured()
    fidelity = _fidelity(loss, data)
    ds = torch.complex(normal(), normal())
    step = 1e-5
    numeric = (fidelity.value(s + step * ds) - fidelity.value(s - step * ds)) / (2 * step)
    analytic = _inner(fidelity.local(s).gradient, ds)
    torch.testing.assert_close(analytic, numeric, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("loss", LEAST_SQUARES)
def test_value_is_half_the_squared_residual_and_curvature_is_jacobian_squared(loss):
    data, s, normal, _ = _measured()
    fidelity = _fidelity(loss, data)
    torch.testing.assert_close(fidelity.value(s), half_squares(fidelity.residual(s)))
    ds, step = torch.complex(normal(), normal()), 1e-6
    change = (fidelity.residual(s + step * ds) - fidelity.residual(s - step * ds)) / (2 * step)
    curvature = fidelity.local(s).curvature
    torch.testing.assert_close(
        _inner(ds, curvature(ds)), 2 * half_squares(change), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("loss", [*LEAST_SQUARES, "rician"])
def test_curvature_is_symmetric_and_not_negative(loss):
    data, s, normal, _ = _measured()
    curvature = _fidelity(loss, data).local(s).curvature
    a, b = torch.complex(normal(), normal()), torch.complex(normal(), normal())
    torch.testing.assert_close(_inner(a, curvature(b)), _inner(curvature(a), b))
    assert bool((_inner(a, curvature(a)) >= 0).all())


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "rician"])
def test_perfect_prediction_is_the_minimum(loss):
    data, _, normal, _ = _measured()
    fidelity = _fidelity(loss, data)
    worse = data + 0.1 * torch.complex(normal(), normal())
    assert bool((fidelity.value(data).abs() < 1e-9).all())
    assert bool((fidelity.value(worse) > fidelity.value(data) + 1e-4).all())


def test_complex_kspace_equals_complex_image():
    data, s, *_ = _measured()
    image, kspace = _fidelity("complex", data), _fidelity("kspace-complex", data)
    torch.testing.assert_close(image.value(s), kspace.value(s))
    torch.testing.assert_close(image.local(s).gradient, kspace.local(s).gradient)


def test_select_takes_batch_items():
    data, s, *_ = _measured()
    for loss in LOSSES:
        fidelity = _fidelity(loss, data)
        one = fidelity.select(torch.tensor([1])).value(s[1:])
        torch.testing.assert_close(one, fidelity.value(s)[1:])


def test_weightings():
    data, *_ = _measured()
    plain = BatchMeasurement(data, "complex", None)
    mean = channel_weights(plain, CHANNELS, SolverSettings(weighting="sequence-mean"))
    torch.testing.assert_close(mean, torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64) / 144)
    named = SolverSettings(contrast_weights=(("a[1]", 0.0),))
    torch.testing.assert_close(
        channel_weights(plain, CHANNELS, named),
        torch.tensor([2.0, 0.0, 2.0], dtype=torch.float64) / (144 * 3),
    )
    with pytest.raises(InvalidInput, match="did you mean 'a"):
        channel_weights(plain, CHANNELS, SolverSettings(contrast_weights=(("a[7]", 1.0),)))


def test_losses_that_do_not_fit_the_data_are_refused():
    magnitudes = BatchMeasurement(_measured()[0].abs(), "magnitude", None)
    for loss in ("complex", "rician", "raw"):
        with pytest.raises(InvalidInput, match=loss):
            make_fidelity(magnitudes, CHANNELS, SolverSettings(loss=loss))


@pytest.mark.parametrize("nu", [0.0, 0.5, 2.0, 8.0])
def test_rician_moments_and_information_match_monte_carlo(nu):
    generator = torch.Generator().manual_seed(7)
    parts = torch.randn((2, 400_000), generator=generator, dtype=torch.float64)
    y = torch.hypot(nu + parts[0], parts[1])
    mean, deviation = rician_moments(torch.tensor(nu, dtype=torch.float64))
    assert float(y.mean()) == pytest.approx(float(mean), abs=0.006)
    assert float(y.std()) == pytest.approx(float(deviation), abs=0.006)
    score = y * torch.special.i1e(y * nu) / torch.special.i0e(y * nu) - nu
    information = float(relative_information(torch.tensor(nu, dtype=torch.float64)))
    assert float(score.var()) == pytest.approx(information, abs=0.008)


def test_rician_bias_at_zero_signal_is_sigma_root_half_pi():
    mean, _ = rician_moments(torch.tensor(0.0))
    assert float(mean) == pytest.approx(math.sqrt(math.pi / 2), rel=1e-6)


def test_rician_approaches_least_squares_at_high_signal():
    operator = SyntheticOperator(T1INV + T2PREP, 8, torch.complex128)
    s = operator.forward(brain(8).double() + 0.5)[None]
    sigma = torch.full((8,), float(s.abs().min()) / 50, dtype=torch.float64)
    measurement = BatchMeasurement(1.001 * s.abs(), "magnitude", sigma)
    rician = make_fidelity(measurement, operator.channels, SolverSettings(loss="rician"))
    square = make_fidelity(measurement, operator.channels, SolverSettings(loss="magnitude"))
    step = 1.01 * s
    difference = rician.value(step) - rician.value(s)
    torch.testing.assert_close(difference, square.value(step) - square.value(s), rtol=0.01, atol=0)
