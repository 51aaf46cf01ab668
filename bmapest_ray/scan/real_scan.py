"""How well a real scan is explained: maps against maps that came with the scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.tissues import TISSUES

HALF = 0.5


@dataclass(frozen=True)
class Agreement:
    """How two maps of a tissue agree inside a mask.

    Parameters
    ----------
    tissue
        E.g. ``GM``.
    correlation
        Pearson's, over voxels.
    dice
        Of where they exceed one half.
    """

    tissue: str
    correlation: float
    dice: float


def agreement(
    estimate: NDArray[np.float32], truth: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[Agreement, ...]:
    """Compare GM and WM of two sets of maps `(tissue, z, y, x)`."""
    found = []
    for index, tissue in enumerate(TISSUES[:2]):
        one, other = estimate[index][mask], truth[index][mask]
        above, beyond = one > HALF, other > HALF
        total = max(int(above.sum() + beyond.sum()), 1)
        dice = 2 * int((above & beyond).sum()) / total
        found.append(Agreement(tissue, float(np.corrcoef(one, other)[0, 1]), dice))
    return tuple(found)
