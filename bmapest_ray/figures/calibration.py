"""Coverage of error bars against what they promise, as a PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bmapest_ray.figures.palette import OKABE_ITO

_MARKS = "os^vDPX"


def save_calibration_plot(
    nominal: Sequence[float], covered: Mapping[str, Sequence[float]], path: Path
) -> None:
    """Draw how far each case's coverage is from the promised share, within a band of 3 points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    promised = [100 * share for share in nominal]
    axis.axhspan(-3, 3, color="0.92")
    axis.axhline(0, color="0.5", linewidth=1)
    for number, (name, shares) in enumerate(covered.items()):
        excess = [100 * share - p for share, p in zip(shares, promised, strict=True)]
        colour = OKABE_ITO[number % len(OKABE_ITO)]
        axis.plot(promised, excess, marker=_MARKS[number % len(_MARKS)], color=colour, label=name)
    axis.set_xlabel("promised coverage [%]")
    axis.set_ylabel("found - promised [points]")
    axis.set_xticks(promised, [f"{p:.0f}" for p in promised])
    axis.grid(visible=True, alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)
