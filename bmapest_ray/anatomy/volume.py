"""Tissue fractions of a whole head, in RAS order."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.maps import subject_name
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES

BRAIN_THRESHOLD = 0.5
"""GM + WM from which a voxel belongs to the brain mask that places slices."""

_OFF_AXIS = 1e-3
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class VoxelBox:
    """First and last voxel index of a 3-D box along x, y and z (both inside)."""

    first: tuple[int, int, int]
    last: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class AnatomyVolume:
    """Fractions of GM, WM and CSF of a head on a grid along the world axes.

    Raises
    ------
    InvalidInput
        If the shape is wrong or the grid is not along +R, +A, +S.
    """

    fraction: NDArray[np.float32]
    """Shape `(tissue, z, y, x)`, in [0, 1], sum over tissues <= 1."""
    affine: NDArray[np.float64]
    """Shape `(4, 4)`: voxel index `(x, y, z)` to RAS world millimetres of the voxel's centre."""
    subject: str
    """Name without ``sub-``."""
    source: str
    """Where the anatomy comes from."""

    def __post_init__(self) -> None:
        """Unify the name and check shape and axes."""
        object.__setattr__(self, "subject", subject_name(self.subject))
        if self.fraction.ndim != 4 or self.fraction.shape[0] != len(TISSUES):
            raise InvalidInput(
                f"an anatomy must have the shape (3, z, y, x), got {self.fraction.shape}"
            )
        check_axes(self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along x, y, z in millimetres."""
        dx, dy, dz = np.diag(self.affine)[:3]
        return float(dx), float(dy), float(dz)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """World position of the centre of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @cached_property
    def brain_box(self) -> VoxelBox:
        """Box around the voxels with GM + WM >= 0.5.

        Raises
        ------
        InvalidInput
            If no voxel reaches that.
        """
        mask = self.fraction[0] + self.fraction[1] >= BRAIN_THRESHOLD
        plane = mask.any(axis=0)
        along = (plane.any(axis=0), plane.any(axis=1), mask.any(axis=(1, 2)))
        hits = [np.flatnonzero(a) for a in along]
        if any(h.size == 0 for h in hits):
            raise InvalidInput(
                f"placing a slice needs voxels with GM + WM >= {BRAIN_THRESHOLD}, "
                f"subject {self.subject} of {self.source} has none; check its maps"
            )
        ranges = [(int(h[0]), int(h[-1])) for h in hits]
        (x0, x1), (y0, y1), (z0, z1) = ranges
        return VoxelBox((x0, y0, z0), (x1, y1, z1))


def check_axes(affine: NDArray[np.float64]) -> None:
    """Check that voxel axes run along +R, +A and +S.

    Deviations below 0.1 % of the voxel size are rounding of the file and are ignored.

    Raises
    ------
    InvalidInput
        If the grid is oblique or flipped.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InvalidInput(f"the affine must be a finite 4 x 4 matrix, got {affine.tolist()}")
    axes = affine[:3, :3]
    sizes = np.diag(axes)
    off_axis = np.abs(axes - np.diag(sizes)).max()
    if sizes.min() <= 0 or off_axis > _OFF_AXIS * sizes.min():
        raise InvalidInput(
            "voxel axes must run along the world axes (at most 0.1 % off), got the affine "
            f"{np.round(affine, 4).tolist()}; resample oblique maps to a straight grid first"
        )


def normalise(fraction: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """Clip rounding out of fractions of shape `(tissue, z, y, x)`, in place.

    Values are clipped to [0, 1]; where tissues sum to more than 1 by rounding (at most 1 %, three
    8-bit maps reach 0.6 %), they are scaled to sum 1.

    Raises
    ------
    InvalidInput
        If tissues sum to more than 1.01 anywhere.
    """
    np.clip(fraction, 0, 1, out=fraction)
    total = fraction[0] + fraction[1]
    total += fraction[2]
    highest = float(total.max())
    if highest > 1 + _SUM_TOLERANCE:
        raise InvalidInput(
            f"tissue fractions must sum to at most 1 per voxel, got {highest:g} in {where}; "
            "divide the maps by their sum"
        )
    if highest > 1:
        fraction /= np.maximum(total, 1, out=total)
    return fraction
