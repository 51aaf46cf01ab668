"""The montage of a report: truth, every protocol's estimate and its error, for one subject."""

from typing import TYPE_CHECKING

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures.job_panel import read_maps
from bmapest_ray.figures.palette import DIFFERENCE_MAP, FRACTION_MAP
from bmapest_ray.figures.panel import Column, draw_panel
from bmapest_ray.report.evidence import Evidence

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 5
ERROR_WINDOW = 0.25


def montages(evidence: Evidence) -> list[tuple["Image", str]]:
    """Return the pictures of estimates and of errors with their descriptions; none without maps."""
    directory = evidence.result.study.directory
    estimates: list[Column] = []
    errors: list[Column] = []
    where = ""
    for row in evidence.ranked[:MOST]:
        job = evidence.typical_job(row.label)
        maps = None if job is None else read_maps(job, directory)
        truth = None if job is None else read_maps(job, directory, "truth_")
        if job is None or maps is None or truth is None:
            continue
        where = f"sub-{job.subject}, slice {job.slice}"
        if not estimates:
            estimates.append(Column("truth", truth, FRACTION_MAP, (0.0, 1.0)))
        estimates.append(Column(row.label, maps, FRACTION_MAP, (0.0, 1.0)))
        window = (-ERROR_WINDOW, ERROR_WINDOW)
        errors.append(Column(row.label, maps - truth, DIFFERENCE_MAP, window))
    if not errors:
        return []
    return [
        (
            draw_panel(estimates, TISSUES, where),
            f"True and estimated fractions of {where}, the subject nearest the best protocol's "
            "median. Anterior is up, the subject's right is right; one window for all.",
        ),
        (
            draw_panel(errors, TISSUES, f"{where}: estimate - truth"),
            f"Errors of the same maps, from -{ERROR_WINDOW} (orange) to +{ERROR_WINDOW} (purple).",
        ),
    ]
