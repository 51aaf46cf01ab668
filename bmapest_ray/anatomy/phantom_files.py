"""Read quantitative maps (npz, mat, NIfTI) and labelled heads as phantoms; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.brainweb_formats import Grid, read_bytes_volume
from bmapest_ray.anatomy.nifti import load_volume
from bmapest_ray.anatomy.phantom import ADC_UNIT, Map, Part, Phantom, make_part
from bmapest_ray.base.errors import InvalidInput, MissingInput

_NAMES = {
    "pd": ("pd", "density", "rho", "m0"),
    "t1_s": ("t1",),
    "t2_s": ("t2",),
    "t2dash_s": ("t2dash", "t2'", "t2prime"),
    "diffusivity_m2_per_s": ("d", "adc"),
    "b0_hz": ("b0", "db0"),
    "b1": ("b1", "b1+", "b1plus"),
}
_IN_ORDER = ("pd", "t1_s", "t2_s", "b0_hz", "b1")
"""Of the last axis of the one array in MR-zero's .mat phantoms."""
_USUAL_FOV_M = (0.2, 0.2, 8e-3)


def read_maps(path: Path) -> Phantom:
    """Read PD, T1 and T2 [s], and where given T2' [s], D [1e-3 mm2/s], B0 [Hz], B1 (relative).

    ``.npz`` and ``.mat`` hold one array `(x, y)` or `(x, y, z)` per map, by its name with or
    without ``_map``, and ``FOV`` in metres (0.2, 0.2, 0.008 without); a ``.mat`` may also hold one
    array whose last axis is PD, T1, T2, B0, B1. A folder holds ``PD.nii.gz``, ``T1.nii.gz``, ...

    Raises
    ------
    MissingInput, InvalidInput
        If there is no such file, it is broken or holds objects, or a map is missing.
    """
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise MissingInput(f"a phantom is needed at {path}, there is none; check the path")
    arrays = _mat(path) if path.suffix == ".mat" else _npz(path)
    found = _by_name(arrays, path)
    fov_m = np.broadcast_to(np.asarray(arrays.get("FOV", _USUAL_FOV_M), float).ravel(), 3)
    maps = {name: _volume(name, values, path) for name, values in found.items()}
    sizes = 1e3 * fov_m / maps["pd"].shape[::-1]
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = (sizes - 1e3 * fov_m) / 2
    return Phantom((_part(maps, path),), affine)


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InvalidInput(
            f"{path} must be an .npz file of plain numbers ({error}); save the arrays again"
        ) from error


def _mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path)
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError) as error:
        raise InvalidInput(
            f"{path} must be a MATLAB file of version 5 to 7 ({error}); save it with -v7"
        ) from error
    arrays = {k: v for k, v in found.items() if not k.startswith("__")}
    if len(arrays) == 1:
        (only,) = arrays.values()
        if only.ndim in (3, 4) and only.shape[-1] == len(_IN_ORDER):
            return {name: only[..., i] for i, name in enumerate(_IN_ORDER)}
    return arrays


def _by_name(arrays: dict[str, Any], path: Path) -> dict[str, Any]:
    plain = {name.lower().removesuffix("_map"): values for name, values in arrays.items()}
    found = {}
    for name, others in _NAMES.items():
        hits = [plain[key] for key in (name, *others) if key in plain]
        if hits:
            found[name] = hits[0]
    missing = [name for name in ("pd", "t1_s", "t2_s") if name not in found]
    if missing:
        words = ", ".join(name.removesuffix("_s").upper() for name in missing)
        raise InvalidInput(f"a phantom needs PD, T1 and T2, {path} lacks {words}; add the maps")
    return found


def _volume(name: str, values: Any, path: Path) -> Map:  # noqa: ANN401 - from a file
    array = np.asarray(values)
    if name == "b1" and array.ndim == 4:
        array = array[0]
    if array.dtype.kind == "c":
        array = np.abs(array)
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3):
        raise InvalidInput(
            f"{name} of {path} must be numbers of shape (x, y) or (x, y, z), got {array.dtype} of "
            f"shape {array.shape}; export it again"
        )
    array = array[:, :, None] if array.ndim == 2 else array
    return np.ascontiguousarray(array.T, dtype=np.float32)


def _part(maps: dict[str, Map], path: Path) -> Part:
    density = maps.pop("pd")
    if not np.isfinite(density).all():
        raise InvalidInput(f"PD of {path} must be finite, got NaN or infinity; fill it with 0")
    values: dict[str, float | Map] = dict(maps)
    if "diffusivity_m2_per_s" in maps:
        values["diffusivity_m2_per_s"] = maps["diffusivity_m2_per_s"] * np.float32(ADC_UNIT)
    for name, array in maps.items():
        if array.shape != density.shape:
            raise InvalidInput(
                f"{name} of {path} must have the shape of PD {density.shape[::-1]}, got "
                f"{array.shape[::-1]}; bring the maps to one grid"
            )
    for name in ("t1_s", "t2_s"):
        silent = (density > 0) & ~(maps[name] > 0)
        density = np.where(silent, 0, density).astype(np.float32)
    return make_part("maps", density, values)


def _from_folder(folder: Path) -> Phantom:
    files = {p.name.removesuffix(".gz").removesuffix(".nii"): p for p in folder.glob("*.nii*")}
    chosen = _by_name(dict(files), folder)
    volumes = {name: load_volume(path) for name, path in chosen.items()}
    affine = volumes["pd"].affine
    for name, volume in volumes.items():
        if not np.allclose(volume.affine, affine, atol=1e-3):
            raise InvalidInput(
                f"the maps of a phantom must share one grid, {chosen[name]} has another affine; "
                "resample it"
            )
    return Phantom((_part({name: v.data for name, v in volumes.items()}, folder),), affine)


_CLASSES = {
    "GM": ((2,), (0.8, 1.55, 0.09, 0.322, 0.83)),
    "WM": ((3,), (0.7, 0.83, 0.07, 0.183, 0.65)),
    "CSF": ((1, 8), (1.0, 4.16, 1.65, 0.0591, 3.19)),
    "fat": ((4, 9, 11), (1.0, 0.37, 0.125, 0.012, 0.1)),
    "muscle": ((5, 6, 10), (1.0, 1.42, 0.032, 0.03, 1.5)),
    "skull": ((7,), (0.2, 0.22, 4e-4, 3e-4, 0.1)),
}
"""Labels of BrainWeb's crisp heads, and PD, T1, T2, T2' [s], D [1e-3 mm2/s] at 3 T: brain tissues
as `PAPER_3T`; fat as MR-zero's BrainWeb table; muscle after Stanisz et al., Magn Reson Med
2005;54:507; cortical bone after Du et al., Magn Reson Imaging 2010;28:1012."""


def read_labels(path: Path, grid: Grid) -> Phantom:
    """Read a crisp BrainWeb head with fat, muscle and skull beside the three tissues of the brain.

    Raises
    ------
    MissingInput, InvalidInput
        As `read_bytes_volume`.
    """
    volume = read_bytes_volume(path, True, grid)
    planes = [np.rint(volume.plane(i)).astype(np.uint8) for i in range(volume.grid.shape[0])]
    labels: NDArray[np.uint8] = np.stack(planes)
    parts = []
    for name, (numbers, (pd, t1, t2, t2dash, adc)) in _CLASSES.items():
        density = np.float32(pd) * np.isin(labels, numbers)
        values: dict[str, float | Map] = {
            "t1_s": t1, "t2_s": t2, "t2dash_s": t2dash, "diffusivity_m2_per_s": adc * ADC_UNIT,
        }  # fmt: skip
        parts.append(make_part(name, density.astype(np.float32), values))
    affine = np.diag([*volume.grid.spacing_mm, 1.0])
    affine[:3, 3] = volume.grid.start_mm
    return Phantom(tuple(parts), affine)
