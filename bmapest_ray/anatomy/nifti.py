"""NIfTI files read in RAS order, with what is unclear about them refused."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bmapest_ray.base.errors import InvalidInput, MissingInput

_ALIGNED = 2  # NIfTI code: coordinates aligned to another file or to truth


@dataclass(frozen=True, eq=False)
class Volume:
    """Numbers of one NIfTI file, reoriented to RAS (axes flipped and swapped, not resampled)."""

    data: NDArray[np.float32]
    """Shape `(z, y, x)`, with the file's slope and intercept applied."""
    affine: NDArray[np.float64]
    """Shape `(4, 4)`: voxel index `(x, y, z)` to RAS world millimetres."""


def load_volume(path: Path) -> Volume:
    """Read a 3-D NIfTI file.

    Raises
    ------
    MissingInput
        If there is no such file.
    InvalidInput
        If it is not a NIfTI file, not 3-D, not in millimetres, without an affine, or has values
        that are not finite.
    """
    if not path.is_file():
        raise MissingInput(f"a NIfTI file is needed at {path}, there is none; check the path")
    try:
        image: Any = nibabel.load(path)
        _check_header(image, path)
        image = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} must be a readable NIfTI file: {error}") from error
    if not np.isfinite(data).all():
        raise InvalidInput(f"{path} must hold finite numbers, got NaN or infinity; mend the file")
    return Volume(data.transpose(2, 1, 0), np.asarray(image.affine, dtype=np.float64))


def _check_header(image: object, path: Path) -> None:
    if not isinstance(image, nibabel.Nifti1Image):
        raise InvalidInput(f"{path} must be a NIfTI file, got {type(image).__name__}; convert it")
    if len(image.shape) != 3 or 0 in image.shape:
        raise InvalidInput(f"{path} must be 3-D, got the shape {image.shape}; store one volume")
    unit = image.header.get_xyzt_units()[0]  # type: ignore[no-untyped-call]
    if unit not in ("mm", "unknown"):  # unknown is millimetres by the NIfTI standard's habit
        raise InvalidInput(
            f"{path} must be in millimetres, its header says {unit}; convert its affine and header"
        )
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        raise InvalidInput(
            f"{path} must say where it lies, both its sform and qform codes are 0; set an affine"
        )


def save_volume(path: Path, data: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    """Write a NIfTI file in millimetres whose sform and qform both say `affine`.

    Parameters
    ----------
    data
        Shape `(z, y, x)`; stored as `(x, y, z)`.
    affine
        Shape `(4, 4)`: voxel index `(x, y, z)` to RAS world millimetres.
    """
    image: Any = nibabel.Nifti1Image(data.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units(xyz="mm")
    image.set_sform(affine, code=_ALIGNED)
    image.set_qform(affine, code=_ALIGNED)
    nibabel.save(image, path)


def content_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes, uncompressed if its name ends in ``.gz``.

    Raises
    ------
    InvalidInput
        If the compressed file is broken.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"{path} must be a readable gzip file: {error}") from error
