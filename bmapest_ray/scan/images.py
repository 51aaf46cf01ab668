"""Measured images: read, checked, and brought to the grid of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from bmapest_ray.anatomy.nifti import Volume, load_volume
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.scan.mrd import is_mrd, read_mrd
from bmapest_ray.scan.phase import is_smooth, read_phase, real_part
from bmapest_ray.scan.register import rigid_to

_LEAST_OVERLAP = 0.5
_SAME_GRID = 1e-3


@dataclass(frozen=True, eq=False)
class Scan:
    """Images of one head on one grid.

    Parameters
    ----------
    images
        Magnitudes, `(contrast, z, y, x)`, float32, not negative.
    affine
        Shape `(4, 4)`: voxel index `(x, y, z)` to RAS world millimetres.
    covered
        Where every image has data, bool `(z, y, x)`.
    signed
        Images with their signs, of the contrasts whose phase is known, up to one sign for all of
        an image; their noise is Gaussian. `(z, y, x)` each.
    notes
        What a reader should know of how the files were read.
    """

    images: NDArray[np.float32]
    affine: NDArray[np.float64]
    covered: NDArray[np.bool_]
    signed: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z, y, x = self.images.shape[1:]
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0


def read_scan(
    paths: Sequence[Path],
    phases: Sequence[Path | None] | None = None,
    *,
    register: bool = False,
) -> Scan:
    """Read images of one head; those on another grid are interpolated to the first one's.

    Parameters
    ----------
    phases
        File of the phase of every image, or None.
    register
        Lay the others on the first by a rigid motion first.

    Raises
    ------
    MissingInput, InvalidInput
        If a file is missing, not a plain 3-D magnitude image, broken, empty, or does not overlap
        with the first.
    """
    read = [
        _measured(path, phase)
        for path, phase in zip(paths, phases or [None] * len(paths), strict=True)
    ]
    first = read[0].magnitude
    covered = np.ones(first.data.shape, dtype=bool)
    images = [first.data]
    signed = {0: read[0].signed} if read[0].signed is not None else {}
    for number, (path, found) in enumerate(zip(paths[1:], read[1:], strict=True), start=1):
        volume = found.magnitude
        if register:
            volume = Volume(volume.data, rigid_to(first, volume) @ volume.affine)
        moved, inside = onto_grid(volume, first.data.shape, first.affine)
        share = float(inside[first.data > 0].mean())
        if share < _LEAST_OVERLAP:
            raise InvalidInput(
                f"images of one scan must overlap, {path} covers {share:.0%} of {paths[0]}; check "
                "the affines or register the images first"
            )
        covered &= inside
        images.append(moved)
        if found.signed is not None:
            whole = Volume(found.signed, volume.affine)
            signed[number] = onto_grid(whole, first.data.shape, first.affine)[0]
    notes = tuple(f"image {i + 1}: {found.note}" for i, found in enumerate(read) if found.note)
    return Scan(np.stack(images), first.affine, covered, signed, notes)


@dataclass(frozen=True, eq=False)
class _Measured:
    """One image: magnitude, signed where the phase is known, and how it was read."""

    magnitude: Volume
    signed: NDArray[np.float32] | None = None
    note: str = ""


def _measured(path: Path, phase: Path | None) -> _Measured:
    """Read one image with its phase, if there is any."""
    if is_mrd(path):
        if phase is not None:
            raise InvalidInput(f"{path} holds its own phase, {phase} cannot be added; leave it out")
        raw = read_mrd(path)
        magnitude = _checked(raw.magnitude, path)
        signed, across = real_part(raw.data, raw.affine)
        if is_smooth(across):
            return _Measured(magnitude, signed, "raw data were taken with their phase")
        return _Measured(magnitude, None, "the phase of the raw data is not smooth, it is left out")
    magnitude = read_image(path)
    if phase is None:
        return _Measured(magnitude)
    angle, unit = read_phase(phase, magnitude)
    complex_image = (magnitude.data * np.exp(1j * angle)).astype(np.complex64)
    signed, across = real_part(complex_image, magnitude.affine)
    if not is_smooth(across):
        raise InvalidInput(
            f"the phase {phase} must be smooth but for signs, {across:.0%} of the image is across "
            "it; check that it belongs to the magnitude, or leave it out"
        )
    return _Measured(magnitude, signed, f"phase was read in {unit}")


def read_image(path: Path) -> Volume:
    """Read one magnitude image, NIfTI or raw data.

    Raises
    ------
    MissingInput, InvalidInput
        As `load_volume`; and for colour images, negative values and slices without any signal.
    """
    if is_mrd(path):
        return _checked(read_mrd(path).magnitude, path)
    _refuse_colour(path)
    return _checked(load_volume(path), path)


def _checked(volume: Volume, path: Path) -> Volume:
    """Refuse what no magnitude image holds."""
    low, high = float(volume.data.min()), float(volume.data.max())
    if low < 0:
        raise InvalidInput(
            f"{path} must be a magnitude image, got values down to {low:g}; give the magnitude, or "
            "undo the offset that was subtracted"
        )
    if high == low:
        raise InvalidInput(f"{path} must show something, all its voxels are {high:g}; check it")
    filled = np.flatnonzero(volume.data.any(axis=(1, 2)))
    lost = sorted(set(range(filled[0], filled[-1])) - set(filled.tolist()))
    if lost:
        raise InvalidInput(
            f"{path} must have signal in every slice between its first and last, slice {lost[0]} "
            "along z is all zero; export it again"
        )
    return volume


def _refuse_colour(path: Path) -> None:
    if not path.is_file():
        return  # load_volume says so
    try:
        kind = nibabel.load(path).get_data_dtype()  # type: ignore[attr-defined]
    except (ImageFileError, OSError, EOFError):
        return  # load_volume says so
    if kind.fields is not None or kind.kind == "c":
        what = "complex" if kind.kind == "c" else "colour (RGB)"
        raise InvalidInput(
            f"{path} must hold one real number per voxel, it is a {what} image; convert it to "
            "magnitudes"
        )


def onto_grid(
    volume: Volume, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Interpolate a volume linearly onto a grid `(z, y, x)` by the affines alone.

    Returns
    -------
    data, inside
        The values, 0 outside of the volume, and where they come from inside of it.
    """
    if volume.data.shape == tuple(shape) and np.allclose(volume.affine, affine, atol=_SAME_GRID):
        return volume.data, np.ones(shape, dtype=bool)
    flip = np.eye(4)[[2, 1, 0, 3]]
    index = flip @ np.linalg.inv(volume.affine) @ affine @ flip
    turn, shift = index[:3, :3], index[:3, 3]
    whole = np.round(shift).astype(int)
    if np.allclose(turn, np.eye(3), atol=1e-6) and np.allclose(shift, whole, atol=_SAME_GRID):
        return _moved(volume.data, whole, shape)
    from scipy.ndimage import affine_transform

    data = affine_transform(volume.data, turn, shift, output_shape=tuple(shape), order=1)
    return data.astype(np.float32), _inside(volume.data.shape, turn, shift, shape)


def _moved(
    data: NDArray[np.float32], shift: NDArray[np.int_], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Copy a volume to a grid that starts a whole number of voxels further."""
    out, inside = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
    starts = [max(0, -s) for s in shift]
    stops = [max(min(n, m - s), 0) for n, m, s in zip(shape, data.shape, shift, strict=True)]
    to = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    of = tuple(
        slice(max(a + s, 0), max(b + s, 0)) for a, b, s in zip(starts, stops, shift, strict=True)
    )
    out[to], inside[to] = data[of], True
    return out, inside


def _inside(
    size: tuple[int, ...],
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.bool_]:
    """Say which points of a grid lie in a volume, slice by slice to bound memory."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    inside = np.empty(shape, dtype=bool)
    limit = np.array(size)[:, None, None]
    for z in range(shape[0]):
        place = np.einsum("ij,jyx->iyx", turn, np.stack([np.full_like(y, z), y, x]))
        place = place + shift[:, None, None]
        inside[z] = ((place > -0.5) & (place < limit - 0.5)).all(axis=0)
    return inside


def with_images(scan: Scan, images: NDArray[np.float32]) -> Scan:
    """Return the scan with other numbers on the same grid."""
    return replace(scan, images=images)
