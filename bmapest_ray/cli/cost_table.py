"""The committed table of the engine's cost: resumable, one case after the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    from bmapest_ray.simulate.cost import CostCase, CostRow

_HEADER = (
    "| matrix | contrasts | subjects | set-up per chain [s] | mean rank | forward [ms] | "
    "adjoint [ms] | bare FFTs [ms] | ratio |\n|---|---|---|---|---|---|---|---|---|\n"
)


def write_cost_table(folder: Path, threads: int) -> None:
    """Measure every case that `folder` does not hold yet, then write table and plot."""
    import torch

    from bmapest_ray.simulate.cost import CostRow, cases

    torch.set_num_threads(threads)
    held = Held(folder / "engine.json")
    rows = {}
    for number, case in enumerate(cases(), 1):
        told = f"{number}/{len(cases())} {case.protocol} at {case.matrix}"
        rows[case] = CostRow(**held.get(case.key, partial(_measured, case, threads), told))
    lines = [_line(row) for row in rows.values()]
    text = (
        "# Cost of the low-rank engine\n\n"
        f"Written by `bmapest bench cost`, {threads} torch thread(s), complex64, MNI152 slice, "
        "analytic B0 and B1, tolerance 1e-4. Times are medians of nine rounds in which all three "
        "take turns; the bare FFTs are one `fft2` and one `ifft2` per contrast, rank and subject. "
        "Where these cost next to nothing, at small sizes, reading the factors (three complex "
        "weights per pixel, rank and contrast, and one more per sample) takes the longer.\n\n"
        f"{_HEADER}{''.join(lines)}\n![cost](engine.png)\n"
    )
    (folder / "engine.md").write_text(text)
    _plot(list(rows.values()), folder / "engine.png")


def _measured(case: CostCase, threads: int) -> dict[str, Any]:
    from bmapest_ray.simulate.cost import measure_cost

    return measure_cost(case, workers=threads).as_dict()


def _line(row: CostRow) -> str:
    return (
        f"| {row.matrix} | {row.contrasts} | {row.subjects} | {row.build_s:.2f} | {row.rank:.1f} | "
        f"{1e3 * row.forward_s:.2f} | {1e3 * row.adjoint_s:.2f} | {1e3 * row.bare_s:.2f} | "
        f"{row.ratio:.1f} |\n"
    )


def _plot(rows: list[CostRow], path: Path) -> None:
    from bmapest_ray.figures.cost import CostCurve, save_cost_plot

    panels = {
        "matrix (24 contrasts)": [r for r in rows if r.contrasts == 24 and r.subjects == 1],
        "contrasts (64 x 64)": [r for r in rows if r.matrix == 64 and r.subjects == 1],
        "subjects (64 x 64, 8 contrasts)": [r for r in rows if r.matrix == 64 and r.contrasts == 8],
    }
    keys = ("matrix", "contrasts", "subjects")
    curves = []
    for key, (label, chosen) in zip(keys, panels.items(), strict=True):
        ordered = sorted(chosen, key=lambda row: getattr(row, key))
        curves.append(
            CostCurve(
                label=label,
                at=[getattr(row, key) for row in ordered],
                operator_s=[row.forward_s + row.adjoint_s for row in ordered],
                bare_s=[row.bare_s for row in ordered],
            )
        )
    save_cost_plot(curves, path)
