"""Complex Gaussian receiver noise at a stated level.

SNR is the largest noise-free image magnitude over sigma, the standard deviation of the real and of
the imaginary part, equal in k-space and in orthonormal images. Comparing protocols needs one
physical level: sigma is fixed by a reference contrast and scales with the receiver bandwidth,
``sigma_c^2 = sigma_ref^2 dwell_ref / dwell_c``.
"""

from __future__ import annotations

import math

import torch

from bmapest_ray.base.errors import InvalidInput


def sigma_from_snr(images: torch.Tensor, snr: float) -> float:
    """Return the noise level that gives ``snr`` on noise-free images ``(..., y, x)``.

    Raises
    ------
    InvalidInput
        If ``snr`` is not positive and finite, or the images are empty.
    """
    if not 0 < snr < math.inf:
        msg = f"snr must be positive and finite, got {snr}; leave it out for noise-free data"
        raise InvalidInput(msg)
    strongest = float(images.abs().max())
    if strongest == 0:
        msg = "snr needs a reference image with signal, got an empty one; choose another"
        raise InvalidInput(msg)
    return strongest / snr


def scaled_sigma(
    sigma_reference: float, dwell_reference_s: float, dwell_s: torch.Tensor
) -> torch.Tensor:
    """Return sigma of every channel for its dwell time, shape ``(channel,)``."""
    return sigma_reference * torch.sqrt(dwell_reference_s / dwell_s)


def add_noise(
    images: torch.Tensor, sigma: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return images with independent noise of standard deviation ``sigma`` per part.

    Parameters
    ----------
    images
        Complex, shape ``(..., channel, y, x)``.
    sigma
        Shape ``(channel,)``.
    generator
        Named and seeded; on the CPU, so that noise does not depend on the device.
    """
    shape = (*images.shape, 2)
    real = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise = torch.view_as_complex(real).to(images.device, images.dtype)
    return images + noise * sigma.to(images.device, images.real.dtype)[:, None, None]
