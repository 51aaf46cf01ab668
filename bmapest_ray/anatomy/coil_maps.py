"""Measured receive sensitivities on the pixels of a slice."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.nifti import Volume
from bmapest_ray.anatomy.resample import voxel_positions
from bmapest_ray.base.errors import InvalidInput, MissingInput


def coils_on_slice(path: Path, maps: TissueMaps) -> Tensor:
    """Interpolate complex coil maps linearly at the pixel centres of a slice.

    Parameters
    ----------
    path
        A complex NIfTI file of shape `(x, y, z, coil)`, any orientation and voxel size; `(x, y, z)`
        is one coil. Outside the map a pixel takes the nearest value.
    maps
        The slice.

    Returns
    -------
    Tensor
        Shape `(coil, y, x)`, complex64.

    Raises
    ------
    MissingInput, InvalidInput
        If the file is missing, holds no complex numbers or NaN, or does not cover the head.
    """
    if not path.is_file():
        raise MissingInput(f"coil maps are needed at {path}, there are none; check the path")
    image: Any = nibabel.load(path)
    values = np.asarray(nibabel.as_closest_canonical(image).dataobj)  # type: ignore[no-untyped-call]
    affine = np.asarray(nibabel.as_closest_canonical(image).affine)  # type: ignore[no-untyped-call]
    if not np.iscomplexobj(values) or values.ndim not in (3, 4):
        raise InvalidInput(
            f"{path} must hold complex numbers (x, y, z, coil), got {values.dtype} of shape "
            f"{values.shape}; store one complex NIfTI file"
        )
    if not np.isfinite(values).all():
        raise InvalidInput(f"{path} must hold finite numbers, got NaN or infinity; mend the file")
    coils = values.reshape(*values.shape[:3], -1).transpose(3, 2, 1, 0)
    index = voxel_positions(Volume(coils[0].real, affine), maps)
    _check_cover(path, index, np.array(coils.shape[1:]), maps.head.cpu().numpy())
    from scipy.ndimage import map_coordinates

    found = [map_coordinates(coil, index, order=1, mode="nearest") for coil in coils]
    return torch.from_numpy(np.stack(found)).to(torch.complex64)


def _check_cover(path: Path, index: np.ndarray, shape: np.ndarray, head: np.ndarray) -> None:
    size = shape[:, None, None]
    outside = head & ((index < -0.5) | (index > size - 0.5)).any(axis=0)
    if outside.any():
        raise InvalidInput(
            f"coil maps must cover the head, {path} misses {outside.sum()} of {head.sum()} pixels; "
            "check its affine or extend it"
        )
