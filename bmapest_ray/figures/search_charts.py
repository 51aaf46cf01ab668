"""Interactive charts of a search: its history, what matters, slices, parallel coordinates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log10
from typing import TYPE_CHECKING, Any

from bmapest_ray.figures.chart_parts import Chart, chart, colour, empty_figure, layout, symbol

if TYPE_CHECKING:
    import plotly.graph_objects as go

PATTERNS = ("", "/", "x", ".", "\\", "-", "+")


def search_history(
    trials: Mapping[str, Sequence[tuple[int, float]]], objective: str, *, higher_is_better: bool
) -> Chart:
    """Objective of each search trial in the order of asking, and the best so far as a line."""
    import plotly.graph_objects as go

    figure = empty_figure("trial", objective)
    better = max if higher_is_better else min
    for index, (label, points) in enumerate(trials.items()):
        numbers, values = [number for number, _ in points], [value for _, value in points]
        figure.add_trace(
            go.Scatter(
                x=numbers,
                y=list(accumulate(values, better)),
                mode="lines",
                line={"color": colour(index), "width": 1, "shape": "hv"},
                legendgroup=label,
                showlegend=False,
                hoverinfo="skip",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=numbers,
                y=values,
                mode="markers",
                name=label,
                legendgroup=label,
                marker={"color": colour(index), "symbol": symbol(index)},
            )
        )
    return chart(
        figure, "Search history", "Objective of each search trial; the line is the best so far."
    )


@dataclass(frozen=True)
class Tried:
    """One trial in the plane of scan time and objective."""

    seconds: float
    value: float
    text: str


def search_front(
    trials: Mapping[str, Sequence[Tried]],
    fronts: Mapping[str, Sequence[tuple[float, float]]],
    objective: str,
) -> Chart:
    """Every trial of a search over scan time; a line joins those that no other one beats."""
    import plotly.graph_objects as go

    figure = empty_figure("scan time (s)", objective)
    for index, (label, tried) in enumerate(trials.items()):
        front = fronts.get(label, ())
        line = {"color": colour(index), "width": 1.5, "shape": "hv"}
        joined = {"mode": "lines", "line": line, "legendgroup": label, "showlegend": False}
        x, y = [seconds for seconds, _ in front], [value for _, value in front]
        figure.add_trace(go.Scatter(x=x, y=y, hoverinfo="skip", **joined))
        figure.add_trace(
            go.Scatter(
                x=[point.seconds for point in tried],
                y=[point.value for point in tried],
                text=[point.text for point in tried],
                mode="markers",
                name=label,
                legendgroup=label,
                marker={"color": colour(index), "symbol": symbol(index)},
            )
        )
    return chart(
        figure,
        "Pareto front of the search",
        "Objective of each search trial against its scan time; the line joins the Pareto front.",
    )


def parallel(
    columns: Mapping[str, Sequence[float | str]], colour_by: str, logarithmic: Sequence[str] = ()
) -> Chart:
    """Parallel coordinates: one line per trial through its settings to its objective."""
    import plotly.graph_objects as go

    dimensions = [
        _logarithms(name, values) if name in logarithmic else _dimension(name, values)
        for name, values in columns.items()
    ]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": list(columns[colour_by]), "colorscale": "Cividis", "showscale": True},
        )
    )
    figure.update_layout(**layout() | {"margin": {"l": 110, "r": 40, "t": 60, "b": 40}})
    return chart(
        figure,
        "Settings and objective",
        "One line per search trial through its settings; drag along an axis to filter.",
    )


def _logarithms(name: str, values: Sequence[float | str]) -> dict[str, Any]:
    logs = [log10(float(value)) for value in values]
    whole = range(round(min(logs)) - 1, round(max(logs)) + 2)
    ticks = [power for power in whole if min(logs) <= power <= max(logs)]
    texts = [f"{10.0**power:g}" for power in ticks]
    return {"label": name, "values": logs, "tickvals": ticks, "ticktext": texts}


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


def importances(shares: Mapping[str, Mapping[str, float]]) -> Chart:
    """How much of the objective's variance each setting explains, one bar per protocol."""
    import plotly.graph_objects as go

    figure = empty_figure("share of the objective's variance", "")
    names = sorted({name for row in shares.values() for name in row})
    names.sort(key=lambda name: sum(row.get(name, 0.0) for row in shares.values()))
    for index, (label, row) in enumerate(shares.items()):
        figure.add_trace(
            go.Bar(
                x=[row.get(name, 0.0) for name in names],
                y=names,
                orientation="h",
                name=label,
                marker={
                    "color": colour(index),
                    "pattern": {"shape": PATTERNS[index % len(PATTERNS)]},
                },
            )
        )
    figure.update_layout(barmode="group")
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(automargin=True)
    return chart(
        figure,
        "What matters",
        "Share of the objective's variance that each setting explains (functional ANOVA).",
    )


def slices(
    columns: Mapping[str, Mapping[str, Sequence[tuple[float | str, float]]]],
    logarithmic: Sequence[str],
    objective: str,
) -> Chart:
    """Objective against each setting, one panel per setting, a marker per trial.

    Parameters
    ----------
    columns
        Setting -> protocol -> pairs of value and objective.
    logarithmic
        Settings that are searched in their logarithm.
    objective
        Title of the shared vertical axis.
    """
    from plotly.subplots import make_subplots

    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = make_subplots(down, across, shared_yaxes="all", vertical_spacing=0.25 / down)
    figure.update_layout(**layout() | {"height": 120 + 300 * down})
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False}
    figure.update_yaxes(**grid)
    for place, (name, by_protocol) in enumerate(columns.items()):
        row, column = place // across + 1, place % across + 1
        kind = "log" if name in logarithmic else None
        axis = {"title": name, "type": kind, "exponentformat": "power"}
        figure.update_xaxes(row=row, col=column, **axis, **grid)
        if column == 1:
            figure.update_yaxes(title=objective, row=row, col=column)
        for index, (label, pairs) in enumerate(by_protocol.items()):
            trace = _slice(pairs, label, index, first=place == 0)
            figure.add_trace(trace, row=row, col=column)
    return chart(
        figure, "Slices", "Objective of each trial against one setting at a time, all others free."
    )


def _slice(
    pairs: Sequence[tuple[float | str, float]], label: str, index: int, *, first: bool
) -> "go.Scatter":
    import plotly.graph_objects as go

    plain = all(isinstance(x, int | float) and not isinstance(x, bool) for x, _ in pairs)
    return go.Scatter(
        x=[x if plain else str(x) for x, _ in pairs],
        y=[y for _, y in pairs],
        mode="markers",
        name=label,
        legendgroup=label,
        showlegend=first,
        marker={"color": colour(index), "symbol": symbol(index)},
    )
