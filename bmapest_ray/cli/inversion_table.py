"""The committed table of what the inversion reaches: resumable, one job after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.errors import MissingInput
from bmapest_ray.base.threads import available_cores
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.records import JobRecord
    from bmapest_ray.study.result import JobResult
    from bmapest_ray.study.spec import JobSpec
    from bmapest_ray.study.store import StudyStore

SIX = "t1inv,t2prep,t2star,dir,flair,dwi"


@dataclass(frozen=True)
class InversionCase:
    """One row of the table.

    Parameters
    ----------
    name
        Key of the row.
    protocol, signal, snr, mixing, matrix
        What is measured.
    inversion
        The study's section on how it is solved.
    subjects
        How many of the report subjects are inverted; None is all of them.
    preset
        A preset of studies, whose values stand where the case's are defaults.
    """

    name: str
    protocol: str
    snr: float | None = None
    signal: str = "magnitude"
    mixing: str = "compartments"
    matrix: int = 64
    inversion: Mapping[str, Any] = field(default_factory=dict)
    subjects: int | None = None
    preset: str | None = None


CASES = (
    InversionCase("T1", "t1inv"),
    InversionCase("T1 + T2", "t1inv,t2prep"),
    InversionCase("six", SIX),
    InversionCase("T1", "t1inv", snr=100),
    InversionCase("T1 + T2", "t1inv,t2prep", snr=100),
    InversionCase("six", SIX, snr=100),
    InversionCase("T1, complex", "t1inv", snr=100, signal="complex"),
    InversionCase("T1 + T2, complex", "t1inv,t2prep", snr=100, signal="complex"),
    InversionCase("six, 128", SIX, snr=100, matrix=128, subjects=2),
    InversionCase("first T1", "t1inv[0]", snr=100, inversion={"prior": "cohort"}),
    InversionCase("first T1", "t1inv[0]", snr=100, inversion={"prior": "cohort+tv"}),
    InversionCase("first T1", "t1inv[0]", snr=100, inversion={"prior": "pca"}),
    InversionCase("first T1", "t1inv[0]", snr=100, inversion={"prior": "pca+tv"}),
    InversionCase("first T1", "t1inv[0]", snr=100, inversion={"prior": "neighbours"}),
    InversionCase("T1", "t1inv", snr=100, inversion={"prior": "cohort"}),
    InversionCase("T1", "t1inv", snr=100, inversion={"prior": "cohort+tv"}),
    InversionCase("T1", "t1inv", snr=100, inversion={"prior": "neighbours"}),
)
_STEPS = {"settings": {"max_iterations": 3}}
AVERAGED = (
    InversionCase("six", SIX, mixing="average", inversion=_STEPS, subjects=4),
    InversionCase("six, preset paper", SIX, mixing="average", subjects=4, preset="paper"),
)


def write_inversion_table(
    anatomy: str,
    splits: Path,
    folder: Path,
    most_subjects: int | None,
    *,
    averaged: bool = False,
    jobs: Path | None = None,
) -> None:
    """Run every job that `folder` does not hold yet, then write the table.

    ``averaged`` makes that of voxels with averaged properties instead. ``jobs`` is a folder of a
    study or reproduction: the very same jobs that it has finished are taken from there.
    """
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.store import StudyStore

    known = None if jobs is None else StudyStore(jobs)
    name, cases = ("averaged", AVERAGED) if averaged else ("inversion", CASES)
    held = Held(folder / f"{name}.json")
    cache = JobCache(workers=available_cores())
    rows = []
    for case in cases:
        limits = [n for n in (case.subjects, most_subjects) if n is not None]
        subjects = report_subjects(splits)[: min(limits) if limits else None]
        found = []
        for number, subject in enumerate(subjects, 1):
            spec = _spec(case, anatomy, subject)
            told = f"{case.name}, snr {case.snr}: {number}/{len(subjects)}"
            found.append(held.get(spec.id, partial(_run, spec, cache, known), told))
        rows.append(_row(case, found))
    title = _AVERAGED if averaged else _INVERSION
    (folder / f"{name}.md").write_text(title + _TEXT + "".join(rows))


def report_subjects(splits: Path) -> list[str]:
    """Return the subjects that may be reported."""
    return subjects_of(splits, "report")


def subjects_of(splits: Path, split: str) -> list[str]:
    """Return the subjects of a split.

    Raises
    ------
    MissingInput
        If there is no such file.
    """
    import yaml

    if not splits.is_file():
        raise MissingInput(f"--splits must be a YAML file of named subjects, got {splits}; name it")
    return list(yaml.safe_load(splits.read_text())[split])


def _spec(case: InversionCase, anatomy: str, subject: str) -> JobSpec:
    from bmapest_ray.cli.scene import SceneOptions
    from bmapest_ray.study.plan import one_job

    scene = SceneOptions(
        anatomy=anatomy,
        subject=subject,
        matrix=case.matrix,
        fov_mm=216.0,
        where="below-top:75",
        protocol=case.protocol,
        mixing=case.mixing,
        snr=case.snr,
        b0="analytic",
        b1="analytic",
        seed=0,
        preset=case.preset,
    )
    inversion = {"start": "cohort", **case.inversion}
    return one_job(scene.study(signal=case.signal, inversion=inversion))


def _run(spec: JobSpec, cache: JobCache, known: StudyStore | None) -> dict[str, Any]:
    from bmapest_ray.study.job import run_job

    record = None if known is None else known.job(spec.id)
    if record is not None and record.scores:
        return _told(record, record.total_seconds)
    started = time.perf_counter()
    result = run_job(spec, cache)
    return _told(result, time.perf_counter() - started)


def _told(job: JobResult | JobRecord, total_seconds: float) -> dict[str, Any]:
    return {
        "status": job.solver_status,
        "iterations": job.iterations,
        "seconds": round(job.seconds, 3),
        "total_seconds": round(total_seconds, 3),
        "same_model": job.data["same_model"],
        "psnr_db": {t: job.scores[t]["psnr_db"] for t in TISSUES} if job.scores else None,
    }


_INVERSION = """# What the inversion reaches

Written by `bmapest bench inversion`: BrainWeb slices `below-top:75`, 216 mm, analytic B0 and B1,
start = mean of the other subjects, subjects of the split `report` only. """
_AVERAGED = """# What the inversion reaches with averaged voxels

Written by `bmapest bench inversion --averaged`: the paper's model, in which a voxel has one T1, T2
and so on. Gauss-Newton from where a fit of compartments ends, stopped after three iterations,
chains side by side on all cores; beside it Adam as published, with its physics, fields and graph.
BrainWeb slices `below-top:75`, subjects of the split `report` only. """
_TEXT = """Data are made with the very
model that is fitted; rows without SNR are noise-free as well, which says that the solver works and
nothing about scans. PSNR in dB, mean (standard deviation) over subjects; time of the inversion
alone, median.

| protocol | prior | signal | matrix | SNR | subjects | GM | WM | CSF | worst | seconds | not \
converged |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def _row(case: InversionCase, found: list[dict[str, Any]]) -> str:
    scored = [one["psnr_db"] for one in found if one["psnr_db"]]
    cells = []
    for tissue in TISSUES:
        values = [row[tissue] for row in scored]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells.append(f"{statistics.mean(values):.1f} ({spread:.1f})")
    worst = min(min(row.values()) for row in scored)
    seconds = statistics.median(one["seconds"] for one in found)
    unfinished = sum(one["status"] != "CONVERGED" for one in found)
    return (
        f"| {case.name} | {case.inversion.get('prior', 'none')} | {case.signal} | {case.matrix} | "
        f"{case.snr or 'none'} | {len(found)} | "
        f"{' | '.join(cells)} | {worst:.1f} | {seconds:.2f} | {unfinished} |\n"
    )
