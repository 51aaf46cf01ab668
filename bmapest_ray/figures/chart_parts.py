"""What every chart of a report shares: a frame without colours of its own, colours and marks.

Backgrounds are transparent and texts take the page's colour, so that one figure serves light, dark
and paper. Protocols differ by colour and by marker or dash, so that colour is never needed alone.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bmapest_ray.figures.palette import OKABE_ITO

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


def colour(index: int) -> str:
    """Return the colour of the protocol at a place in the table."""
    return OKABE_ITO[index % len(OKABE_ITO)]


def symbol(index: int) -> str:
    """Return the marker of the protocol at a place in the table.

    It changes once more when all colours are used, so that 49 protocols differ.
    """
    return SYMBOLS[(index + index // len(OKABE_ITO)) % len(SYMBOLS)]


def dash(index: int) -> str:
    """Return the line style of the protocol at a place in the table."""
    return DASHES[index % len(DASHES)]


@cache
def plotly_javascript() -> str:
    """Return plotly.js itself, to be put into a page once."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def chart(figure: "go.Figure", title: str, description: str) -> Chart:
    """Return a figure as a chart."""
    return Chart(title, description, str(figure.to_json()))


def empty_figure(x: str, y: str) -> "go.Figure":
    """Return axes with their titles."""
    import plotly.graph_objects as go

    figure = go.Figure()
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)"}
    figure.update_layout(**layout())
    figure.update_xaxes(title=x, **grid)
    figure.update_yaxes(title=y, **grid)
    return figure


def layout() -> dict[str, Any]:
    """Return what all charts look like."""
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "font": {"family": "system-ui, sans-serif", "size": 14},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#888888", "activecolor": "#0072B2"},
        "height": 420,
    }
