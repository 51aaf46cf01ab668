"""Measured field maps on the pixels of a slice."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.nifti import Volume, load_volume
from bmapest_ray.base.errors import InvalidInput

FieldKind = Literal["hz", "relative"]

_PLAUSIBLE: dict[str, tuple[float, float, str]] = {
    "hz": (-5000.0, 5000.0, "an off-resonance map in Hz"),
    "relative": (0.05, 5.0, "a relative transmit field (1 = nominal, not percent)"),
}


def field_on_slice(path: Path, maps: TissueMaps, kind: FieldKind) -> Tensor:
    """Interpolate a field map linearly at the pixel centres of a slice.

    The two affines alone place the map, so it may have any orientation and voxel size. Voxels count
    to their outer edges. Pixels without tissue outside the map take the nearest value.

    Returns
    -------
    Tensor
        Shape `(y, x)`, float32, in the map's own unit.

    Raises
    ------
    MissingInput, InvalidInput
        If the file is missing, not 3-D, holds NaN, does not cover the head of the slice, or has
        values in the head that its kind cannot have.
    """
    volume = load_volume(path)
    index = voxel_positions(volume, maps)
    head = maps.head.cpu().numpy()
    size = np.array(volume.data.shape)[:, None, None]
    outside = head & ((index < -0.5) | (index > size - 0.5)).any(axis=0)
    if outside.any():
        raise InvalidInput(
            f"a field map must cover the head, {path} misses {outside.sum()} of {head.sum()} "
            "pixels; check its affine or extend it"
        )
    from scipy.ndimage import map_coordinates

    field = map_coordinates(volume.data, index, order=1, mode="nearest", output=np.float64)
    low, high, what = _PLAUSIBLE[kind]
    values = field[head]
    if values.size and (values.min() < low or values.max() > high):
        raise InvalidInput(
            f"{path} must be {what}, got values from {values.min():g} to {values.max():g} in the "
            f"head, allowed {low:g} to {high:g}; convert it"
        )
    return torch.from_numpy(field).to(torch.float32)


def voxel_positions(volume: Volume, maps: TissueMaps) -> NDArray[np.float64]:
    """Return fractional indices `(z, y, x)` of the map at all pixels, shape `(3, y, x)`."""
    y, x = np.mgrid[: maps.matrix, : maps.matrix]
    pixels = np.stack([x, y, np.zeros_like(x), np.ones_like(x)]).astype(np.float64)
    to_voxel = np.linalg.inv(volume.affine) @ maps.affine
    position = np.einsum("ij,jyx->iyx", to_voxel, pixels)
    return np.ascontiguousarray(position[2::-1])
