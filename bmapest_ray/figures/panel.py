"""A panel of tissue maps as one small picture: truth, estimate and difference, quick to draw.

Drawn with NumPy and Pillow in a few milliseconds, because every job of a study gets one.
Anterior is up and the subject's right is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.figures.palette import DIFFERENCE_MAP, FRACTION_MAP, paint

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

TILE = 192
GAP = 8
MARGIN_LEFT = 52
MARGIN_TOP = 56
BAR = 74


@dataclass(frozen=True)
class Column:
    """One column of a panel.

    Parameters
    ----------
    title
        Stands above the column.
    maps
        Shape `(tissue, y, x)`.
    colours
        Name of the colour map.
    window
        Lowest and highest value shown, the same for all tissues.
    """

    title: str
    maps: NDArray[np.floating]
    colours: str
    window: tuple[float, float]


def truth_estimate_difference(
    truth: ArrayLike, estimate: ArrayLike, *, window: float = 0.25
) -> list[Column]:
    """Return the three columns that show how good an estimate is.

    Parameters
    ----------
    truth, estimate
        Fractions. Shape `(tissue, y, x)`.
    window
        Half width of the difference's colour scale, fixed so that panels of a study compare.
    """
    true, found = np.asarray(truth, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if true.ndim != 3 or true.shape != found.shape:
        raise InvalidInput(
            f"truth and estimate must have one shape (tissue, y, x), got {true.shape} and "
            f"{found.shape}; show maps of one job"
        )
    return [
        Column("truth", true, FRACTION_MAP, (0.0, 1.0)),
        Column("estimate", found, FRACTION_MAP, (0.0, 1.0)),
        Column("estimate - truth", found - true, DIFFERENCE_MAP, (-window, window)),
    ]


def draw_panel(
    columns: Sequence[Column],
    tissues: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
    *,
    tile: int = TILE,
) -> "Image":
    """Draw columns of maps with one row per tissue.

    Parameters
    ----------
    columns
        At least one; their maps share one shape.
    tissues
        Names of the rows.
    title
        Stands above the panel.
    notes
        Written below the panel, e.g. one score per tissue.
    tile
        Pixels along each side of a map.
    """
    from PIL import Image, ImageDraw

    rows = len(tissues)
    width = MARGIN_LEFT + len(columns) * (tile + GAP) + BAR
    height = MARGIN_TOP + rows * (tile + GAP) + (22 if notes else 6)
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, 6), title, fill="black", font=_font(16))
    for index, column in enumerate(columns):
        left = MARGIN_LEFT + index * (tile + GAP)
        pen.text((left + 2, 32), column.title, fill="black", font=_font(14))
        for row in range(rows):
            picture.paste(_tile(column, row, tile), (left, MARGIN_TOP + row * (tile + GAP)))
    for row, tissue in enumerate(tissues):
        top = MARGIN_TOP + row * (tile + GAP)
        pen.text((GAP, top + tile // 2 - 8), tissue, fill="black", font=_font(15))
    _draw_bars(picture, pen, columns, rows * (tile + GAP))
    if notes:
        pen.text((GAP, height - 20), "   ".join(notes), fill="black", font=_font(13))
    return picture


def _draw_bars(picture: "Image", pen: "ImageDraw", columns: Sequence[Column], height: int) -> None:
    """Draw one colour bar per distinct scale, one under the other at the right."""
    from PIL import Image

    scales = list(dict.fromkeys((column.colours, column.window) for column in columns))
    space = height // len(scales)
    for index, (colours, (low, high)) in enumerate(scales):
        top, tall = MARGIN_TOP + index * space, space - 28
        ramp = paint(np.linspace(high, low, tall)[:, None] * np.ones((1, 12)), colours, low, high)
        left = picture.width - BAR + 4
        picture.paste(Image.fromarray(ramp), (left, top))
        pen.rectangle((left - 1, top - 1, left + 12, top + tall), outline="black")
        pen.text((left + 18, top - 4), f"{high:g}", fill="black", font=_font(13))
        pen.text((left + 18, top + tall - 14), f"{low:g}", fill="black", font=_font(13))


def _tile(column: Column, row: int, tile: int) -> "Image":
    from PIL import Image

    image = paint(column.maps[row][::-1], column.colours, *column.window)
    return Image.fromarray(image).resize((tile, tile), Image.Resampling.NEAREST)


@cache
def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)
