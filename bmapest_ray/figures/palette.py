"""Colours that colour-blind readers can tell apart, and look-up tables for maps."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe & Ito (2008) but for yellow and black, which vanish on white and on black."""

FRACTION_MAP = "gray"
DIFFERENCE_MAP = "PuOr"
DEVIATION_MAP = "cividis"

TISSUE_COLOURS = {"GM": "#E69F00", "WM": "#56B4E9", "CSF": "#CC79A7"}
"""Of Okabe & Ito: apart for every kind of colour vision, on black and on grey images."""


@cache
def lookup(name: str) -> NDArray[np.uint8]:
    """Return matplotlib's colour map `name` as RGB. Shape `(256, 3)`."""
    from matplotlib import colormaps

    table = colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3]
    return np.asarray(np.round(255 * table), dtype=np.uint8)


def paint(values: NDArray[np.floating], name: str, low: float, high: float) -> NDArray[np.uint8]:
    """Colour an image. Shape `(y, x)` to `(y, x, 3)`; NaN becomes mid-grey."""
    scaled = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    index = np.clip(np.round(255 * np.nan_to_num(scaled)), 0, 255).astype(np.uint8)
    image = lookup(name)[index]
    image[~np.isfinite(scaled)] = 128
    return image


def translucent(colour: str, alpha: float) -> str:
    """Write a hex colour as CSS `rgba(...)`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
