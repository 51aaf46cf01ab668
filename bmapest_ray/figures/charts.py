"""Interactive charts of a report: accuracy and scan time, subjects, convergence, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bmapest_ray.figures.chart_parts import Chart, chart, colour, dash, empty_figure, symbol
from bmapest_ray.figures.palette import translucent

if TYPE_CHECKING:
    import plotly.graph_objects as go


MOST_LABELS = 10
"""Points that are named where they stand; more are named in a legend."""


@dataclass(frozen=True)
class Spread:
    """One protocol's point in the accuracy-time plane."""

    label: str
    seconds: float
    mean: float
    interval: tuple[float, float] | None
    on_front: bool


def pareto(points: Sequence[Spread], score: str) -> Chart:
    """Accuracy against scan time; the front of what nothing beats in both is joined by a line."""
    import plotly.graph_objects as go

    figure = empty_figure("scan time (s)", score)
    front = sorted((p for p in points if p.on_front), key=lambda p: p.seconds)
    figure.add_trace(
        go.Scatter(
            x=[p.seconds for p in front],
            y=[p.mean for p in front],
            mode="lines",
            line={"color": "#888888", "dash": "dot"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )
    few = len(points) <= MOST_LABELS
    for index, point in enumerate(points):
        figure.add_trace(_pareto_point(index, point, named=few))
    figure.update_layout(showlegend=not few)
    words = ", ".join(p.label for p in front)
    return chart(figure, "Accuracy against scan time", f"Not beaten in both: {words}.")


def _pareto_point(index: int, point: Spread, *, named: bool) -> "go.Scatter":
    import plotly.graph_objects as go

    bars = None
    if point.interval is not None:
        low, high = point.interval
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, high - point.mean)],
            "arrayminus": [max(0.0, point.mean - low)],
        }
    return go.Scatter(
        x=[point.seconds],
        y=[point.mean],
        error_y=bars,
        mode="markers+text" if named else "markers",
        text=[point.label],
        textposition="top center",
        cliponaxis=False,
        marker={"size": 12, "color": colour(index), "symbol": symbol(index)},
        name=point.label,
    )


def boxes(values: Mapping[str, Mapping[str, float]], score: str) -> Chart:
    """One box per protocol and a point per subject, joined across protocols by subject."""
    import plotly.graph_objects as go

    figure = empty_figure("", score)
    subjects = sorted({subject for row in values.values() for subject in row})
    for subject in subjects if len(subjects) <= 100 else ():
        have = [label for label, row in values.items() if subject in row]
        figure.add_trace(
            go.Scatter(
                x=have,
                y=[values[label][subject] for label in have],
                mode="lines",
                line={"color": translucent("#888888", 0.35), "width": 1},
                hoverinfo="skip",
                showlegend=False,
            )
        )
    for index, (label, row) in enumerate(values.items()):
        figure.add_trace(
            go.Box(
                y=list(row.values()),
                x=[label] * len(row),
                text=[f"sub-{subject}" for subject in row],
                boxpoints="all",
                jitter=0.3,
                pointpos=0,
                name=label,
                marker={"color": colour(index), "symbol": symbol(index)},
                fillcolor=translucent(colour(index), 0.25),
            )
        )
    figure.update_layout(showlegend=False)
    return chart(
        figure,
        "Over subjects",
        f"{len(subjects)} subjects per protocol; grey lines join a subject.",
    )


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], y: str, *, title: str) -> Chart:
    """Values over iterations, one line per protocol, on a logarithmic axis."""
    import plotly.graph_objects as go

    figure = empty_figure("iteration", y)
    for index, (label, points) in enumerate(lines.items()):
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in points],
                y=[value for _, value in points],
                mode="lines+markers",
                name=label,
                line={"color": colour(index), "dash": dash(index)},
                marker={"size": 5, "symbol": symbol(index)},
            )
        )
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    longest = max((points[-1][0] for points in lines.values() if points), default=0)
    figure.update_xaxes(dtick=1 if longest <= 10 else None)
    return chart(figure, title, f"{y} against the iteration, for {', '.join(lines)}.")


def differences(values: Mapping[str, float], mean: float, y: str, *, names: str) -> Chart:
    """One point per subject: how far the first of two protocols is ahead of the second."""
    import plotly.graph_objects as go

    figure = empty_figure("subject", y)
    ordered = sorted(values.items(), key=lambda item: item[1])
    figure.add_trace(
        go.Scatter(
            x=[f"sub-{subject}" for subject, _ in ordered],
            y=[value for _, value in ordered],
            mode="markers",
            marker={"size": 11, "color": colour(0)},
            name=names,
        )
    )
    figure.add_hline(y=0, line={"color": "#888888"})
    figure.add_hline(y=mean, line={"color": colour(1), "dash": "dash"})
    ahead = sum(value > 0 for value in values.values())
    return chart(
        figure,
        "Subject by subject",
        f"{names}, subject by subject: above zero for {ahead} of {len(values)}; the dashed line is "
        "the mean.",
    )


def calibration(
    nominal: Sequence[float], covered: Mapping[str, Sequence[float]], subjects: int
) -> Chart:
    """Share of true fractions inside intervals of every size; on the line they are honest."""
    import plotly.graph_objects as go

    figure = empty_figure("stated probability", "share of true fractions inside")
    figure.add_trace(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", name="ideal", line={"color": "#888888", "dash": "dot"}
        )
    )
    for index, (label, shares) in enumerate(covered.items()):
        figure.add_trace(
            go.Scatter(
                x=list(nominal),
                y=list(shares),
                mode="lines+markers",
                name=label,
                line={"color": colour(index), "dash": dash(index)},
                marker={"size": 7, "symbol": symbol(index)},
            )
        )
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(range=[0, 1.02])
    who = "1 subject" if subjects == 1 else f"{subjects} subjects"
    return chart(
        figure,
        "Calibration",
        f"How often the true fraction lies in the interval that should hold it, over the head of "
        f"{who}: above the dotted line the stated deviations are too wide, below it too narrow. "
        "They ignore that fractions stay between 0 and 1, so they are wide where that binds.",
    )
