"""The committed table of how well sequences measure the tissues: resumable, job after job."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    from bmapest_ray.report.compare import Measured
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.spec import JobSpec

SNR = 100.0
REFERENCE = "t1inv[3]"
MINUTE_S = 60.0
PROTOCOLS = {
    "MPRAGE + TSE": "mprage,tse_t2w",
    "MP2RAGE": "mp2rage",
    "bSSFP pair": "bssfp",
    "multi-echo GRE + FLAIR-TSE": "multi_echo_gre,flair_tse",
    "fingerprinting": "fingerprinting",
    "the paper's T1 + T2": "t1inv,t2prep",
}
PRIORS = ("none", "cohort")


@dataclass(frozen=True)
class SequenceRow:
    """What one protocol reached with one prior.

    Parameters
    ----------
    label
        Name of the protocol.
    scan_time_s
        Its scan time.
    images
        How many images it measures.
    found
        One stored job per subject.
    """

    label: str
    scan_time_s: float
    images: int
    found: dict[str, dict[str, Any]]

    def rmse(self, subject: str, tissue: str) -> float:
        """Root mean square error of the fractions over the slice."""
        return float(10 ** (-self.found[subject]["psnr_db"][tissue] / 20))

    def error(self, subject: str) -> float:
        """Root mean square over the tissues."""
        return math.sqrt(statistics.mean(self.rmse(subject, t) ** 2 for t in TISSUES))

    def per_minute(self, subject: str) -> float:
        """Error times the square root of the scan time in minutes."""
        return self.error(subject) * math.sqrt(self.scan_time_s / MINUTE_S)

    def measured(self, *, per_minute: bool) -> Measured:
        """Return the error of every subject for the paired tests."""
        from bmapest_ray.report.compare import Measured

        value = self.per_minute if per_minute else self.error
        return Measured(self.label, self.scan_time_s, {s: value(s) for s in self.found})


def write_sequence_table(
    anatomy: str, splits: Path, folder: Path, most_subjects: int | None
) -> None:
    """Run every job that `folder` does not hold yet, then write the table."""
    from bmapest_ray.cli.inversion_table import report_subjects
    from bmapest_ray.simulate.cache import default_directory
    from bmapest_ray.study.cache import JobCache

    held = Held(folder / "sequences.json")
    cache = JobCache(folder=default_directory())
    subjects = report_subjects(splits)[:most_subjects]
    rows: dict[str, list[SequenceRow]] = {prior: [] for prior in PRIORS}
    for label, protocol in PROTOCOLS.items():
        for prior in PRIORS:
            found = {}
            for subject in subjects:
                spec = _spec(protocol, anatomy, subject, prior)
                told = f"{label}, prior {prior}: {subject}"
                found[subject] = held.get(spec.id, partial(_run, spec, cache), told)
            one = next(iter(found.values()))
            rows[prior].append(SequenceRow(label, one["scan_time_s"], one["images"], found))
    (folder / "sequences.md").write_text(_text(rows))


def _spec(protocol: str, anatomy: str, subject: str, prior: str) -> JobSpec:
    from bmapest_ray.cli.scene import SceneOptions
    from bmapest_ray.study.plan import one_job

    scene = SceneOptions(
        anatomy=anatomy,
        subject=subject,
        matrix=64,
        fov_mm=216.0,
        where="below-top:75",
        protocol=protocol,
        mixing="compartments",
        snr=SNR,
        b0="analytic",
        b1="analytic",
        seed=0,
    )
    noise = {"snr": SNR, "reference": REFERENCE, "seed": 0}
    inversion = {"start": "cohort", "prior": prior}
    return one_job(scene.study(signal="magnitude", inversion=inversion, noise=noise))


def _run(spec: JobSpec, cache: JobCache) -> dict[str, Any]:
    from bmapest_ray.sequence.overview import overview
    from bmapest_ray.study.job import run_job

    result = run_job(spec, cache)
    measured = overview(spec.protocol, spec.anatomy.matrix, spec.anatomy.fov_m)
    return {
        "status": result.solver_status,
        "seconds": round(result.seconds, 3),
        "same_model": result.data["same_model"],
        "scan_time_s": round(measured.scan_time_s, 6),
        "images": sum(len(one.images) for one in measured.contrasts),
        "psnr_db": {tissue: result.scores[tissue]["psnr_db"] for tissue in TISSUES},
    }


_INTRODUCTION = f"""# How well sequences measure the tissues

Written by `bmapest bench sequences`: BrainWeb slices `below-top:75`, 64 x 64, 216 mm, analytic B0
and B1, subjects of the split `report` only, magnitude images, compartments, start = mean of the
other subjects. One physical noise level for all: SNR {SNR:g} in `{REFERENCE}`, scaled by dwell
time (all voxels are alike). The data are made with the very model that is fitted.

Error: root mean square over pixels and tissues of estimated minus true fraction, in per cent, mean
(standard deviation) over subjects. "per minute" is the error times the square root of the scan time
in minutes: what would be left after repeating the protocol for one minute, as far as noise alone
makes the error. It ranks protocols fairly only where noise, not too few equations, limits them:
two images do not determine three fractions, so without a prior those rows show what the start fills
in.
"""


def _text(rows: dict[str, list[SequenceRow]]) -> str:
    titles = {"none": "Without a prior", "cohort": "With the mean and covariance of other subjects"}
    parts = [_INTRODUCTION]
    for prior, found in rows.items():
        parts += [f"\n## {titles[prior]}\n\n", _HEADER, *map(_line, found), _tests(found)]
    return "".join(parts)


_HEADER = (
    "| protocol | images | scan time [s] | GM [dB] | WM [dB] | CSF [dB] | error [%] | "
    "error [%] per minute | seconds | how it ended |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def _line(row: SequenceRow) -> str:
    jobs = list(row.found.values())
    psnr = [_spread([job["psnr_db"][t] for job in jobs], 1) for t in TISSUES]
    errors = [_spread([100 * f(s) for s in row.found], 2) for f in (row.error, row.per_minute)]
    seconds = statistics.median(job["seconds"] for job in jobs)
    ends = Counter(job["status"] for job in jobs)
    ended = ", ".join(f"{count} {status.lower()}" for status, count in sorted(ends.items()))
    cells = [row.label, str(row.images), f"{row.scan_time_s:.1f}", *psnr, *errors]
    return f"| {' | '.join([*cells, f'{seconds:.2f}', ended])} |\n"


def _spread(values: list[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ({deviation:.{digits}f})"


def _tests(rows: list[SequenceRow]) -> str:
    """Return the paired tests of the best protocol against each other one."""
    from bmapest_ray.report.compare import best_against_others
    from bmapest_ray.report.statistics import format_p

    lines = []
    for per_minute, words in ((False, "error"), (True, "error per minute")):
        measured = [row.measured(per_minute=per_minute) for row in rows]
        for found in best_against_others(measured, higher_is_better=False):
            less = -100 * found.test.mean_difference
            p = "no test" if found.adjusted_p is None else f"p = {format_p(found.adjusted_p)}"
            lines.append(
                f"- {words}: {found.better} below {found.worse} by {less:.2f} points, "
                f"n = {found.test.subjects}, Wilcoxon with Holm's correction, {p}\n"
            )
    return "\n" + "".join(lines)
