"""The committed table of fits whose data another model made: resumable, one job after the other."""

from __future__ import annotations

import math
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.spec import JobSpec

PROTOCOL, SNR = "t1inv,t2prep", 50.0
CASES: dict[str, dict[str, Any]] = {
    "matched": {},
    "tissue values off 5 %": {"tissue": "T1=+5%,T2=-5%"},
    "partial volume": {"matrix": 216},
    "both": {"tissue": "T1=+5%,T2=-5%", "matrix": 216},
}
_TEXT = """# When another model made the data

Written by `bmapest bench mismatch`: t1inv,t2prep at 64 x 64, magnitude, SNR 50, BrainWeb slices
`below-top:75`, analytic B0 and B1, report subjects. Fits know the tissue table and 64 x 64 voxels;
data are made with T1 5 % longer and T2 5 % shorter, with voxels of a 216 x 216 grid (partial
volume), or both. Root mean square errors over the whole slice; the last columns take the error of
matched fits (noise alone) out in quadrature, which leaves what the wrong model adds. `MISFIT` is
how often the whitened residual contradicts the model.

| data | MISFIT | GM | WM | CSF | diverged | GM added | WM added | CSF added |
|---|---|---|---|---|---|---|---|---|
"""


def write_mismatch_table(anatomy: str, splits: Path, folder: Path, draws: int) -> None:
    """Run every job that `folder` does not hold yet, then write the table."""
    from bmapest_ray.cli.inversion_table import report_subjects
    from bmapest_ray.study.cache import JobCache

    held = Held(folder / "mismatch.json")
    cache = JobCache()
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, data in CASES.items():
        rows[name] = []
        for subject in report_subjects(splits):
            for draw in range(draws if name == "matched" else 1):
                spec = _spec(anatomy, subject, data, draw)
                told = f"{name}: {subject}, draw {draw}"
                rows[name].append(held.get(spec.id, partial(_run, spec, cache), told))
    matched = {t: _rms(rows["matched"], t) for t in TISSUES}
    lines = [_line(name, found, matched) for name, found in rows.items()]
    (folder / "mismatch.md").write_text(_TEXT + "".join(lines))


def _spec(anatomy: str, subject: str, data: dict[str, Any], draw: int) -> JobSpec:
    from bmapest_ray.cli.scene import DataOptions, SceneOptions
    from bmapest_ray.study.plan import one_job

    scene = SceneOptions(
        anatomy, subject, 64, 216.0, "below-top:75", PROTOCOL, "compartments", SNR, "analytic",
        "analytic", draw, data=DataOptions(**data),
    )  # fmt: skip
    return one_job(scene.study(signal="magnitude", inversion={"start": "cohort"}))


def _run(spec: JobSpec, cache: JobCache) -> dict[str, Any]:
    from bmapest_ray.study.job import run_job
    from bmapest_ray.study.judgement import judge

    result = run_job(spec, cache)
    if not result.scores:
        return {"status": result.solver_status, "verdict": None, "mse": None}
    squares = ((result.maps - result.truth) ** 2).mean((1, 2))
    return {
        "status": result.solver_status,
        "verdict": str(judge(spec, result, cache).verdict.fit),
        "mse": dict(zip(TISSUES, map(float, squares), strict=True)),
    }


def _rms(found: list[dict[str, Any]], tissue: str) -> float:
    return math.sqrt(statistics.mean(one["mse"][tissue] for one in found if one["mse"]))


def _line(name: str, found: list[dict[str, Any]], matched: dict[str, float]) -> str:
    fired = sum(one["verdict"] == "MISFIT" for one in found)
    diverged = sum(one["mse"] is None for one in found)
    errors = {t: _rms(found, t) for t in TISSUES}
    added = [math.sqrt(max(0.0, errors[t] ** 2 - matched[t] ** 2)) for t in TISSUES]
    cells = [f"{errors[t]:.4f}" for t in TISSUES] + [str(diverged)] + [f"{a:.4f}" for a in added]
    return f"| {name} | {fired}/{len(found)} | {' | '.join(cells)} |\n"
