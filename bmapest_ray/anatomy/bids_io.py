"""Tissue maps as NIfTI files with BIDS-derivative names."""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.anatomy.maps import TOLERANCE, TissueMaps, subject_name
from bmapest_ray.anatomy.nifti import Volume, load_volume, save_volume
from bmapest_ray.anatomy.volume import normalise
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUE_NAMES, TISSUES


def read_map(path: Path) -> Volume:
    """Read the fractions of one tissue.

    Raises
    ------
    MissingInput, InvalidInput
        As `load_volume`, and if a value leaves [0, 1] by more than 0.001.
    """
    volume = load_volume(path)
    low, high = float(volume.data.min()), float(volume.data.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise InvalidInput(
            f"{path} must hold fractions in [0, 1], got [{low:g}, {high:g}]; "
            "rescale it or set the slope in its header"
        )
    return volume


def read_tissues(paths: Mapping[str, Path]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read the maps of all tissues, which must share one grid.

    Returns
    -------
    fraction, affine
        Shapes `(tissue, z, y, x)` and `(4, 4)`.

    Raises
    ------
    MissingInput, InvalidInput
        As `read_map`, and if grids differ or tissues sum to more than 1.
    """
    first = read_map(paths[TISSUES[0]])
    fraction = np.empty((len(TISSUES), *first.data.shape), dtype=np.float32)
    for index, tissue in enumerate(TISSUES):
        volume = first if index == 0 else read_map(paths[tissue])
        if volume.data.shape != first.data.shape or not np.allclose(
            volume.affine, first.affine, atol=1e-3
        ):
            raise InvalidInput(
                f"the maps of one subject must share shape and affine, {paths[tissue]} differs "
                f"from {paths[TISSUES[0]]}; resample them to one grid"
            )
        fraction[index] = volume.data
    return normalise(fraction, str(paths[TISSUES[0]].parent)), first.affine


def map_path(directory: Path, subject: str, tissue: str, desc: str | None, suffix: str) -> Path:
    """Return where the map of a tissue lies: ``sub-S/anat/sub-S_label-GM[_desc-D]_SUFFIX.nii.gz``.

    The entities are in the order of the BIDS standard.
    """
    name = f"sub-{subject_name(subject)}"
    label = f"label-{tissue}" + (f"_desc-{desc}" if desc else "")
    return directory / name / "anat" / f"{name}_{label}_{suffix}.nii.gz"


def write_maps(
    fraction: Tensor | NDArray[np.floating],
    affine: NDArray[np.float64],
    directory: Path,
    subject: str,
    desc: str | None = None,
    suffix: str = "probseg",
    meta: Mapping[str, object] | None = None,
) -> list[Path]:
    """Write one NIfTI file and one JSON sidecar per tissue.

    Files appear whole or not at all, so that several processes can write into one folder.

    Parameters
    ----------
    fraction
        Shape `(tissue, y, x)` or `(tissue, z, y, x)`; any finite numbers (an estimate may leave
        [0, 1], standard deviations are no fractions).
    affine
        Shape `(4, 4)`: index `(x, y, z)` to RAS world millimetres.
    desc
        Value of the BIDS entity `desc`, letters and digits, e.g. ``truth``.
    meta
        Added to the sidecars.

    Returns
    -------
    list of Path
        The NIfTI files, in the order of `TISSUES`.

    Raises
    ------
    InvalidInput
        If shapes or names break the rules, numbers are not finite or the folder is not writable.
    """
    data = np.asarray(torch.as_tensor(fraction).detach().cpu().numpy(), dtype=np.float32)
    data = data[:, None] if data.ndim == 3 else data
    _check_writable(data, desc, suffix)
    paths = [map_path(directory, subject, tissue, desc, suffix) for tissue in TISSUES]
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        _write_description(directory)
        for path, tissue, volume in zip(paths, TISSUES, data, strict=True):
            _replace(path, partial(save_volume, data=volume, affine=affine))
            _write_json(sidecar(path), {"Description": TISSUE_NAMES[tissue], **(meta or {})})
    except OSError as error:
        raise InvalidInput(f"maps must be writable to {directory}: {error}") from error
    return paths


def read_maps(
    directory: Path, subject: str, desc: str | None = None, source: str | None = None
) -> TissueMaps:
    """Read the slice that `write_maps` wrote.

    Raises
    ------
    MissingInput, InvalidInput
        As `read_tissues`, and if the files hold more than one plane.
    """
    paths = {t: map_path(directory, subject, t, desc, "probseg") for t in TISSUES}
    fraction, affine = read_tissues(paths)
    if fraction.shape[1] != 1:
        raise InvalidInput(
            f"{paths[TISSUES[0]]} must hold one plane, got {fraction.shape[1]}; open the folder as "
            "an anatomy instead"
        )
    return TissueMaps(torch.from_numpy(fraction[:, 0]), affine, subject, source or str(directory))


def sidecar(path: Path) -> Path:
    """Return the JSON file that describes a NIfTI file."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _check_writable(data: NDArray[np.float32], desc: str | None, suffix: str) -> None:
    if data.ndim != 4 or data.shape[0] != len(TISSUES):
        raise InvalidInput(f"maps must have the shape (3, y, x) or (3, z, y, x), got {data.shape}")
    if not np.isfinite(data).all():
        raise InvalidInput("maps must be finite to be written, got NaN or infinity")
    for name, value in (("desc", desc or "x"), ("suffix", suffix)):
        if not value.isascii() or not value.isalnum():
            raise InvalidInput(f"{name} must be letters and digits for a BIDS name, got '{value}'")


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - replaces on every system
    finally:
        temporary.unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    _replace(path, lambda temporary: temporary.write_text(text))


def _write_description(directory: Path) -> None:
    path = directory / "dataset_description.json"
    if path.exists():
        return
    tool = {"Name": "bmapest_ray", "Version": version("bmapest_ray")}
    _write_json(
        path,
        {
            "Name": "Tissue maps",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [tool],
        },
    )
