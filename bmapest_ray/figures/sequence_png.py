"""A sequence as a picture: its diagram, one repetition of it large, and its k-space."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmapest_ray.base.units import t_per_m_to_mt_per_m
from bmapest_ray.figures.palette import OKABE_ITO
from bmapest_ray.figures.sequence_view import (
    AXES,
    AXIS_COLOURS,
    USE_COLOURS,
    USES,
    SequenceView,
    pulse_track,
    time_unit,
    window_track,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import SubFigure

MOST_KSPACES = 3


def save_sequence_png(view: SequenceView, path: Path) -> None:
    """Draw the whole contrast at the left, one repetition at the right, k-space below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.55, 1.0))[:, 0]
    left, right = top.subfigures(1, 2, squeeze=False)[0]
    figure.suptitle(view.title, fontsize=13)
    figure.supxlabel(view.caption, fontsize=10)
    _tracks(left.subplots(5, 1, sharex=True), view, whole=True)
    _tracks(right.subplots(5, 1, sharex=True), view, whole=False)
    _kspaces(bottom, view)
    figure.savefig(path, dpi=100)


def _tracks(axes: "Sequence[Axes]", view: SequenceView, *, whole: bool) -> None:
    begin_s, end_s = _span(view) if whole else view.closeup_s
    factor, unit = time_unit(end_s - begin_s)
    _pulses(axes[0], view, factor)
    _windows(axes[1], view, factor)
    for name, axis in zip(AXES, axes[2:], strict=True):
        track = view.whole.gradients[name]  # type: ignore[index]
        heights = t_per_m_to_mt_per_m(track[:, 1])
        axis.plot(factor * track[:, 0], heights, color=AXIS_COLOURS[name], linewidth=1)
        axis.set_ylabel(f"G{name} [mT/m]")
    margin = 0.02 * (end_s - begin_s)
    axes[-1].set_xlim(factor * (begin_s - margin), factor * (end_s + margin))
    axes[-1].set_xlabel(f"time [{unit}]")
    axes[-1].ticklabel_format(axis="x", useOffset=False)
    axes[0].set_title(
        "whole contrast" if whole else "repetition of ky = 0", fontsize=10, loc="left"
    )
    shown = view.whole.pulses[(view.whole.pulses[:, 1] >= begin_s)]
    strongest_deg = shown[shown[:, 0] <= end_s, 2].max(initial=1.0)
    for axis in axes:
        axis.axhline(0.0, color="0.6", linewidth=0.5)
        axis.margins(y=0.15)
    axes[0].set_ylim(-0.05 * strongest_deg, 1.15 * strongest_deg)


def _span(view: SequenceView) -> tuple[float, float]:
    ends = [view.whole.windows[:, 1], view.whole.pulses[:, 1]]
    ends += [track[:, 0] for track in view.whole.gradients.values()]
    return 0.0, max(float(values.max(initial=0.0)) for values in ends)


def _pulses(axis: "Axes", view: SequenceView, factor: float) -> None:
    for use in reversed(USES):
        track = pulse_track(view.whole, use)
        if len(track):
            colour = USE_COLOURS[use]
            axis.plot(factor * track[:, 0], track[:, 1], color=colour, label=use, linewidth=1.5)
    begin_s, end_s = view.closeup_s
    for start, stop, flip_deg, _ in view.whole.pulses:
        if begin_s <= start <= end_s:
            axis.fill_between([factor * start, factor * stop], 0, flip_deg, color="0.85")
    axis.set_ylabel("RF [deg]")
    axis.legend(frameon=False, fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 0.95))


def _windows(axis: "Axes", view: SequenceView, factor: float) -> None:
    for image in range(len(view.images)):
        track = window_track(view.whole, image)
        colour = OKABE_ITO[image % len(OKABE_ITO)]
        axis.plot(factor * track[:, 0], track[:, 1], color=colour, linewidth=1)
    axis.set_ylabel("ADC")
    axis.set_yticks([])


def _kspaces(figure: "SubFigure", view: SequenceView) -> None:
    shown = view.images[:MOST_KSPACES]
    axes = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    drawn = [_kspace(axes[i], view, i) for i in range(len(shown))]
    bar = figure.colorbar(drawn[-1], ax=axes[len(shown) - 1], shrink=0.8)
    bar.set_label("receive window, in order")
    _order(axes[-1], view)


def _order(axis: "Axes", view: SequenceView) -> None:
    """Draw when which ky is read."""
    begin_s, end_s = _span(view)
    factor, unit = time_unit(end_s - begin_s)
    times = factor * view.whole.windows[:, :2].mean(axis=1)
    middles = np.array([window[len(window) // 2, 1] for window in view.kspace_per_m])
    for image in range(len(view.images)):
        mine = np.array(view.window_images) == image
        ink = OKABE_ITO[image % len(OKABE_ITO)]
        axis.plot(times[mine], middles[mine], ".", markersize=4, color=ink)
    axis.set_xlabel(f"time [{unit}]")
    axis.set_ylabel("ky in mid-window [1/m]")
    axis.set_title("order of the windows", fontsize=10)


def _kspace(axis: "Axes", view: SequenceView, image: int) -> "LineCollection":
    from matplotlib.collections import LineCollection

    windows = view.windows_of(image)
    lines = LineCollection(windows, cmap="viridis", linewidths=1.2, antialiaseds=True)
    lines.set_array(np.arange(len(windows)))
    axis.add_collection(lines)
    first = np.array([window[0] for window in windows])
    axis.scatter(first[:, 0], first[:, 1], c=np.arange(len(windows)), cmap="viridis", s=6, zorder=3)
    axis.autoscale()
    axis.set_aspect("equal")
    axis.set_xlabel("kx [1/m]")
    axis.set_ylabel("ky [1/m]")
    more = len(view.images) - MOST_KSPACES
    left = "1 more image" if more == 1 else f"{more} more images"
    last = f", {left}" if more > 0 and image == MOST_KSPACES - 1 else ""
    axis.set_title(f"{view.images[image]}\n{len(windows)} windows{last}", fontsize=9)
    return lines
