"""Voxels without detectable signal are held at zero, and only those."""

import torch

from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.parametrisation import Direct
from bmapest_ray.inversion.support import support_of


def test_pure_noise_is_rejected_nearly_everywhere() -> None:
    noise = torch.randn((4, 8, 64, 64, 2), generator=generator("noise", "support"))
    images = torch.view_as_complex(noise) * 0.3
    found = support_of(images, torch.full((8,), 0.3))
    assert found.float().mean() < 0.005


def test_magnitude_and_complex_agree() -> None:
    noise = torch.view_as_complex(torch.randn((1, 4, 16, 16, 2), generator=generator("noise", 1)))
    images = noise + 2.0 * (torch.arange(16) > 7)
    sigma = torch.ones(4)
    assert torch.equal(support_of(images, sigma), support_of(images.abs(), sigma))


def test_holes_are_filled_and_rims_do_not_grow() -> None:
    images = torch.zeros((1, 2, 11, 11))
    images[0, :, 3:8, 3:8] = 50.0
    images[0, :, 5, 5] = 0.0
    found = support_of(images, torch.ones(2))[0]
    assert found[3:8, 3:8].all()
    assert found.sum() == 25


def test_channels_are_weighed_by_their_own_noise() -> None:
    images = torch.full((1, 2, 5, 5), 10.0)
    assert support_of(images, torch.tensor([1.0, 1.0])).all()
    assert not support_of(images, torch.tensor([10.0, 10.0])).any()


def test_a_voxel_outside_has_no_capacity() -> None:
    support = torch.tensor([[[True, False]], [[False, True]]])
    direct = Direct(support=support)
    capacity = direct.capacity()
    assert capacity is not None
    assert capacity.tolist() == [[[[1.0, 0.0]]], [[[0.0, 1.0]]]]
    chosen = direct.select(torch.tensor([1])).capacity()
    assert chosen is not None
    assert chosen.tolist() == [[[[0.0, 1.0]]]]
