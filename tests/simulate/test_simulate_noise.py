"""Noise at a stated level, and measurements that are what they say."""

import math

import pytest
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.measurement import Measurement, Signal, measure
from bmapest_ray.simulate.noise import add_noise, scaled_sigma, sigma_from_snr
from bmapest_ray.simulate.reconstruct import kspace_of

SIGMA = torch.tensor([0.5, 2.0], dtype=torch.float64)


def noise_of(*keys, matrix=128, dtype=torch.complex128):
    empty = torch.zeros((2, matrix, matrix), dtype=dtype)
    return add_noise(empty, SIGMA, generator("noise-test", *keys))


def test_noise_has_the_stated_level_in_both_parts_of_every_channel():
    noise = noise_of(0)
    for part in (noise.real, noise.imag):
        # 16384 samples: the standard error of a standard deviation is 0.55 percent
        assert part.std(dim=(-2, -1)).tolist() == pytest.approx(SIGMA.tolist(), rel=0.02)
        assert (part.mean(dim=(-2, -1)) / SIGMA).abs().max() < 0.04
    correlation = (noise.real * noise.imag).mean(dim=(-2, -1)) / SIGMA**2
    assert correlation.abs().max() < 0.04


def test_noise_is_equal_in_kspace_and_image():
    noise = noise_of(0)
    kspace = kspace_of(noise)
    for part in (kspace.real, kspace.imag):
        assert part.std(dim=(-2, -1)).tolist() == pytest.approx(SIGMA.tolist(), rel=0.02)
    assert float(kspace.norm()) == pytest.approx(float(noise.norm()), rel=1e-12)


def test_the_same_seed_gives_the_same_noise_and_another_another():
    assert torch.equal(noise_of("a", 1), noise_of("a", 1))
    assert not torch.allclose(noise_of("a", 1), noise_of("a", 2))
    single = noise_of("a", 1, dtype=torch.complex64)
    assert single.dtype == torch.complex64
    assert torch.allclose(single.to(torch.complex128), noise_of("a", 1), rtol=1e-6)


def test_noise_is_added_to_the_images_channel_by_channel():
    images = torch.full((3, 2, 4, 4), 7 + 1j, dtype=torch.complex64)
    noisy = add_noise(images, torch.tensor([1e-6, 1.0]), generator("noise-test"))
    assert noisy.shape == images.shape
    assert torch.allclose(noisy[:, 0], images[:, 0], atol=1e-4)
    assert (noisy[:, 1] - images[:, 1]).abs().mean() > 0.5
    assert not torch.equal(noisy[0], noisy[1])
    assert bool((images == 7 + 1j).all())


def test_snr_is_the_largest_magnitude_over_sigma():
    images = torch.zeros((2, 4, 4), dtype=torch.complex64)
    images[1, 2, 3] = 3 - 4j
    assert sigma_from_snr(images, 100) == pytest.approx(0.05)


@pytest.mark.parametrize("snr", [0, -3.0, math.nan, math.inf])
def test_an_snr_that_means_nothing_is_refused(snr):
    with pytest.raises(InvalidInput, match=f"snr must be positive and finite, got {snr}; leave"):
        sigma_from_snr(torch.ones((1, 2, 2)), snr)


def test_an_empty_reference_is_refused():
    with pytest.raises(InvalidInput, match="got an empty one; choose another"):
        sigma_from_snr(torch.zeros((1, 2, 2)), 100)


def test_sigma_goes_with_the_root_of_the_bandwidth():
    dwell_s = torch.tensor([30e-6, 120e-6, 7.5e-6], dtype=torch.float64)
    assert scaled_sigma(0.4, 30e-6, dwell_s).tolist() == pytest.approx([0.4, 0.2, 0.8])


def test_a_measurement_is_of_the_wanted_kind():
    images = torch.randn((2, 4, 4), generator=generator("m"), dtype=torch.complex64)
    sigma = torch.tensor([0.1, 0.2])
    magnitude = measure(images, Signal.MAGNITUDE, sigma)
    assert torch.equal(magnitude.images, images.abs())
    assert measure(images, Signal.COMPLEX, None).images is images
    assert Signal("magnitude") is magnitude.signal


@pytest.mark.parametrize(
    ("images", "signal", "sigma", "message"),
    [
        (torch.ones(2, 4, 4), Signal.COMPLEX, None, r"must be complex .*got torch.float32 .*2, 4"),
        (torch.ones(2, 4, 4) * 1j, Signal.MAGNITUDE, None, r"must be real .*torch.complex64"),
        (torch.ones(4, 4), Signal.MAGNITUDE, None, r"channel, y, x\), got .*\(4, 4\); convert"),
        (torch.ones(2, 4, 4), Signal.MAGNITUDE, torch.ones(3), r"per channel \(2\), got .*\(3,\)"),
        (torch.ones(2, 4, 4), Signal.MAGNITUDE, torch.tensor(1.0), r"got shape \(\); repeat it"),
        (torch.ones(2, 4, 4), Signal.MAGNITUDE, torch.tensor([1.0, 0.0]), "positive, got 0.0"),
        (torch.ones(2, 4, 4), Signal.MAGNITUDE, torch.tensor([1.0, -2.0]), "positive, got -2.0"),
        (torch.ones(2, 4, 4), Signal.MAGNITUDE, torch.tensor([1.0, math.nan]), "positive, got nan"),
        (torch.full((2, 4, 4), -0.5), Signal.MAGNITUDE, None, "not be negative, got -0.5"),
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(images, signal, sigma, message):
    with pytest.raises(InvalidInput, match=message):
        Measurement(images=images, signal=signal, sigma=sigma)
