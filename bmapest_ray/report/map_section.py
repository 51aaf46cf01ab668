"""The section of a report that shows maps: fractions, tissue overlay, errors and deviations."""

import base64
import json
from dataclasses import dataclass
from html import escape

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures.palette import (
    DEVIATION_MAP,
    DIFFERENCE_MAP,
    FRACTION_MAP,
    TISSUE_COLOURS,
    lookup,
)
from bmapest_ray.report.map_layers import MapLayers, encoded

ESTIMATE_RANGE = (-0.25, 1.25)
"""Fractions that the page's eight bits hold: a fit without constraints leaves [0, 1]."""
ERROR_WINDOW = 0.25


@dataclass(frozen=True)
class Slider:
    """One end of a window that all maps of a block share.

    Parameters
    ----------
    label
        What it sets.
    name
        ``low``, ``high`` or ``opacity``.
    most, value
        Right end and start; the left end is 0.
    """

    label: str
    name: str
    most: float
    value: float

    @property
    def html(self) -> str:
        """The slider with its label and its value."""
        return (
            f"<label>{escape(self.label)} "
            f'<input type="range" data-set="{self.name}" min="0" max="{self.most:g}" '
            f'step="{self.most / 100:g}" value="{self.value:g}"> '
            f"<output>{self.value:.2f}</output></label>"
        )


@dataclass(frozen=True)
class Block:
    """Maps that share one colour scale and window.

    Parameters
    ----------
    kind
        ``fraction``, ``overlay``, ``error`` or ``std``, as the page's script knows it.
    title, caption
        Above and below.
    columns
        Heading and layer of every column.
    rows
        Tissue rows; the overlay has one.
    sliders
        Its window.
    """

    kind: str
    title: str
    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[str, ...]
    sliders: tuple[Slider, ...]


def map_section(maps: MapLayers) -> str:
    """Return the maps and their data; the page's script paints them."""
    outline = (
        '<p class="controls"><label><input type="checkbox" id="outline"> outline where the true '
        "fraction passes one half</label> <span>Point at a map, or move with the arrow keys, to "
        "read the same voxel in all of them.</span></p>"
    )
    blocks = "".join(map(_block, _blocks(maps)))
    data = json.dumps(_data(maps)).replace("</", "<\\/")
    return (
        f"<p>{escape(maps.where)}, the subject nearest the best protocol's median. Anterior is up, "
        f"the subject's right is right.</p>{outline}{blocks}"
        f'<script type="application/json" id="map-data">{data}</script>'
    )


def _blocks(maps: MapLayers) -> list[Block]:
    names = list(enumerate(maps.labels))
    estimates = tuple((label, f"estimate:{i}") for i, label in names)
    with_std = tuple((label, f"std:{i}") for i, label in names if f"std:{i}" in maps.layers)
    both = (("truth", "truth"), *estimates)
    blocks = [
        Block(
            "fraction",
            "Fractions",
            "True and estimated fractions; one window for all maps.",
            both,
            TISSUES,
            (Slider("black at", "low", 1.0, 0.0), Slider("white at", "high", 1.0, 1.0)),
        ),
        Block(
            "error",
            "Errors",
            "Estimate minus truth: orange is too little, purple too much.",
            estimates,
            TISSUES,
            (Slider("full colour at ±", "high", 1.0, ERROR_WINDOW),),
        ),
        Block(
            "overlay",
            "Tissues together",
            ("On the first image of each protocol as it was measured" if maps.has("image") else "")
            + _legend(),
            both,
            ("all",),
            (Slider("opacity", "opacity", 1.0, 0.6 if maps.has("image") else 1.0),),
        ),
    ]
    if with_std:
        top = max(maps.largest_std, 1e-6)
        blocks.append(
            Block(
                "std",
                "Uncertainty",
                "Standard deviation of the fraction that the noise leaves, without constraints.",
                with_std,
                TISSUES,
                (Slider("brightest at", "high", 2 * top, top),),
            )
        )
    return blocks


def _legend() -> str:
    return "".join(
        f' <span class="swatch" style="background:{TISSUE_COLOURS[tissue]}"></span> {tissue}'
        for tissue in TISSUES
    )


def _block(block: Block) -> str:
    heads = "".join(f'<th scope="col">{escape(label)}</th>' for label, _ in block.columns)
    rows = "".join(_row(block, index, name) for index, name in enumerate(block.rows))
    bar = '<canvas class="bar" width="256" height="1" aria-hidden="true"></canvas>'
    scale = "" if block.kind == "overlay" else f"<span class='scale'><i></i>{bar}<i></i></span>"
    return (
        f'<figure class="maps" data-kind="{block.kind}" tabindex="0" '
        f'aria-label="{escape(block.title)}: maps; arrow keys move the marked voxel">'
        f"<h3>{escape(block.title)}</h3>"
        f'<p class="controls">{"".join(s.html for s in block.sliders)}{scale}</p>'
        f'<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><figcaption>{block.caption}</figcaption></figure>"
    )


def _row(block: Block, index: int, name: str) -> str:
    cells = "".join(
        f'<td><canvas data-layer="{layer}" data-row="{index}" role="img" '
        f'aria-label="{escape(f"{block.title}, {name}, {label}")}"></canvas>'
        '<span class="value"></span></td>'
        for label, layer in block.columns
    )
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _data(maps: MapLayers) -> dict[str, object]:
    deviations = max(2 * maps.largest_std, 1e-6)
    ranges = {"std": (0.0, deviations), "image": (0.0, 1.0)}
    layers = {}
    for name, values in maps.layers.items():
        low, high = ranges.get(name.partition(":")[0], ESTIMATE_RANGE)
        layers[name] = {"uri": encoded(values, low, high), "low": low, "high": high}
    tables = {"fraction": FRACTION_MAP, "error": DIFFERENCE_MAP, "std": DEVIATION_MAP}
    return {
        "matrix": maps.matrix,
        "layers": layers,
        "tables": {
            kind: base64.b64encode(lookup(name).tobytes()).decode() for kind, name in tables.items()
        },
        "tissues": [_rgb(TISSUE_COLOURS[tissue]) for tissue in TISSUES],
    }


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
