"""Fourier sums at any place against direct sums, and areas that whiten the noise of an image."""

import numpy as np
import pytest
import torch

from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.nufft import Nufft, sample_areas

MATRIX, FOV_M = 16, 0.2
GRID = VoxelGrid(MATRIX, FOV_M)


def spokes(count, samples=MATRIX):
    """Positions of radial lines in 1/m, ``(sample, 2)``."""
    radius = (np.arange(samples) + 0.5 - samples / 2) / FOV_M
    angle = np.pi * np.arange(count) / count
    return np.stack([np.outer(np.cos(angle), radius), np.outer(np.sin(angle), radius)], -1).reshape(
        -1, 2
    )


def waves(k_per_m):
    """``exp(-2 pi i k . x)`` as ``(sample, y, x)``."""
    axis = GRID.axis_m()
    phase = torch.from_numpy(k_per_m)
    x, y = phase[:, :1] * axis, phase[:, 1:] * axis
    turns = y[:, :, None] + x[:, None, :]
    return torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)


def draw(*shape, dtype=torch.complex128):
    return torch.randn(shape, generator=generator("nufft", *shape), dtype=dtype)


@pytest.mark.parametrize(("dtype", "error"), [(torch.complex64, 5e-7), (torch.complex128, 1e-7)])
def test_sums_and_their_adjoint_equal_direct_ones(dtype, error):
    k = spokes(7) + np.array([3.3, -1.7])
    transform, kernel = Nufft(k, GRID, dtype), waves(k)
    field, samples = draw(2, MATRIX, MATRIX), draw(2, len(k))
    direct = torch.einsum("jyx,byx->bj", kernel, field)
    back = torch.einsum("jyx,bj->byx", kernel.conj(), samples)
    found, found_back = transform.forward(field.to(dtype)), transform.adjoint(samples.to(dtype))
    assert float((found - direct).norm() / direct.norm()) < error
    assert float((found_back - back).norm() / back.norm()) < error


def test_adjoint_is_the_transpose_to_rounding():
    k = spokes(5)
    transform = Nufft(k, GRID, torch.complex128)
    field, samples = draw(MATRIX, MATRIX), draw(len(k))
    one = (transform.forward(field).conj() * samples).sum()
    other = (field.conj() * transform.adjoint(samples)).sum()
    assert abs(complex(one - other)) < 1e-10 * abs(complex(one))


def test_areas_of_a_cartesian_grid_are_alike():
    line = (np.arange(MATRIX) - MATRIX / 2) / FOV_M
    k = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    areas = sample_areas(Nufft(k, GRID, torch.complex128), GRID)
    assert areas.numpy() == pytest.approx(np.ones(MATRIX**2), rel=0.02)


def test_areas_of_spokes_grow_with_the_radius_and_whiten_noise():
    k = spokes(40)
    transform = Nufft(k, GRID, torch.complex128)
    areas = sample_areas(transform, GRID)
    radius = np.hypot(*k.T) * FOV_M
    middle = (radius > 2) & (radius < 6)
    # a ring of width 1/FOV shared by two samples of each spoke
    assert areas.numpy()[middle] == pytest.approx(np.pi * radius[middle] / 40, rel=0.15)
    images = transform.adjoint(areas.sqrt() * draw(400, len(k))) / MATRIX
    power = torch.fft.fftshift(torch.fft.fft2(images, norm="ortho"), dim=(-2, -1)).abs() ** 2
    y, x = torch.meshgrid(*2 * (torch.arange(MATRIX) - MATRIX / 2,), indexing="ij")
    inside = torch.hypot(x, y) < 6
    assert power.mean(dim=0)[inside].numpy() == pytest.approx(1.0, abs=0.5)
    assert float(power.mean(dim=0)[inside].mean()) == pytest.approx(1.0, abs=0.03)
