"""Small files in BrainWeb's formats, quirks included."""

import gzip
import io
from pathlib import Path

import numpy as np
from scipy.io import netcdf_file

from bmapest_ray.anatomy.brainweb_formats import Grid

GRID = Grid((24, 28, 32), (-7.75, -6.75, -5.75), (0.5, 0.5, 0.5))
"""World x, y, z of the first voxel; the centre of the grid is at 0, 0, 0."""


def labels() -> np.ndarray:
    """A lopsided head: skull 7, CSF 1, GM 2, WM 3, a vessel 8, and a stray GM voxel outside."""
    z, y, x = np.indices(GRID.shape)
    radius = np.hypot(np.hypot(z - 11.5, y - 15.5), x - 13.5)
    volume = np.select([radius < 4, radius < 7, radius < 9, radius < 10], [3, 2, 1, 7], 0)
    volume[11:13, 15:17, 22] = 8
    volume[0, 0, 31] = 2
    return volume.astype(np.uint8)


def write_gz(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def minc(
    levels: np.ndarray,
    signed: bool = True,
    image_max: float | np.ndarray = 255.0,
    image_min: float = 0.0,
    grid: Grid = GRID,
    step_sign: float = 1.0,
    cut_tail: bool = False,
) -> bytes:
    """MINC 1 of 8-bit `levels`; `cut_tail` leaves out the last scalar, as BrainWeb does."""
    stream = io.BytesIO()
    file = netcdf_file(stream, "w")
    for name, size in zip(("zspace", "yspace", "xspace"), levels.shape, strict=True):
        file.createDimension(name, size)
    for index, name in enumerate(("xspace", "yspace", "zspace")):
        axis = file.createVariable(name, "d", ())
        axis.spacing = "regular__"
        axis.step, axis.start = step_sign * grid.spacing_mm[index], grid.start_mm[index]
    planes = () if np.isscalar(image_max) else ("zspace",)
    for name, values in (("image-max", image_max), ("image-min", image_min)):
        file.createVariable(name, "d", planes)[...] = values
    image = file.createVariable("image", "b", ("zspace", "yspace", "xspace"))
    image.signtype = "signed__" if signed else "unsigned"
    image.valid_range = np.array([-128.0, 127.0] if signed else [0.0, 255.0])
    image[...] = (levels ^ np.uint8(0x80 if signed else 0)).view(np.int8)
    file.createVariable("rootvariable", "i", ())
    file.flush()
    content = stream.getvalue()
    return content[:-4] if cut_tail else content
