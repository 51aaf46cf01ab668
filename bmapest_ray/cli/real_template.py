"""The MNI152 scan, fitted, beside what knows less; resumable."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    import numpy as np

    from bmapest_ray.scan.request import Request

FIT = "fit: image and prior"
_SCORES = ("r GM", "r WM", "dice GM", "dice WM")


def template_rows(
    cohort: str, protocol: str, mixture: tuple[int, float], held: Held, start: str, work: Path
) -> dict[str, dict[str, Any]]:
    """Fit the template and compare with what knows less, or return what is held.

    Parameters
    ----------
    mixture
        Gaussians and smoothing of the mixture, as chosen on the tune subjects.
    start
        Of the keys of what is held.
    """
    parts, smooth = mixture
    mixed = f"Gaussian mixture (scikit-learn, {parts} classes, smoothed by {smooth:g} mm)"
    makers = {
        FIT: partial(_fit, cohort, protocol, work / "fit"),
        "image without the prior": partial(_fit, "", protocol, work / "image"),
        "prior without the image": partial(_prior, cohort),
        mixed: partial(_mixture, parts, smooth),
    }
    return {
        name: held.get(f"{start}{protocol} {name}", partial(_timed, make), name)
        for name, make in makers.items()
    }


def _timed(make: Any) -> dict[str, Any]:  # noqa: ANN401 - a function
    start = time.perf_counter(), time.process_time()
    found: dict[str, Any] = make()
    found["minutes"] = (time.perf_counter() - start[0]) / 60
    found["cpu_minutes"] = (time.process_time() - start[1]) / 60
    return found


def template_text(rows: Mapping[str, dict[str, Any]], protocol: str) -> Iterator[str]:
    """Write the section of the table."""
    subjects = rows["prior without the image"]["subjects"]
    yield (
        "## A real scan\n\nThe MNI152 T1-weighted template (average of 152 real, skull-stripped, "
        "bias-corrected scans at 1 mm, in nilearn's wheel) as an image of unknown scale and bias "
        f"made by the preset `{protocol}`, which is not the sequence that made it. The truth is "
        "the template's own GM and WM maps, inside nilearn's brain mask; Dice of where maps exceed "
        f"one half. The prior is the mean and covariance of {subjects} BrainWeb subjects. "
        "Settings, the mixture's too, were chosen on simulated scans of the tune subjects "
        "([real_tuning.md](real_tuning.md)), never on this image.\n\n"
        "| maps from | correlation GM | correlation WM | Dice GM | Dice WM | minutes | CPU minutes "
        "|\n|---|---|---|---|---|---|---|\n"
    )
    for name, row in rows.items():
        scores = " | ".join(f"{row[k]:.3f}" for k in _SCORES)
        yield f"| {name} | {scores} | {row['minutes']:.1f} | {row['cpu_minutes']:.1f} |\n"
    yield "\n" + "".join(f"- {note}\n" for note in rows[FIT]["warnings"]) + "\n"
    yield "![Image, fitted maps, the template's own maps](real.png)\n\n"


def _scores(fraction: np.ndarray) -> dict[str, Any]:
    from bmapest_ray.anatomy.mni152 import Mni152Anatomy
    from bmapest_ray.scan.real_scan import agreement

    truth = Mni152Anatomy().volume()
    found = agreement(fraction, truth.fraction, truth.fraction.sum(0) > 0)
    by_name = {f"r {a.tissue}": a.correlation for a in found}
    return by_name | {f"dice {a.tissue}": a.dice for a in found}


def _request(cohort: str, protocol: str) -> Request:
    from bmapest_ray.anatomy.mni152 import template_path
    from bmapest_ray.scan.image_spec import ImageSpec
    from bmapest_ray.scan.request import Request

    return Request((ImageSpec(template_path(), protocol),), cohort)


def _fit(cohort: str, protocol: str, work: Path) -> dict[str, Any]:
    from bmapest_ray.cli.estimate_command import shown_progress
    from bmapest_ray.cli.estimate_report import write_quality_report
    from bmapest_ray.scan.derivatives import summary, write_fit
    from bmapest_ray.scan.request import estimate

    request = _request(cohort, protocol)
    with shown_progress() as told:
        fit, place = estimate(request, work / "parts", told)
    write_fit(fit, work, "mni152", request.provenance())
    write_quality_report(fit, work / "report.html", "mni152")
    place.clear()
    return _scores(fit.fraction) | summary(fit)


def _prior(cohort: str) -> dict[str, Any]:
    from bmapest_ray.anatomy.catalog import open_anatomy
    from bmapest_ray.anatomy.mni152 import template_path
    from bmapest_ray.scan.cohort_prior import cohort_on_grid
    from bmapest_ray.scan.images import read_scan

    scan, anatomy = read_scan([template_path()]), open_anatomy(cohort)
    found = cohort_on_grid(anatomy, anatomy.subjects, scan.shape, scan.affine)
    return _scores(found.mean) | {"subjects": len(anatomy.subjects)}


def _mixture(parts: int, smooth: float) -> dict[str, Any]:
    from bmapest_ray.anatomy.mni152 import Mni152Anatomy, template_path
    from bmapest_ray.scan.images import read_scan
    from bmapest_ray.scan.tissue_mixture import gaussian_mixture

    image, total = read_scan([template_path()]).images[0], Mni152Anatomy().volume().fraction.sum(0)
    mask = (total > 0) & (image > 0)  # what was stripped away would take a class of its own
    return _scores(gaussian_mixture(image, mask, parts, smooth))


def write_picture(work: Path, path: Path, plane_mm: float = 12.0) -> Path:
    """Draw a plane of the image, the fitted maps and the template's own, in two rows."""
    import numpy as np
    from PIL import Image

    from bmapest_ray.anatomy.mni152 import Mni152Anatomy, template_path
    from bmapest_ray.anatomy.nifti import load_volume
    from bmapest_ray.base.tissues import TISSUES

    image, truth = load_volume(template_path()), Mni152Anatomy().volume()
    index = round(plane_mm - float(image.affine[2, 3]))
    shown = image.data[index] / image.data[index].max()
    folder = work / "fit" / "sub-mni152" / "anat"
    fitted = [
        load_volume(folder / f"sub-mni152_label-{t}_probseg.nii.gz").data[index] for t in TISSUES
    ]
    rows = [[shown, *fitted], [shown, *truth.fraction[:, index]]]
    joined = np.concatenate([np.concatenate([p[::-1] for p in row], axis=1) for row in rows])
    Image.fromarray((np.clip(joined, 0, 1) * 255).round().astype(np.uint8)).save(path)
    return path
