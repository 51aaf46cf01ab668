"""``bmapest protocol plot``: every contrast of a protocol as a picture and in one page."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bmapest_ray.figures.sequence_view import SequenceView
    from bmapest_ray.sequence.protocol import Contrast, Protocol
    from bmapest_ray.sequence.score import Score


def plot_protocol(
    protocol: "Protocol", contrasts: "tuple[Contrast, ...]", grid: tuple[int, float], folder: Path
) -> list[Path]:
    """Write ``<contrast>.png`` for each contrast and one page with all of them; return the paths.

    Parameters
    ----------
    protocol
        Gives the scanner.
    contrasts
        Those to draw.
    grid
        Matrix and field of view [m].
    folder
        Where the files go.
    """
    from bmapest_ray.report.markup import page
    from bmapest_ray.study.files import replace_text

    views, paths = draw_contrasts(protocol, contrasts, grid, folder)
    sections = [_section(number, view) for number, view in enumerate(views)]
    title = f"Protocol {protocol.name}"
    paths.append(folder / f"{_file_name(protocol.name)}.html")
    replace_text(paths[-1], page(title, f"<h1>{escape(title)}</h1>", sections))
    return paths


def draw_contrasts(
    protocol: "Protocol", contrasts: "tuple[Contrast, ...]", grid: tuple[int, float], folder: Path
) -> "tuple[list[SequenceView], list[Path]]":
    """Write ``<contrast>.png`` for each contrast; return what was drawn and the paths."""
    from bmapest_ray.figures.sequence_png import save_sequence_png

    views = [contrast_view(protocol, contrast, *grid) for contrast in contrasts]
    paths = [folder / f"{_file_name(contrast.name)}.png" for contrast in contrasts]
    for view, path in zip(views, paths, strict=True):
        save_sequence_png(view, path)
    return views, paths


def _file_name(name: str) -> str:
    letters = "".join(letter if letter.isalnum() else "_" for letter in Path(name).stem)
    return letters.strip("_")[:80]


def _section(number: int, view: "SequenceView") -> tuple[str, str, str]:
    from bmapest_ray.figures.sequence_chart import kspace_chart, sequence_chart
    from bmapest_ray.report.markup import chart

    name = f"contrast-{number}"
    drawn = chart(f"{name}-diagram", sequence_chart(view))
    drawn += chart(f"{name}-kspace", kspace_chart(view))
    return name, view.title, f"<p>{escape(view.caption)}</p>{drawn}"


def contrast_view(
    protocol: "Protocol", contrast: "Contrast", matrix: int, fov_m: float
) -> "SequenceView":
    """Return what a diagram of a contrast shows."""
    from bmapest_ray.figures.sequence_view import SequenceView
    from bmapest_ray.sequence.diagram import central_repetition_s, diagram
    from bmapest_ray.sequence.overview import contrast_score
    from bmapest_ray.sequence.render import render
    from bmapest_ray.sequence.trajectory import sample_positions

    score = contrast_score(contrast, protocol, matrix, fov_m)
    return SequenceView(
        title=f"{contrast.name} ({contrast.sequence}), {matrix} x {matrix}, {1e3 * fov_m:g} mm, "
        f"scanner {protocol.scanner.name}",
        caption=_caption(score),
        whole=diagram(score),
        closeup_s=central_repetition_s(score),
        images=tuple(score.images),
        kspace_per_m=sample_positions(render(score), tuple(score.readouts)),
        window_images=tuple(readout.image for readout in score.readouts),
    )


def _caption(score: "Score") -> str:
    from bmapest_ray.cli.protocol_text import timing_words
    from bmapest_ray.sequence.timings import image_timings

    first = image_timings(score)[0]
    return f"{first.image}: {timing_words(first)}; {score.time_s:.4g} s without the pause after it"
