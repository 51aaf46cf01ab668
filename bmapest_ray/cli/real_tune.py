"""Settings of ``bmapest estimate``, chosen on the tune subjects alone; resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.held import Held
from bmapest_ray.cli.inversion_table import subjects_of

if TYPE_CHECKING:
    from bmapest_ray.scan.trial import Trial

PROTOCOL, SNR, PLANES = "mprage", 50.0, 4
HEIGHTS_MM = (-10.0, 5.0, 20.0, 40.0)
"""World z of the lowest plane, one per subject in turn."""
BASE: Mapping[str, Any] = {"floor": 0.35, "coupling": 8.0, "bias": 0.05, "sweeps": 1}
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "floor": (0.15, 0.35, 0.7, 1.4),
    "coupling": (0.0, 8.0, 24.0, 48.0),
    "bias": (0.05, 0.15),
    "sweeps": (1, 2),
}
_SAMPLE = 2500
_HEAD_MM3 = 1.5e6
MIXTURES = tuple((parts, smooth) for parts in (3, 5) for smooth in (0.0, 0.5))
"""Gaussians and the smoothing of the image in voxels, of the mixture that the fit is held to."""


def write_tuning(anatomy: str, splits: Path, folder: Path) -> dict[str, Any]:
    """Try settings one after the other, keep the best of each, and return rows and winners."""
    held = Held(folder / "real_tuning.json")
    subjects = subjects_of(splits, "tune")
    trials = _Trials(anatomy, subjects)
    best, rows = dict(BASE), []
    for name, values in CHOICES.items():
        for value in values:
            settings = {**best, name: value}
            found = _tried(held, trials, settings)
            rows.append({"setting": name, "value": value, **found})
        tried = [row for row in rows if row["setting"] == name]
        best[name] = min(tried, key=lambda row: row["error"])["value"]
    mixtures = [_mixture(held, trials, *choice) for choice in MIXTURES]
    found = {"best": best, "rows": rows, "mixtures": mixtures, "subjects": subjects}
    (folder / "real_tuning.md").write_text("".join(_text(found)))
    return found


class _Trials:
    """Slabs of the tune subjects as scans, made when they are needed."""

    def __init__(self, anatomy: str, subjects: list[str]) -> None:
        self.anatomy, self.subjects = anatomy, subjects
        self._made: dict[str, Trial] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.subjects)

    def __getitem__(self, subject: str) -> Trial:
        if subject not in self._made:
            low = HEIGHTS_MM[self.subjects.index(subject) % len(HEIGHTS_MM)]
            self._made[subject] = slab_trial(self.anatomy, subject, low)
        return self._made[subject]


def slab_trial(anatomy: str, subject: str, low_mm: float) -> Trial:
    """Return a slab of a subject as a scan; all other subjects are its cohort."""
    import numpy as np

    from bmapest_ray.anatomy.catalog import open_anatomy
    from bmapest_ray.scan.cohort_prior import cohort_on_grid
    from bmapest_ray.scan.head import head_mask
    from bmapest_ray.scan.response import response_of
    from bmapest_ray.scan.synthetic import clean_images, known_scan, padded_planes
    from bmapest_ray.scan.trial import Trial
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.tissue.table import PAPER_3T

    opened = open_anatomy(anatomy)
    volume = opened.volume(subject)
    first = round((low_mm - volume.origin_mm[2]) / volume.spacing_mm[2])
    planes = padded_planes(volume, first, first + PLANES)
    off = PAPER_3T.perturbed("T1=+5%,T2=-5%")
    clean = clean_images(planes, PROTOCOL, off, FactorCache(default_directory()))
    truth = np.stack([maps.fraction.numpy() for maps in planes], axis=1)
    known = known_scan([clean], truth, planes[0].affine, SNR, "tune", subject)
    others = [name for name in opened.subjects if name != subject]
    cohort = cohort_on_grid(opened, others, known.scan.shape, known.scan.affine)
    side = planes[0].matrix
    response = response_of(parse_protocol(PROTOCOL), PAPER_3T, side, planes[0].fov_mm * 1e-3)
    named = response.only("", PROTOCOL)
    return Trial(known, head_mask(known.scan, cohort), cohort, named)


def _tried(held: Held, trials: _Trials, settings: dict[str, Any]) -> dict[str, Any]:
    errors = []
    for subject in trials:
        key = json.dumps([subject, settings], sort_keys=True)
        errors.append(held.get(key, lambda s=subject: _fitted(trials[s], settings))["error"])  # type: ignore[misc]
    mean = [sum(column) / len(column) for column in zip(*errors, strict=True)]
    return {"errors": mean, "error": sum(mean) / len(mean)}


def _fitted(trial: Trial, settings: dict[str, Any]) -> dict[str, Any]:
    from bmapest_ray.scan.settings import ScanSettings

    rest = {name: value for name, value in settings.items() if name != "bias"}
    shared = ScanSettings().shared_mm3 * trial.mask.sum() * trial.known.scan.voxel_ml * 1e3
    spreads = {"bias": settings["bias"]}
    fit = trial.fit(
        ScanSettings(spreads=spreads, sample=_SAMPLE, shared_mm3=shared / _HEAD_MM3, **rest)
    )
    return {"error": trial.error(fit.fraction).tolist()}


def _mixture(held: Held, trials: _Trials, parts: int, smooth: float) -> dict[str, Any]:
    errors = [
        held.get(
            f"mixture {parts} {smooth} {subject}",
            lambda s=subject: _mixed(trials[s], parts, smooth),  # type: ignore[misc]
        )["error"]
        for subject in trials
    ]
    return {"parts": parts, "smooth": smooth, "error": sum(errors) / len(errors)}


def _mixed(trial: Trial, parts: int, smooth: float) -> dict[str, Any]:
    from bmapest_ray.scan.tissue_mixture import gaussian_mixture

    head = trial.known.truth.sum(0) > 0.5  # the best mask it can have
    found = gaussian_mixture(trial.known.scan.images[0], head, parts, smooth)
    off = abs(found - trial.known.truth)[:, head]
    return {"error": float(off.mean())}


def _text(found: dict[str, Any]) -> Iterator[str]:
    yield (
        "# Settings of `bmapest estimate`\n\nWritten by `bmapest bench real --part tune`. Slabs of "
        f"{PLANES} mm of the tune subjects {', '.join(found['subjects'])} at 1 mm, played as "
        f"`{PROTOCOL}` at SNR {SNR:g} with T1 5 % longer, T2 5 % shorter, analytic B0 and B1, a "
        "coil beside the head and an unknown scale; the cohort is the other thirteen. One setting "
        "is moved at a time, from above to below, and keeps the value of least error (mean "
        "absolute, over tissues); a slab counts for as much as a head when nuisances are fitted. "
        "Where the largest value tried was kept, a larger one may be better still."
        "\n\n| setting | value | GM | WM | CSF | mean |\n|---|---|---|---|---|---|\n"
    )
    for row in found["rows"]:
        chosen = " (kept)" if found["best"][row["setting"]] == row["value"] else ""
        cells = " | ".join(f"{e:.4f}" for e in (*row["errors"], row["error"]))
        yield f"| {row['setting']} | {row['value']:g}{chosen} | {cells} |\n"
    yield (
        "\nThe Gaussian mixture it is held to, on the same scans inside the true head; with five "
        "Gaussians the second and fourth are mixed voxels, half of each neighbour.\n\n"
        "| Gaussians | smoothing (mm) | mean error |\n|---|---|---|\n"
    )
    for row in found["mixtures"]:
        yield f"| {row['parts']} | {row['smooth']:g} | {row['error']:.4f} |\n"


def best_mixture(found: dict[str, Any]) -> tuple[int, float]:
    """Return Gaussians and smoothing of the mixture with the least error."""
    best = min(found["mixtures"], key=lambda row: row["error"])
    return best["parts"], best["smooth"]
