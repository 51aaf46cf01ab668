"""From Cartesian k-space to images and back: orthonormal, pixel centres at half pixels.

With k_y = l'/FOV, k_x = (j' + 1/2)/FOV (l', j' = -N/2 .. N/2 - 1) and pixel centres at
``(i' + 1/2) FOV/N`` the image is the orthonormal inverse DFT of the samples times
``exp(i pi (l' + j')/N)``. The half sample along x stays in the image as the phase
``exp(-i pi (i' + 1/2)/N)``; the noise keeps its standard deviation.
"""

from __future__ import annotations

import torch


def _ramp(matrix: int, like: torch.Tensor) -> torch.Tensor:
    index = torch.arange(matrix, dtype=torch.float64, device=like.device) - matrix // 2
    phase = (torch.pi / matrix) * (index[:, None] + index[None, :])
    ramp: torch.Tensor = torch.polar(torch.ones_like(phase), phase).to(like.dtype)
    return ramp


def images_of(kspace: torch.Tensor) -> torch.Tensor:
    """Return the images of k-space ``(..., ky, kx)`` as ``(..., y, x)``, complex."""
    shifted = torch.fft.ifftshift(kspace * _ramp(kspace.shape[-1], kspace), dim=(-2, -1))
    images: torch.Tensor = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))
    return images


def kspace_of(images: torch.Tensor) -> torch.Tensor:
    """Return k-space ``(..., ky, kx)`` of images ``(..., y, x)``: the inverse of `images_of`."""
    shifted = torch.fft.ifftshift(images, dim=(-2, -1))
    kspace: torch.Tensor = torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))
    return kspace * _ramp(images.shape[-1], images).conj()
