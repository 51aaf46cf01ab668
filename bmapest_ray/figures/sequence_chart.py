"""A sequence as interactive charts: the diagram, opened at one repetition, and its k-space."""

from typing import TYPE_CHECKING

import numpy as np

from bmapest_ray.base.units import t_per_m_to_mt_per_m
from bmapest_ray.figures.chart_parts import Chart, colour
from bmapest_ray.figures.sequence_view import (
    AXES,
    AXIS_COLOURS,
    USE_COLOURS,
    USES,
    SequenceView,
    kspace_points,
    pulse_track,
    window_track,
)
from bmapest_ray.sequence.diagram import Track

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LAYOUT = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 14},
    "margin": {"l": 70, "r": 20, "t": 30, "b": 50},
    "legend": {"orientation": "h", "y": 1.08},
}
_GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)"}


def sequence_chart(view: SequenceView) -> Chart:
    """Pulses, receive windows and gradients of a contrast over time."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=5, cols=1, shared_xaxes=True, vertical_spacing=0.03)
    for use in USES:
        _line(figure, 1, pulse_track(view.whole, use), use, USE_COLOURS[use])
    for image, name in enumerate(view.images):
        _line(figure, 2, window_track(view.whole, image), name, colour(image))
    for row, axis in enumerate(AXES, 3):
        track = view.whole.gradients[axis].copy()  # type: ignore[index]
        track[:, 1] = t_per_m_to_mt_per_m(track[:, 1])
        _line(figure, row, track, f"G{axis}", AXIS_COLOURS[axis])
    labels = ("RF [deg]", "ADC", *(f"G{axis} [mT/m]" for axis in AXES))
    for row, label in enumerate(labels, 1):
        figure.update_yaxes(title=label, row=row, col=1, **_GRID)
    begin_s, end_s = view.closeup_s
    margin = 0.02 * (end_s - begin_s)
    figure.update_xaxes(range=[begin_s - margin, end_s + margin], **_GRID)
    figure.update_xaxes(title="time [s]", row=5, col=1)
    figure.update_layout(height=760, **_LAYOUT)
    assert isinstance(figure, go.Figure)  # noqa: S101
    description = "Opens at the repetition that reads ky = 0; double-click shows all of it."
    return Chart(f"Diagram of {view.title}", description, str(figure.to_json()))


def kspace_chart(view: SequenceView) -> Chart:
    """Where the samples of every image lie."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for image, name in enumerate(view.images):
        points = kspace_points(view.windows_of(image))
        figure.add_trace(
            go.Scattergl(
                x=_rounded(points[:, 0]),
                y=_rounded(points[:, 1]),
                mode="lines+markers",
                marker={"size": 3},
                line={"width": 1, "color": colour(image)},
                name=name,
                visible=True if image == 0 else "legendonly",
            )
        )
    figure.update_xaxes(title="kx [1/m]", **_GRID)
    figure.update_yaxes(title="ky [1/m]", scaleanchor="x", **_GRID)
    figure.update_layout(height=560, showlegend=len(view.images) > 1, **_LAYOUT)
    description = f"{len(view.kspace_per_m)} receive windows; the legend switches images on."
    return Chart(f"k-space of {view.title}", description, str(figure.to_json()))


def _line(figure: "go.Figure", row: int, track: Track, name: str, ink: str) -> None:
    import plotly.graph_objects as go

    if not len(track):
        return
    line = {"color": ink, "width": 1.5}
    figure.add_trace(
        go.Scatter(
            x=_rounded(track[:, 0], 9),
            y=_rounded(track[:, 1]),
            mode="lines",
            name=name,
            line=line,
            connectgaps=False,
        ),
        row=row,
        col=1,
    )


def _rounded(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Return short numbers; JSON has no NaN."""
    return [None if np.isnan(v) else round(v, digits) for v in values.tolist()]
