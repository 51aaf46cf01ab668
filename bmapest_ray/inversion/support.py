"""Where there is tissue at all: voxels whose images are all noise are held at zero.

Under pure noise ``sum_c |y_c|^2 / sigma_c^2`` follows a chi-square law with two degrees of freedom
per channel, for complex and magnitude images alike. A voxel whose own statistic and whose 3 x 3
mean both stay below their bounds carries no detectable signal. Without this, magnitudes of noise,
which are never negative, would be explained by a little tissue everywhere around the head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEVIATIONS = 4.0
"""Standard deviations of the chi-square statistic above its mean that count as signal."""


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
    mean = torch.nn.functional.avg_pool2d(
        statistic[:, None], 3, stride=1, padding=1, count_include_pad=False
    )[:, 0]
    together = mean > 2 * channels + DEVIATIONS * spread / 3
    return alone | together
