import numpy as np
import pytest
import torch
from baseline_phantom import AMPLITUDES, PointOperator, cohort, measured, rmse, soft_head

from bmapest_ray.baselines.nnls import VoxelNnls
from bmapest_ray.simulate.measurement import Measurement, Signal


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize("coils", [1, 2])
def test_noise_free_fractions_are_recovered(signal, coils):
    operator = PointOperator(coils=coils)
    maps = VoxelNnls().estimate(measured(operator, soft_head(), signal), operator, cohort())
    assert rmse(maps, soft_head()) < 1e-5


def test_an_unknown_sign_is_found_from_another_start():
    """From CSF-free maps, linearisation keeps the wrong sign of the last image."""
    operator = PointOperator(AMPLITUDES[2:] * [[1, 1, 1], [1, 1, 4]])
    truth = torch.zeros(3, 24, 24)
    truth[2] = 0.5
    no_fluid = torch.tensor([0.6, 0.4, 0.0])[None, :, None, None].expand(1, 3, 24, 24)
    maps = VoxelNnls().estimate(measured(operator, truth), operator, no_fluid)
    assert rmse(maps, truth) < 1e-5


def test_a_noisy_channel_counts_by_its_noise_level():
    operator = PointOperator()
    data = measured(operator, soft_head(), Signal.COMPLEX)
    images = data.images.clone()
    images[0] += 0.5
    sigma = torch.tensor([1.0, 1e-4, 1e-4, 1e-4])
    weighted = VoxelNnls().estimate(Measurement(images, data.signal, sigma), operator, cohort())
    assert rmse(weighted, soft_head()) < 1e-4
    assert rmse(VoxelNnls().estimate(Measurement(images, data.signal), operator, cohort()),
                soft_head()) > 0.05  # fmt: skip


def test_one_image_needs_the_cohort():
    operator = PointOperator(AMPLITUDES[:1])
    data = measured(operator, soft_head())
    errors = [
        rmse(VoxelNnls(ridge=ridge).estimate(data, operator, cohort()), soft_head())
        for ridge in (0.0, 0.05, 1e3)
    ]
    assert errors[1] < 0.8 * min(errors[0], errors[2])
    pulled = VoxelNnls(ridge=1e3).estimate(data, operator, cohort())
    sum_is_one = 0.02  # the equation "sum <= 1" then weighs as much as the pull
    assert rmse(pulled, cohort().mean(0)) < sum_is_one


def test_sum_and_background_are_respected():
    operator = PointOperator()
    data = measured(operator, 1.6 * soft_head(), Signal.COMPLEX)
    maps = VoxelNnls().estimate(data, operator, cohort())
    assert maps.sum(0).max() <= 1 + 1e-6
    dim = measured(operator, soft_head() * 0.5, noise=0.01)
    masked = VoxelNnls(background=0.3).estimate(dim, operator, 0 * cohort())
    empty = soft_head().sum(0) == 0
    assert masked[:, empty].abs().max() == 0
    unmasked = VoxelNnls().estimate(dim, operator, 0 * cohort())
    assert np.count_nonzero(unmasked[:, empty]) > 10
