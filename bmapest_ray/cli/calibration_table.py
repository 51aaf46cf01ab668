"""The committed table of error bars: resumable, one case after the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    from bmapest_ray.study.calibration import Calibration, CalibrationCase

_TEXT = """# Are the stated error bars the errors?

Written by `bmapest bench calibration`: one slice of a report subject at 32 x 32, {draws} noise
draws, analytic B0 and B1, no prior; data made with the model that is fitted, fits started at the
truth, pixels outside the head known to be empty. `MSE/CRLB` is the squared error over the
Cramer-Rao bound, mean of all head pixels and draws (Fisher information of the Rician likelihood for
magnitudes); coverage is the share of fractions within one (68.3 %) and 1.96 (95 %) stated standard
deviations. With constraints the bound is not that of the estimator: errors are smaller, so
intervals cover more.

| case | SNR | constraints | weakest sample [sigma] | MSE/CRLB | 68.3 % | 95 % | mean sd | RMS \
error | not converged |
|---|---|---|---|---|---|---|---|---|---|
"""


def write_calibration_table(anatomy: str, splits: Path, folder: Path, draws: int) -> None:
    """Fit every case that `folder` does not hold yet, then write table and plot."""
    from bmapest_ray.cli.inversion_table import report_subjects
    from bmapest_ray.study.calibration import Calibration, CalibrationCase

    both = "t1inv,t2prep"
    cases = [
        *(CalibrationCase(f"complex {snr}", both, snr, "complex") for snr in (20, 50, 200)),
        CalibrationCase("strong magnitudes", "t2prep,t2star", 10_000, "magnitude", filled=True),
        CalibrationCase("Rician magnitudes", both, 20, "magnitude"),
        CalibrationCase("complex, simplex", both, 50, "complex", constraints="simplex"),
        CalibrationCase("magnitudes, simplex", both, 50, "magnitude", constraints="simplex"),
    ]
    held = Held(folder / "calibration.json")
    subject = report_subjects(splits)[0]
    found = {}
    for number, case in enumerate(cases, 1):
        told = f"{number}/{len(cases)} {case.name}"
        make = partial(_calibrated, case, anatomy, subject, draws)
        found[case] = Calibration(**held.get(f"{case}/{subject}/{draws}", make, told))
    lines = [
        f"| {case.name} | {case.snr:g} | {case.constraints} | {one.weakest:.1f} | {one.ratio:.3f} "
        f"| {100 * one.covered[1]:.1f} | {100 * one.covered[4]:.1f} | {one.width:.4f} | "
        f"{one.error:.4f} | {one.unfinished}/{one.draws} |\n"
        for case, one in found.items()
    ]
    text = _TEXT.format(draws=draws) + "".join(lines) + "\n![coverage](calibration.png)\n"
    (folder / "calibration.md").write_text(text)
    _plot({case.name: one for case, one in found.items()}, folder / "calibration.png")


def _calibrated(case: CalibrationCase, anatomy: str, subject: str, draws: int) -> dict[str, Any]:
    from bmapest_ray.study.calibration import calibrate

    found = calibrate(case, anatomy=anatomy, subject=subject, matrix=32, draws=draws)
    return found.as_dict()


def _plot(found: dict[str, Calibration], path: Path) -> None:
    from bmapest_ray.figures.calibration import save_calibration_plot
    from bmapest_ray.study.calibration import NOMINAL

    save_calibration_plot(NOMINAL, {name: one.covered for name, one in found.items()}, path)
