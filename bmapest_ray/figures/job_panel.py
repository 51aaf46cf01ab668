"""The panel of a finished job, painted from the maps that the job left on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.nifti import load_volume
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures.panel import draw_panel, truth_estimate_difference
from bmapest_ray.study.records import JobRecord

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL = 128
"""Pixels along each side of a map: thousands of panels are painted, written and looked through."""


def read_maps(job: JobRecord, directory: Path, prefix: str = "") -> NDArray[np.float32] | None:
    """Read a job's maps. Shape `(tissue, y, x)`; None where it left none.

    Parameters
    ----------
    job
        A finished job.
    directory
        The study's folder, to which `job.files` is relative.
    prefix
        ``"truth_"`` reads the truth.
    """
    names = [job.files.get(f"{prefix}{tissue}") for tissue in TISSUES]
    if any(name is None for name in names):
        return None
    return np.stack([load_volume(directory / str(name)).data[0] for name in names])


def job_panel(job: JobRecord, directory: Path) -> "Image | None":
    """Paint truth, estimate and difference of a job; None where it left no maps.

    In 256 colours, none further than 2 of 255 from the right one: a quarter of the bytes.
    """
    from PIL.Image import Quantize

    estimate, truth = read_maps(job, directory), read_maps(job, directory, "truth_")
    if estimate is None or truth is None:
        return None
    notes = [
        f"{tissue} {row['psnr_db']:.1f} dB"
        for tissue, row in job.scores.items()
        if row.get("psnr_db") is not None
    ]
    title = f"sub-{job.subject}  {job.slice}  {job.protocol}"
    columns = truth_estimate_difference(truth, estimate)
    panel = draw_panel(columns, TISSUES, title, notes, tile=SMALL)
    return panel.quantize(256, method=Quantize.MAXCOVERAGE)
