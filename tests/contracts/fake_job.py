"""A work function that stands in for inversions: known scores, and a log of every start."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus

WORK = "fake_job:work"
SHAPE = (3, 8, 8)


def psnr_of(spec: JobSpec) -> float:
    """More contrasts are better, damping 0.3 is best, each subject has its own level."""
    contrasts = len(spec.protocol.contrasts)
    level = 0.5 * int(spec.anatomy.subject) if spec.anatomy.subject.isdigit() else 0.0
    return 20.0 + contrasts + level - (spec.solve.solver.damping - 0.3) ** 2


def work(spec: JobSpec, state: dict[str, Any]) -> JobResult:
    """Log the start, wait, and give scores that the settings decide."""
    folder = Path(state["log"])
    with (folder / "starts.txt").open("a") as log:
        log.write(f"{spec.id}\n")
    time.sleep(float(state.get("seconds", 0.0)))
    damping = spec.solve.solver.damping
    if "fails_above" in state and damping > state["fails_above"]:
        raise ValueError("a fake failure")
    if state.get("invalid"):
        raise InvalidInput("snr must be right, got wrong; correct it")
    diverges = "diverges_above" in state and damping > state["diverges_above"]
    with (folder / "ends.txt").open("a") as log:
        log.write(f"{spec.id}\n")
    maps = np.full(SHAPE, 0.25, dtype=np.float32)
    return JobResult(
        id=spec.id,
        status=JobStatus.DIVERGED if diverges else JobStatus.DONE,
        solver_status="DIVERGED" if diverges else "CONVERGED",
        message="The objective grew." if diverges else "",
        scores={} if diverges else {t: {"psnr_db": psnr_of(spec), "mae": 0.01} for t in TISSUES},
        maps=maps,
        truth=maps,
        affine=np.diag([1.0, 1.0, 1.0, 1.0]),
        history=({"iteration": 0, "objective": 1.0, "seconds": 0.0},),
        iterations=1,
        seconds=0.01,
        scan_time_s=10.0,
        data={"summary": f"fake, process {os.getpid()}"},
    )


def lines(folder: Path, name: str) -> list[str]:
    """Return the ids that were logged to ``starts.txt`` or ``ends.txt``."""
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []
