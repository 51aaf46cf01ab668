"""BrainWeb's own file formats: MINC 1 volumes and bytes without a header, gzipped or not."""

import gzip
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import InvalidInput, MissingInput

LABEL_COUNT = 12
"""Crisp labels 0 to 11: background, CSF, GM, WM, fat, muscle, muscle/skin, skull, vessels,
fat around the skull, dura, bone marrow."""

_SIGN_BIT = 0x80
_LEVELS = 255.0
_GZIP = b"\x1f\x8b"
_NOT_NETCDF = (ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error)
_PADDING = bytes(8)
"""BrainWeb's writer leaves out the bytes of a last scalar variable, netCDF readers want them."""


@dataclass(frozen=True)
class Grid:
    """Voxels along the world axes +R, +A, +S."""

    shape: tuple[int, int, int]
    """Number of voxels along z, y, x."""
    start_mm: tuple[float, float, float]
    """World x, y, z of the centre of the first voxel."""
    spacing_mm: tuple[float, float, float]
    """Voxel size along x, y, z."""


BRAINWEB_GRID = Grid((362, 434, 362), (-90.25, -126.25, -72.25), (0.5, 0.5, 0.5))
"""The grid of the twenty normal brains, which files without a header do not tell."""


@dataclass(frozen=True, eq=False)
class ByteVolume:
    """A volume stored as bytes: value = `low` + `step` * level, plane by plane."""

    levels: NDArray[np.uint8]
    """Shape `(z, y, x)`."""
    low: NDArray[np.float32]
    """Shape `(z,)`: value of level 0."""
    step: NDArray[np.float32]
    """Shape `(z,)`: value of one level."""
    grid: Grid

    def plane(self, index: int) -> NDArray[np.float32]:
        """Return the values of one axial plane, shape `(y, x)`."""
        plane: NDArray[np.float32] = self.values(index)[self.levels[index]]
        return plane

    def values(self, index: int) -> NDArray[np.float32]:
        """Return what the 256 levels of one axial plane stand for."""
        low, step = float(self.low[index]), float(self.step[index])
        return np.arange(256, dtype=np.float32) * step + low

    def commonest_level(self) -> int:
        """Return the level that most voxels have: the background."""
        return int(np.bincount(self.levels.ravel(), minlength=256).argmax())


def read_bytes_volume(path: Path, crisp: bool, grid: Grid = BRAINWEB_GRID) -> ByteVolume:
    """Read a volume in one of BrainWeb's formats, told apart by its content.

    Parameters
    ----------
    crisp
        Whether a file without a header holds labels, or fractions scaled to 0..255.
    grid
        Grid of a file without a header.

    Raises
    ------
    MissingInput
        If there is no such file.
    InvalidInput
        If the file is cut, of another format, of another size, or a crisp file holds other labels.
    """
    content = _content(path)
    if content.startswith(b"CDF"):
        volume = _minc(content, path)
    elif len(content) == np.prod(grid.shape):
        volume = _headerless(content, grid, crisp, path)
    else:
        raise InvalidInput(_wrong_format(content, grid, path))
    if crisp:
        _check_labels(volume, path)
    return volume


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise MissingInput(f"a BrainWeb file is needed at {path}, there is none; check the path")
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"{path} must be a whole gzip file: {error}; fetch it again") from error


def _wrong_format(content: bytes, grid: Grid, path: Path) -> str:
    wanted = f"MINC 1 or {np.prod(grid.shape)} bytes without a header"
    if content.lstrip()[:1] == b"<":
        return f"{path} must be {wanted}, got a web page; fetch it again"
    if content.startswith(b"\x89HDF"):
        return f"{path} must be {wanted}, got MINC 2; fetch it as MINC from BrainWeb's form"
    return f"{path} must be {wanted}, got {len(content)} bytes; fetch it again as MINC"


def _headerless(content: bytes, grid: Grid, crisp: bool, path: Path) -> ByteVolume:
    """Read bytes without a header.

    BrainWeb calls them unsigned, but its fuzzy files are signed with zero at -128. The background
    (level 0, or 1 in the files of vessels) is most of every volume and tells which it is.
    """
    levels = np.frombuffer(content, dtype=np.uint8).reshape(grid.shape)
    background = int(np.bincount(levels.ravel(), minlength=256).argmax())
    if background & ~_SIGN_BIT > 1:
        raise InvalidInput(
            f"most of {path} must be background (byte 0, 1, 128 or 129), got byte {background}; "
            "fetch it again as MINC"
        )
    if background & _SIGN_BIT:
        levels = levels ^ np.uint8(_SIGN_BIT)
    step = 1.0 if crisp else 1 / _LEVELS
    planes = grid.shape[0]
    return ByteVolume(levels, np.zeros(planes, "f4"), np.full(planes, step, "f4"), grid)


def _minc(content: bytes, path: Path) -> ByteVolume:
    from scipy.io import netcdf_file  # nibabel's reader cannot be given the padding in place

    try:
        with netcdf_file(io.BytesIO(content + _PADDING), mmap=False) as file:
            return _minc_volume(file.variables, path)
    except _NOT_NETCDF as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{path} must be a whole MINC 1 file of bytes: {error}; fetch it again"
        ) from error


def _minc_volume(variables: dict[str, Any], path: Path) -> ByteVolume:
    image = variables["image"]
    if image.dimensions != ("zspace", "yspace", "xspace") or image.data.itemsize != 1:
        raise InvalidInput(
            f"{path} must hold bytes along z, y, x, got {image.data.dtype} along "
            f"{', '.join(image.dimensions)}; fetch it again as MINC"
        )
    signed = image.signtype != b"unsigned"
    type_low = -128.0 if signed else 0.0
    bounds = getattr(image, "valid_range", (type_low, type_low + _LEVELS))
    first, last = (float(bound) for bound in bounds)
    low, high = (np.asarray(variables[f"image-{end}"].data, dtype="f8") for end in ("min", "max"))
    step = (high - low) / (last - first)
    levels = image.data.view(np.uint8) ^ np.uint8(_SIGN_BIT if signed else 0)
    start = low + (type_low - first) * step
    planes = levels.shape[0]
    return ByteVolume(
        levels,
        np.broadcast_to(start, planes).astype("f4"),
        np.broadcast_to(step, planes).astype("f4"),
        _minc_grid(variables, levels.shape, path),
    )


def _minc_grid(variables: dict[str, Any], shape: tuple[int, ...], path: Path) -> Grid:
    axes = [variables[name] for name in ("xspace", "yspace", "zspace")]
    spacing = [float(axis.step) for axis in axes]
    directions = [getattr(a, "direction_cosines", e) for a, e in zip(axes, np.eye(3), strict=True)]
    if min(spacing) <= 0 or not np.allclose(directions, np.eye(3), atol=1e-6):
        raise InvalidInput(
            f"{path} must have axes along +R, +A, +S, got steps of {spacing} mm along "
            f"{np.round(directions, 4).tolist()}; resample it"
        )
    x, y, z = (float(axis.start) for axis in axes)
    dx, dy, dz = spacing
    return Grid((shape[0], shape[1], shape[2]), (x, y, z), (dx, dy, dz))


def _check_labels(volume: ByteVolume, path: Path) -> None:
    highest = int(volume.levels.max())
    top = float((highest * volume.step + volume.low).max())
    if not np.isclose(top, round(top), atol=0.05) or not 3 <= round(top) < LABEL_COUNT:
        raise InvalidInput(
            f"{path} must hold labels up to 3 (WM) or {LABEL_COUNT - 1} (marrow), got {top:g}; "
            "check that it is the discrete (crisp) model"
        )
