"""What any image can be cut with: a Gaussian mixture of its intensities (scikit-learn)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 200_000


def gaussian_mixture(
    image: NDArray[np.float32], mask: NDArray[np.bool_], seed: int = 0
) -> NDArray[np.float32]:
    """Return class probabilities as GM, WM and CSF of a T1-weighted image, `(tissue, z, y, x)`.

    The darkest of the three classes is CSF, the brightest white matter.
    """
    from sklearn.mixture import GaussianMixture

    values = image[mask][:, None].astype(np.float64)
    step = max(1, len(values) // _SAMPLE)
    model = GaussianMixture(3, random_state=seed, n_init=3).fit(values[::step])
    dark_to_bright = np.argsort(model.means_[:, 0])
    shares = model.predict_proba(values)[:, dark_to_bright]
    out = np.zeros((3, *mask.shape), dtype=np.float32)
    out[:, mask] = shares[:, [1, 2, 0]].T
    return out
