"""Structural similarity of images (Wang et al., IEEE Trans Image Process 2004;13:600).

As torchmetrics computes it with its defaults, which takes seconds to load.
"""

import torch
from torch import Tensor


def similarity(a: Tensor, b: Tensor, value_range: Tensor | float) -> Tensor:
    """Return the similarity around every pixel.

    Gaussian window of 11 x 11 pixels (sigma 1.5), k1 = 0.01, k2 = 0.03.

    Parameters
    ----------
    a, b
        Images, ``(..., y, x)``, at least 6 pixels wide.
    value_range
        Of the images, broadcast against them.
    """
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = (_blur(a * a) - mean_a.square()).clamp(min=0)
    var_b = (_blur(b * b) - mean_b.square()).clamp(min=0)
    covariance = _blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return top / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))


def _blur(images: Tensor) -> Tensor:
    grid = torch.arange(-5, 6, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-grid.square() / (2 * 1.5**2))
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, -3).unsqueeze(1)
    padded = torch.nn.functional.pad(flat, (5, 5, 5, 5), mode="reflect")
    rows = torch.nn.functional.conv2d(padded, kernel[None, None, :, None])
    return torch.nn.functional.conv2d(rows, kernel[None, None, None, :]).reshape(images.shape)
