"""Cost of the low-rank engine against size, contrasts and subjects, as a PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bmapest_ray.figures.palette import OKABE_ITO


@dataclass(frozen=True)
class CostCurve:
    """One panel.

    Parameters
    ----------
    label
        Of the horizontal axis.
    at
        Where it was measured.
    operator_s, bare_s
        Forward and adjoint, and the bare transforms.
    """

    label: str
    at: Sequence[float]
    operator_s: Sequence[float]
    bare_s: Sequence[float]


def save_cost_plot(curves: Sequence[CostCurve], path: Path) -> None:
    """Draw one log-log panel per curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        seconds = [1e3 * s for s in curve.operator_s]
        bare = [1e3 * s for s in curve.bare_s]
        axis.loglog(curve.at, seconds, "o-", color=OKABE_ITO[0], label="forward + adjoint")
        axis.loglog(curve.at, bare, "s--", color=OKABE_ITO[1], label="bare FFTs")
        axis.loglog(curve.at, [5 * b for b in bare], ":", color="0.6", label="5 x bare FFTs")
        axis.set_xticks(list(curve.at), [f"{value:g}" for value in curve.at])
        axis.minorticks_off()
        axis.set_xlabel(curve.label)
        axis.set_ylabel("milliseconds")
        axis.grid(visible=True, which="major", alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
