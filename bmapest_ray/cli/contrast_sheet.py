"""``bmapest protocol sheet``: every shipped contrast of one slice, seen and in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.base.tissues import TISSUES

if TYPE_CHECKING:
    from torch import Tensor

    from bmapest_ray.anatomy.maps import TissueMaps

PURE = 0.6
"""Least fraction of a pixel that counts as one tissue; the group average is smooth."""
REPEATED = ("clinical", "paper")
"""Presets that only gather the contrasts of others."""


def write_contrast_sheet(folder: Path, matrix: int) -> list[Path]:
    """Simulate every preset on the default anatomy; write ``contrasts.png`` and ``contrasts.md``.

    Uniform fields, so that the eye sees contrast and nothing else.
    """
    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec
    from bmapest_ray.figures.contact_sheet import contact_sheet
    from bmapest_ray.sequence.parse import preset_names

    truth = load_slice(open_anatomy("mni152"), "mni152", SliceSpec.parse("below-top:75"), matrix)
    images: dict[str, Tensor] = {}
    for name in preset_names():
        if name not in REPEATED:
            typer.echo(name, err=True)
            images |= magnitudes(name, truth)
    means = {name: region_means(image, truth.fraction) for name, image in images.items()}
    picture = contact_sheet({_caption(name): image.numpy() for name, image in images.items()})
    paths = [folder / "contrasts.png", folder / "contrasts.md"]
    picture.convert("L").save(paths[0], optimize=True)
    paths[1].write_text(_text(means, matrix))
    return paths


def magnitudes(protocol: str, truth: TissueMaps) -> dict[str, Tensor]:
    """Return the noise-free magnitude images ``(y, x)`` of a protocol in uniform fields."""
    from bmapest_ray.base.units import mm_to_m
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.factory import build_operator
    from bmapest_ray.simulate.grid import VoxelGrid
    from bmapest_ray.simulate.nufft_operator import NufftOperator
    from bmapest_ray.simulate.scene import Scene
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

    grid = VoxelGrid(truth.matrix, mm_to_m(truth.fov_mm))
    fields = make_fields("none", "none", truth)
    operator = build_operator(Scene(parse_protocol(protocol), grid, fields, PAPER_3T)).operator
    images = operator.forward(truth.fraction)
    if isinstance(operator, NufftOperator):
        images = operator.sharpened(images)
    names = [channel.image for channel in operator.channels]
    return dict(zip(names, images.abs(), strict=True))


def region_means(image: Tensor, fractions: Tensor) -> dict[str, float]:
    """Return the mean of an image over the pixels that are mostly one tissue, by tissue."""
    return {
        tissue: float(image[fraction >= PURE].mean())
        for tissue, fraction in zip(TISSUES, fractions, strict=True)
    }


def _caption(name: str) -> str:
    return name.replace("fingerprinting.", "fp.").replace("multi_echo_gre", "me_gre")


def _text(means: dict[str, dict[str, float]], matrix: int) -> str:
    rows = [_row(name, values) for name, values in means.items()]
    return (
        "# Every shipped contrast\n\nWritten by `bmapest protocol sheet`: MNI152 average, slice "
        f"`below-top:75`, {matrix} x {matrix}, uniform fields, no noise. Mean magnitude over the "
        f"pixels that are at least {PURE:.0%} one tissue, relative to the brightest tissue.\n\n"
        "![every contrast](contrasts.png)\n\n"
        f"| image | GM | WM | CSF | order |\n|---|---|---|---|---|\n{''.join(rows)}"
    )


def _row(name: str, values: dict[str, float]) -> str:
    brightest = max(values.values())
    cells: list[Any] = [f"{values[tissue] / brightest:.2f}" for tissue in TISSUES]
    order = " > ".join(sorted(values, key=values.__getitem__, reverse=True))
    return f"| {name} | {' | '.join(cells)} | {order} |\n"
