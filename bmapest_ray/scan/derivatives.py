"""Write a fit as BIDS derivatives; headers hold a grid and numbers, nothing of the originals."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.bids_io import sidecar, write_maps
from bmapest_ray.anatomy.nifti import save_volume
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.scan.estimate import ScanFit
from bmapest_ray.scan.verdict import bias_field, nuisance_lines, warnings_of

LABEL_AT = 0.5


def check_subject(subject: str) -> str:
    """Return a label that BIDS allows.

    Raises
    ------
    InvalidInput
        If it is not letters and digits.
    """
    name = subject.removeprefix("sub-")
    if not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise InvalidInput(f"a subject label must be letters and digits, got '{subject}'; e.g. 01")
    return name


def write_fit(
    fit: ScanFit, directory: Path, subject: str, provenance: Mapping[str, Any]
) -> list[Path]:
    """Write maps, deviations, labels, residuals, bias fields, volumes and provenance."""
    affine, name = fit.scan.affine, f"sub-{check_subject(subject)}"
    folder = directory / name / "anat"
    files = write_maps(fit.fraction, affine, directory, subject)
    files += write_maps(
        fit.deviation, affine, directory, subject, "std",
        meta={"Description": "Standard deviation of the fraction"},
    )  # fmt: skip
    singles: dict[str, tuple[NDArray[Any], str]] = {
        f"{name}_label-other_probseg": (fit.other, "Probability of none of the tissues"),
        f"{name}_dseg": (labels(fit), "0 background, 1 GM, 2 WM, 3 CSF: the largest fraction"),
    }
    for number, contrast in enumerate(fit.model.response.names):
        word = re.sub(r"[^A-Za-z0-9]", "", contrast)
        singles |= {
            f"{name}_acq-{word}_desc-residual_map": (fit.residual[number], "Image minus fit"),
            f"{name}_acq-{word}_desc-bias_map": (bias_field(fit, number), "Fitted relative bias"),
        }
    for stem, (data, text) in singles.items():
        files.append(_volume(folder / f"{stem}.nii.gz", data, affine, text))
    _text(folder / f"{name}_dseg.tsv", "index\tname\n1\tGM\n2\tWM\n3\tCSF\n")
    _text(folder / f"{name}_desc-volumes_stats.tsv", _volumes(fit))
    content = {**summary(fit), **provenance}
    _text(folder / f"{name}_desc-fit_provenance.json", json.dumps(content, indent=1) + "\n")
    return files


def labels(fit: ScanFit) -> NDArray[np.float32]:
    """Return 0 background, 1 GM, 2 WM, 3 CSF: the largest share of every voxel, `(z, y, x)`."""
    background = 1 - fit.fraction.sum(0, keepdims=True)
    largest = np.concatenate([background, fit.fraction]).argmax(0)
    return np.asarray(largest, dtype=np.float32)


def summary(fit: ScanFit) -> dict[str, Any]:
    """Return what was found as plain data."""
    names = fit.model.response.names
    return {
        "volumes_ml": _by_tissue(fit.volume_ml),
        "volume_standard_deviations_ml": _by_tissue(fit.volume_sd_ml),
        "nuisances": [
            {
                "name": line.name,
                "value": round(line.value, 5),
                "standard_deviation": round(line.spread, 5),
                "prior_standard_deviation": line.prior_spread,
                "learnt_share": round(line.learnt, 4),
            }
            for line in nuisance_lines(fit)
        ],
        "noise": dict(zip(names, _rounded(fit.nuisances.level.noise), strict=True)),
        "unexplained_share": dict(zip(names, _rounded(fit.nuisances.level.relative), strict=True)),
        "warnings": warnings_of(fit),
    }


def _by_tissue(values: NDArray[np.float64]) -> dict[str, float]:
    return {tissue: round(float(v), 2) for tissue, v in zip(TISSUES, values, strict=True)}


def _rounded(values: Any) -> list[float]:  # noqa: ANN401 - a tensor
    return [float(f"{v:.4g}") for v in values.tolist()]


def _volumes(fit: ScanFit) -> str:
    rows = ["tissue\tvolume_ml\tstandard_deviation_ml"]
    for tissue, volume, spread in zip(TISSUES, fit.volume_ml, fit.volume_sd_ml, strict=True):
        rows.append(f"{tissue}\t{volume:.2f}\t{spread:.2f}")
    return "\n".join(rows) + "\n"


def _volume(path: Path, data: NDArray[Any], affine: NDArray[np.float64], text: str) -> Path:
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        save_volume(temporary, data.astype(np.float32), affine)
        os.replace(temporary, path)  # noqa: PTH105 - replaces on every system
    finally:
        temporary.unlink(missing_ok=True)
    _text(sidecar(path), json.dumps({"Description": text}) + "\n")
    return path


def _text(path: Path, content: str) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    temporary.write_text(content, "utf-8")
    temporary.replace(path)
