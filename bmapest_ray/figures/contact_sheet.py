"""Many images as one picture, each in its own window with its name below."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.figures.palette import FRACTION_MAP, paint

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 128
GAP = 6
CAPTION = 18
BRIGHTEST = 99.5
"""Percentile of an image that is shown white."""


def contact_sheet(
    images: Mapping[str, NDArray[np.floating]], *, columns: int = 8, tile: int = TILE
) -> "Image":
    """Draw magnitude images row by row; anterior is up.

    Parameters
    ----------
    images
        Name to image, shape ``(y, x)``, 0 or above.
    columns
        Images per row.
    tile
        Pixels along each side of an image.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = -(-len(images) // columns)
    step = tile + GAP
    size = (columns * step + GAP, rows * (step + CAPTION) + GAP)
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for number, (name, image) in enumerate(images.items()):
        left, top = GAP + number % columns * step, GAP + number // columns * (step + CAPTION)
        high = float(np.percentile(image, BRIGHTEST)) or 1.0
        painted = Image.fromarray(paint(image[::-1], FRACTION_MAP, 0.0, high))
        picture.paste(painted.resize((tile, tile), Image.Resampling.BICUBIC), (left, top))
        pen.text((left, top + tile + 2), name, fill="black", font=font)
    return picture
