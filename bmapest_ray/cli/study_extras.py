"""What a finished study is shown by: its report, a viewer of its best maps, what was played."""

from pathlib import Path
from typing import TYPE_CHECKING

from bmapest_ray.base.tissues import TISSUES

if TYPE_CHECKING:
    from bmapest_ray.report.evidence import Evidence
    from bmapest_ray.sequence.protocol import Contrast, Protocol
    from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

VIEWER_NAME = "viewer.html"
PROTOCOLS_NAME = "protocols"
MOST_DRAWN = 5
"""Protocols whose sequences are drawn, best first; all are written as Pulseq files."""


def show_study(evidence: "Evidence", tracker: "MlflowTracker | None") -> None:
    """Write a study's report, and give MLflow the rest of what there is to see."""
    from bmapest_ray.report.html import sentence, write_report

    directory = evidence.result.study.directory
    reports = write_report(evidence, directory)
    if tracker is None:
        return
    tracker.conclude(evidence.result, sentence(evidence))
    viewer = save_best_viewer(evidence, directory / VIEWER_NAME)
    for path in (*reports, *([viewer] if viewer else [])):
        tracker.attach(path)
    for job in evidence.jobs_to_show(1):
        if job.id in evidence.shown:
            tracker.show(evidence.shown[job.id], job)
    folder = directory / PROTOCOLS_NAME
    if not folder.is_dir():
        save_protocols(evidence, folder)
    tracker.attach(folder, PROTOCOLS_NAME)


def save_best_viewer(evidence: "Evidence", path: Path, label: str | None = None) -> Path | None:
    """Write a viewer of the typical subject's maps under the best protocol, or the one named.

    Returns
    -------
    Path or None
        The page; None where no job left maps.
    """
    from bmapest_ray.anatomy.nifti import load_volume
    from bmapest_ray.figures.job_panel import read_maps
    from bmapest_ray.figures.viewer import save_viewer

    directory = evidence.result.study.directory
    wanted = label or next((row.label for row in evidence.ranked), "")
    job = evidence.typical_job(wanted)
    maps = None if job is None else read_maps(job, directory)
    if job is None or maps is None:
        return None
    shown = evidence.shown.get(job.id)
    affine = load_volume(directory / job.files["GM"]).affine
    title = f"{job.protocol}: sub-{job.subject}, slice {job.slice}"
    save_viewer(maps, shown.image if shown else None, affine, TISSUES, path, title)
    return path


def save_protocols(evidence: "Evidence", folder: Path) -> None:
    """Write every protocol as Pulseq files, and draw each kind of contrast of the best ones."""
    from bmapest_ray.cli.protocol_view import draw_contrasts
    from bmapest_ray.sequence.export import export_protocol
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.tracking.mlflow_artifacts import folder_name

    config = evidence.result.study.config
    grid = int(config["anatomy"]["matrix"]), 1e-3 * float(config["anatomy"]["fov_mm"])
    best = [row.label for row in evidence.ranked[:MOST_DRAWN]]
    for text in config["protocols"]:
        protocol = parse_protocol(text)
        place = folder / folder_name(protocol.name)
        export_protocol(protocol, *grid, place)
        if protocol.name in best:
            draw_contrasts(protocol, kinds(protocol), grid, place)


def kinds(protocol: "Protocol") -> "tuple[Contrast, ...]":
    """Return the first contrast of each sequence: the others differ in numbers alone."""
    return tuple({c.sequence: c for c in reversed(protocol.contrasts)}.values())[::-1]
