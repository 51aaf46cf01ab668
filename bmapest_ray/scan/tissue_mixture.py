"""What any image can be cut with: a Gaussian mixture of its intensities (scikit-learn)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import InvalidInput

_SAMPLE = 200_000
_TO_TISSUES = {
    3: ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    5: ((0, 0, 1), (0.5, 0, 0.5), (1, 0, 0), (0.5, 0.5, 0), (0, 1, 0)),
}
"""From classes, dark to bright, to shares of GM, WM, CSF in a T1-weighted image."""


def gaussian_mixture(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    parts: int = 3,
    smooth: float = 0.0,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return class probabilities as GM, WM and CSF of a T1-weighted image, `(tissue, z, y, x)`.

    Parameters
    ----------
    parts
        Gaussians: 3, or 5 with one for the voxels between two neighbours in brightness.
    smooth
        Standard deviation in voxels that the image is smoothed by first.

    Raises
    ------
    InvalidInput
        If the number of Gaussians has no meaning.
    """
    from scipy.ndimage import gaussian_filter
    from sklearn.mixture import GaussianMixture

    if parts not in _TO_TISSUES:
        raise InvalidInput(f"a mixture must have 3 or 5 Gaussians, got {parts}; choose one")
    image = gaussian_filter(image, smooth) if smooth else image
    values = image[mask][:, None].astype(np.float64)
    step = max(1, len(values) // _SAMPLE)
    model = GaussianMixture(parts, random_state=seed, n_init=3).fit(values[::step])
    dark_to_bright = np.argsort(model.means_[:, 0])
    shares = model.predict_proba(values)[:, dark_to_bright] @ np.array(_TO_TISSUES[parts])
    out = np.zeros((3, *mask.shape), dtype=np.float32)
    out[:, mask] = shares.T
    return out
