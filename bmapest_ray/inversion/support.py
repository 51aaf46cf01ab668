"""Where there is tissue at all: voxels whose images are all noise are held at zero.

Under pure noise ``sum_c |y_c|^2 / sigma_c^2`` follows a chi-square law with two degrees of freedom
per channel, for complex and magnitude images alike. A voxel whose statistic stays below its bound
carries no detectable signal, unless most of its neighbours do. Without this, magnitudes of noise,
which are never negative, would be explained by a little tissue everywhere around the head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEVIATIONS = 6.0
"""Standard deviations of the chi-square statistic above its mean that count as signal."""
NEIGHBOURS = 5
"""Voxels with signal in 3 x 3 that bring their centre in: holes are filled, rims do not grow."""


def support_of(images: Tensor, sigma: Tensor) -> Tensor:
    """Return where signal is detected.

    Parameters
    ----------
    images
        Complex or magnitude images, ``(batch, channel, y, x)``.
    sigma
        Noise standard deviation of the real and of the imaginary part, ``(channel,)``.

    Returns
    -------
    Tensor
        Bool, ``(batch, y, x)``.
    """
    channels = images.shape[1]
    statistic = (images.abs() / sigma.to(images.abs())[:, None, None]).square().sum(1)
    spread = math.sqrt(4 * channels)  # of a chi-square variable with 2 degrees per channel
    alone = statistic > 2 * channels + DEVIATIONS * spread
    count = 9 * torch.nn.functional.avg_pool2d(alone[:, None].float(), 3, stride=1, padding=1)[:, 0]
    return alone | (count > NEIGHBOURS - 0.5)
