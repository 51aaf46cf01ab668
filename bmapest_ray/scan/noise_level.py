"""Noise of magnitude images, measured in the images themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ENOUGH = 500
_AWAY_MM = 8.0
_MAD = 1.4826
_SMALLEST = 1e-4
_BACKGROUND = 0.1
_EVEN = 0.2


def noise_sigma(
    image: NDArray[np.float32], head: NDArray[np.bool_], spacing_mm: float = 1.0
) -> float:
    """Return the standard deviation of the noise (of the real and of the imaginary part).

    Air around the head has the Rayleigh mean square ``2 sigma^2`` where it was kept; otherwise
    (skull-stripped images) the noise is what a voxel differs from its neighbours by,
    in the most even parts of the tissue. The lower of both counts.

    Parameters
    ----------
    image
        Magnitudes, `(z, y, x)`.
    head
        Mask of the head or brain, `(z, y, x)`.
    spacing_mm
        Width of a voxel.
    """
    inside = _from_differences(image, head)
    steps = max(2, round(_AWAY_MM / spacing_mm))
    air = image[_far_from(head, steps) & (image > 0)]
    if air.size < _ENOUGH or air.size < _BACKGROUND * (image == 0).sum():
        return inside
    low = air[air <= np.quantile(air, 0.9)]  # ghosts and skin lie in the upper tail
    # of a Rayleigh distribution the lowest 90 % have the mean square 2 sigma^2 * 0.7442
    rayleigh = float(np.sqrt(np.mean(low.astype(np.float64) ** 2) / (2 * 0.744158)))
    return max(min(inside, rayleigh), _SMALLEST * float(image.max()))


def _from_differences(image: NDArray[np.float32], head: NDArray[np.bool_]) -> float:
    """Return the spread of what a voxel differs from its neighbours by, where tissue is even.

    Even is where the smoothed image is flattest: smoothing keeps the choice from picking quiet
    noise.
    """
    from scipy.ndimage import correlate1d, gaussian_gradient_magnitude

    axes = [axis for axis in range(3) if image.shape[axis] > 1]
    around = sum(correlate1d(image, [0.5, 0, 0.5], axis=axis) for axis in axes) / len(axes)
    residual = (image - around)[head]
    slope = gaussian_gradient_magnitude(image, 2.0)[head]
    even = residual[slope <= np.quantile(slope, _EVEN)]
    spread = _MAD * float(np.median(np.abs(even - np.median(even))))
    neighbours = 2 * len(axes)
    return max(
        spread * float(np.sqrt(neighbours / (neighbours + 1))), _SMALLEST * float(image.max())
    )


def _far_from(head: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_dilation

    near: NDArray[np.bool_] = binary_dilation(head, iterations=steps)
    return ~near


def without_noise_bias(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Take out the mean that noise adds to magnitudes (Gudbjartsson & Patz 1995)."""
    square = image.astype(np.float32) ** 2 - np.float32(sigma**2)
    clean: NDArray[np.float32] = np.sqrt(np.abs(square))
    return clean
