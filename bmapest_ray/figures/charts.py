"""Interactive charts of a report, as plotly figures that carry no colours of their own theme.

Backgrounds are transparent and texts take the page's colour, so that one figure serves light, dark
and paper. Protocols differ by colour and by marker or dash, so that colour is never needed alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bmapest_ray.figures.palette import OKABE_ITO, translucent

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True)
class Chart:
    """A chart with what a reader who cannot see it is told.

    Parameters
    ----------
    title
        Heading.
    description
        What it shows, in a sentence.
    json
        The figure for plotly.js.
    """

    title: str
    description: str
    json: str


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

    figure = _figure("scan time (s)", score)
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
    for index, point in enumerate(points):
        figure.add_trace(_pareto_point(index, point))
    words = ", ".join(p.label for p in front)
    return _chart(figure, "Accuracy against scan time", f"Not beaten in both: {words}.")


def _pareto_point(index: int, point: Spread) -> "go.Scatter":
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
        mode="markers+text",
        text=[point.label],
        textposition="top center",
        cliponaxis=False,
        marker={"size": 12, "color": colour(index), "symbol": SYMBOLS[index % len(SYMBOLS)]},
        name=point.label,
    )


def boxes(values: Mapping[str, Mapping[str, float]], score: str) -> Chart:
    """One box per protocol and a point per subject, joined across protocols by subject."""
    import plotly.graph_objects as go

    figure = _figure("", score)
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
                marker={"color": colour(index), "symbol": SYMBOLS[index % len(SYMBOLS)]},
                fillcolor=translucent(colour(index), 0.25),
            )
        )
    figure.update_layout(showlegend=False)
    return _chart(
        figure,
        "Over subjects",
        f"{len(subjects)} subjects per protocol; grey lines join a subject.",
    )


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], y: str, *, title: str) -> Chart:
    """Values over iterations, one line per protocol, on a logarithmic axis."""
    import plotly.graph_objects as go

    figure = _figure("iteration", y)
    for index, (label, points) in enumerate(lines.items()):
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in points],
                y=[value for _, value in points],
                mode="lines+markers",
                name=label,
                line={"color": colour(index), "dash": DASHES[index % len(DASHES)]},
                marker={"size": 5, "symbol": SYMBOLS[index % len(SYMBOLS)]},
            )
        )
    figure.update_yaxes(type="log", exponentformat="power")
    return _chart(figure, title, f"{y} against the iteration, for {', '.join(lines)}.")


def search_history(trials: Mapping[str, Sequence[tuple[int, float]]], objective: str) -> Chart:
    """Objective of each search trial in the order of asking, one marker kind per protocol."""
    import plotly.graph_objects as go

    figure = _figure("trial", objective)
    for index, (label, points) in enumerate(trials.items()):
        figure.add_trace(
            go.Scatter(
                x=[number for number, _ in points],
                y=[value for _, value in points],
                mode="markers",
                name=label,
                marker={"color": colour(index), "symbol": SYMBOLS[index % len(SYMBOLS)]},
            )
        )
    return _chart(figure, "Search history", "Objective of each search trial.")


def bars(values: Mapping[str, float], x: str, *, title: str, description: str) -> Chart:
    """Horizontal bars, the largest at the top."""
    import plotly.graph_objects as go

    figure = _figure(x, "")
    names = sorted(values, key=lambda name: values[name])
    figure.add_trace(
        go.Bar(
            x=[values[name] for name in names],
            y=names,
            orientation="h",
            marker={"color": colour(0)},
        )
    )
    return _chart(figure, title, description)


def parallel(columns: Mapping[str, Sequence[float | str]], colour_by: str) -> Chart:
    """Parallel coordinates: one line per trial through its settings to its objective."""
    import plotly.graph_objects as go

    dimensions = [_dimension(name, values) for name, values in columns.items()]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": list(columns[colour_by]), "colorscale": "Cividis", "showscale": True},
        )
    )
    figure.update_layout(**_layout())
    return _chart(
        figure,
        "Settings and objective",
        "One line per search trial through its settings; drag along an axis to filter.",
    )


def _dimension(name: str, values: Sequence[float | str]) -> dict[str, Any]:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {"label": name, "values": list(values)}
    texts = [str(value) for value in values]
    levels = sorted(set(texts))
    return {
        "label": name,
        "values": [levels.index(text) for text in texts],
        "tickvals": list(range(len(levels))),
        "ticktext": levels,
    }


def colour(index: int) -> str:
    """Return the colour of the protocol at a place in the table."""
    return OKABE_ITO[index % len(OKABE_ITO)]


@cache
def plotly_javascript() -> str:
    """Return plotly.js itself, to be put into a page once."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _chart(figure: "go.Figure", title: str, description: str) -> Chart:
    return Chart(title, description, str(figure.to_json()))


def _figure(x: str, y: str) -> "go.Figure":
    import plotly.graph_objects as go

    figure = go.Figure()
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)"}
    figure.update_layout(**_layout())
    figure.update_xaxes(title=x, **grid)
    figure.update_yaxes(title=y, **grid)
    return figure


def _layout() -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "font": {"family": "system-ui, sans-serif", "size": 14},
        "legend": {"orientation": "h", "y": 1.08},
        "height": 420,
    }
