"""Whole volumes at 1 mm, T1- and T2-weighted: time, memory and tissue volumes; resumable."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.tissues import TISSUES

if TYPE_CHECKING:
    import numpy as np

PROTOCOLS, SNR, TISSUE = ("mprage", "tse_t2w"), 50.0, "T1=+5%,T2=-5%"


def fit_volume(anatomy: str, subject: str, work: Path) -> dict[str, Any]:
    """Fit the whole head of a subject and return the row."""
    import resource

    from bmapest_ray.cli.estimate_command import shown_progress
    from bmapest_ray.cli.estimate_report import write_quality_report
    from bmapest_ray.scan.derivatives import summary, write_fit
    from bmapest_ray.scan.image_spec import ImageSpec
    from bmapest_ray.scan.request import Request, estimate

    work = work / subject
    paths, truth = _images(anatomy, subject, work)
    start = time.perf_counter(), time.process_time()
    specs = tuple(ImageSpec(p, name) for p, name in zip(paths, PROTOCOLS, strict=True))
    request = Request(specs, anatomy, without=subject)
    with shown_progress() as told:
        fit, place = estimate(request, work / "parts", told)
    write_fit(fit, work, subject, request.provenance())
    write_quality_report(fit, work / "report.html", subject)
    place.clear()
    wanted = truth.sum((1, 2, 3), dtype=float) * fit.scan.voxel_ml
    off = (fit.fraction - truth)[:, fit.mask]
    return {
        "subject": subject,
        "voxels": int(fit.mask.sum()),
        "minutes": (time.perf_counter() - start[0]) / 60,
        "cpu_minutes": (time.process_time() - start[1]) / 60,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "truth_ml": wanted.tolist(),
        "volume_ml": fit.volume_ml.tolist(),
        "volume_sd_ml": fit.volume_sd_ml.tolist(),
        "error": abs(off).mean(1, dtype=float).tolist(),
        "warnings": summary(fit)["warnings"],
    }


def _images(anatomy: str, subject: str, work: Path) -> tuple[list[Path], np.ndarray]:
    """Simulate the two images of a subject where they are not there yet; also its truth."""
    import numpy as np

    from bmapest_ray.anatomy.catalog import open_anatomy
    from bmapest_ray.anatomy.nifti import save_volume
    from bmapest_ray.scan.synthetic import clean_images, known_scan, padded_planes
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.tissue.table import PAPER_3T

    volume = open_anatomy(anatomy).volume(subject)
    planes = padded_planes(volume, 0, volume.fraction.shape[1])
    truth = np.stack([maps.fraction.numpy() for maps in planes], axis=1)
    paths = [work / f"{name}.nii" for name in PROTOCOLS]
    if all(path.is_file() for path in paths):
        return paths, truth
    cache, table = FactorCache(default_directory()), PAPER_3T.perturbed(TISSUE)
    clean = [clean_images(planes, name, table, cache) for name in PROTOCOLS]
    known = known_scan(clean, truth, planes[0].affine, SNR, "volume", subject)
    work.mkdir(parents=True, exist_ok=True)
    for path, image in zip(paths, known.scan.images, strict=True):
        save_volume(path.with_suffix(".part.nii"), image, planes[0].affine)
        path.with_suffix(".part.nii").replace(path)
    return paths, truth


def volume_text(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Write the section of the table."""
    yield (
        "## Whole volumes\n\nReport subjects at 1 mm, every axial plane played by this package as "
        f"{' and '.join(f'`{p}`' for p in PROTOCOLS)} with the point spread of the readouts, "
        "analytic B0 and B1, T1 5 % longer and T2 5 % shorter, a coil beside the head, an "
        f"unknown scale, SNR {SNR:g}; the cohort is the other thirteen. Time, of one "
        "thread, and peak memory are those of the estimate.\n\n"
        "| subject | voxels | minutes | CPU minutes | peak GB | "
        + " | ".join(f"{t} volume error (stated sd)" for t in TISSUES)
        + " | mean error GM | WM | CSF |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    for row in rows:
        cells = [
            f"{v / t - 1:+.2%} ({s / t:.2%})"
            for v, t, s in zip(row["volume_ml"], row["truth_ml"], row["volume_sd_ml"], strict=True)
        ]
        errors = " | ".join(f"{e:.4f}" for e in row["error"])
        yield (
            f"| {row['subject']} | {row['voxels']} | {row['minutes']:.1f} | "
            f"{row['cpu_minutes']:.1f} | {row['peak_gb']:.1f} | {' | '.join(cells)} | {errors} |\n"
        )
    yield "\n"
