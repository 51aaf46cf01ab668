"""Fits of images that MR-zero's isochromats made, with and without nuisances; resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.tissues import TISSUES

if TYPE_CHECKING:
    import numpy as np

PROTOCOLS, SNR, OFF = ("se_t1w", "tse_t2w", "se_pdw"), 50.0, 0.05  # few spins: no RF spoiling
MATRIX, FINE, FOV_MM, SLICE = 64, 128, 216.0, "below-top:75"
IGNORED = ("bias", "b1", "t1", "t2", "pd", "offset")


def measured() -> str:
    """Return in a few words what decides a row beside the subject and the rules of the fit."""
    from bmapest_ray.scan.independent import SPINS

    return f"{'+'.join(PROTOCOLS)} {SLICE} {MATRIX}/{FINE} spins {SPINS} SNR {SNR:g} off {OFF:g}"


def isochromats_of(anatomy: str, subject: str, protocol: str, work: Path) -> np.ndarray:
    """Return the complex image of a subject, `(y, x)`, simulated once."""
    import numpy as np

    from bmapest_ray.anatomy.catalog import open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec, extract_slice
    from bmapest_ray.scan.independent import SPINS, isochromat_images, off_values, still
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.tissue.table import PAPER_3T

    path = work / f"isochromats-{subject}-{protocol}-{MATRIX}-{FINE}-{SPINS}.npy"
    if not path.is_file():
        volume = open_anatomy(anatomy).volume(subject)
        fine = extract_slice(volume, SliceSpec.parse(SLICE), FINE, FOV_MM)
        table = off_values(still(PAPER_3T), OFF, subject).table
        image = isochromat_images(parse_protocol(protocol), fine, table, MATRIX)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".part.npy"), image.numpy() / MATRIX)
        path.with_suffix(".part.npy").replace(path)
    return np.asarray(np.load(path))


def fit_independent(anatomy: str, subject: str, work: Path) -> dict[str, Any]:
    """Fit the images of a subject, with nuisances and without, and return the row."""
    from bmapest_ray.anatomy.catalog import open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec, extract_slice
    from bmapest_ray.scan.cohort_prior import cohort_on_grid
    from bmapest_ray.scan.coverage import gains, tissue_values
    from bmapest_ray.scan.head import head_mask
    from bmapest_ray.scan.independent import off_values, still
    from bmapest_ray.scan.response import joined, response_of
    from bmapest_ray.scan.settings import ScanSettings
    from bmapest_ray.scan.synthetic import known_scan
    from bmapest_ray.scan.trial import Trial
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.tissue.table import PAPER_3T

    clean = [isochromats_of(anatomy, subject, name, work)[None] for name in PROTOCOLS]
    opened = open_anatomy(anatomy)
    maps = extract_slice(opened.volume(subject), SliceSpec.parse(SLICE), MATRIX, FOV_MM)
    truth = maps.fraction.numpy()[:, None]
    known = known_scan(clean, truth, maps.affine, SNR, "independent", subject)
    others = [name for name in opened.subjects if name != subject]
    cohort = cohort_on_grid(opened, others, known.scan.shape, maps.affine)
    table = still(PAPER_3T)
    responses = [
        response_of(parse_protocol(name), table, MATRIX, FOV_MM * 1e-3).only("", name)
        for name in PROTOCOLS
    ]
    trial = Trial(known, head_mask(known.scan, cohort), cohort, joined(responses))
    fit, ignorant = trial.fit(ScanSettings()), trial.fit(ScanSettings(fixed=IGNORED))
    scales, bias = gains(fit, known.scale, known.bias)
    off = fit.volume_ml - truth.sum((1, 2, 3)) * known.scan.voxel_ml
    values = scales + tissue_values(fit, off_values(table, OFF, subject).logs)
    return {
        "subject": subject,
        "error": trial.error(fit.fraction).tolist(),
        "ignorant": trial.error(ignorant.fraction).tolist(),
        "prior": trial.error(cohort.mean).tolist(),
        "inside": {one.name: one.inside for one in values},
        "off": {one.name: [one.error, one.spread] for one in values},
        "bias_inside": bias,
        "volume_z": (off / fit.volume_sd_ml).tolist(),
    }


def independent_text(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Write the section of the table."""
    from bmapest_ray.scan.independent import SPINS

    yield (
        "## Images by another simulator\n\nThe slice `" + SLICE + "` of report subjects, "
        f"played by MR-zero's isochromats as {', '.join(f'`{p}`' for p in PROTOCOLS)}, "
        f"{MATRIX} x {MATRIX} from a phantom of {FINE} x {FINE} voxels and {SPINS} spins, each "
        "at a place of its own, in every tissue of each; analytic B0 and B1, T1, T2 and PD of "
        "every tissue 5 % up or down, no T2' and no diffusion; a coil "
        f"beside the head, an unknown scale, SNR {SNR:g}. The fit that ignores them still fits the "
        "scale. Errors are mean absolute ones inside the mask; the cohort is the other thirteen."
        "\n\n| subject | fit GM | WM | CSF | ignoring GM | WM | CSF | fit / ignoring | scale and "
        "values inside 95 % | bias inside 95 % |\n|---|---|---|---|---|---|---|---|---|---|\n"
    )
    for row in rows:
        ratio = [a / b for a, b in zip(row["error"], row["ignorant"], strict=True)]
        cells = [f"{e:.4f}" for e in (*row["error"], *row["ignorant"])]
        inside = f"{sum(row['inside'].values())}/{len(row['inside'])}"
        yield (
            f"| {row['subject']} | {' | '.join(cells)} | {', '.join(f'{r:.2f}' for r in ratio)} | "
            f"{inside} | {row['bias_inside']:.0%} |\n"
        )
    outside = [
        f"{k} of {r['subject']}" for r in rows for k, good in r["inside"].items() if not good
    ]
    z = [abs(v) for row in rows for v in row["volume_z"]]
    share = sum(v <= 1.96 for v in z)
    yield (
        f"\nOutside: {', '.join(outside) or 'none'}. Volumes of {', '.join(TISSUES)} in the slice: "
        f"{share} of {len(z)} inside their 95 % intervals.\n\n"
    )
