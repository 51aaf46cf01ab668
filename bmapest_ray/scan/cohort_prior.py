"""What a cohort says about every voxel of a scan: mean and covariance of the fractions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.anatomy.catalog import Anatomy
from bmapest_ray.anatomy.nifti import Volume
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.scan.components import Components
from bmapest_ray.scan.images import onto_grid

FLOOR = 0.7
"""Standard deviation that is always allowed: subjects differ more than a few of them show, and are
aligned to a voxel or two, less than the width of a gyrus."""


@dataclass(frozen=True, eq=False)
class VolumeCohort:
    """Mean and covariance of a cohort on the grid of a scan.

    Parameters
    ----------
    mean
        Shape `(tissue, z, y, x)`, float32.
    covariance
        Shape `(tissue, tissue, z, y, x)`, float32.
    subjects
        Who is in it.
    """

    mean: NDArray[np.float32]
    covariance: NDArray[np.float32]
    subjects: tuple[str, ...]


def cohort_on_grid(
    anatomy: Anatomy,
    subjects: Sequence[str],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    told: Callable[[int, int], None] | None = None,
) -> VolumeCohort:
    """Interpolate the maps of subjects to a grid, by world coordinates, one after the other.

    Parameters
    ----------
    affine
        Of the grid: index `(x, y, z)` to the world of the cohort in millimetres.
    told
        Called with how many of how many subjects are done.

    Raises
    ------
    InvalidInput
        If there are fewer than two subjects.
    """
    if len(subjects) < 2:
        raise InvalidInput(f"a cohort needs at least 2 subjects, got {len(subjects)}; add some")
    total = np.zeros((3, *shape), dtype=np.float32)
    products = np.zeros((3, 3, *shape), dtype=np.float32)
    for number, subject in enumerate(subjects):
        volume = anatomy.volume(subject)
        here = np.stack(
            [
                onto_grid(_averaged(f, volume.affine, affine), shape, affine)[0]
                for f in volume.fraction
            ]
        )
        total += here
        for i in range(3):
            for j in range(i + 1):
                products[i, j] += here[i] * here[j]
        if told is not None:
            told(number + 1, len(subjects))
    count = len(subjects)
    mean: NDArray[np.float32] = total / np.float32(count)
    for i in range(3):
        for j in range(i + 1):
            products[i, j] = (products[i, j] - count * mean[i] * mean[j]) / (count - 1)
            products[j, i] = products[i, j]
    return VolumeCohort(mean, products, tuple(subjects))


def _averaged(
    fraction: NDArray[np.float32], affine: NDArray[np.float64], wanted: NDArray[np.float64]
) -> Volume:
    """Average over the voxels of a coarser grid, so that interpolation takes all of them."""
    own, theirs = (np.linalg.norm(a[:3, :3], axis=0)[::-1] for a in (affine, wanted))
    sizes = np.maximum(np.round(theirs / own), 1).astype(int)
    if (sizes > 1).any():
        from scipy.ndimage import uniform_filter

        fraction = uniform_filter(fraction, tuple(sizes.tolist()), mode="constant")
    return Volume(fraction, affine)


@dataclass(frozen=True, eq=False)
class SpatialPrior:
    """Gaussian of the fractions of every voxel, in the form that components need.

    Parameters
    ----------
    precision
        Shape `(voxel, tissue, tissue)`.
    pull
        Precision times mean, `(voxel, tissue)`.
    other
        Prior probability that a voxel is something else, `(voxel,)`.
    """

    precision: Tensor
    pull: Tensor
    other: Tensor

    def log_prior(self, index: slice | Tensor, parts: Components) -> Tensor:
        """Return the log prior of components by place, up to a constant, `(voxel, component)`."""
        points = parts.points
        products = (points[:, :, None] * points[:, None, :]).flatten(1)
        quadratic = self.precision[index].flatten(1) @ products.T
        return self.pull[index] @ points.T - 0.5 * quadratic


def spatial_prior(
    cohort: VolumeCohort | None, mask: NDArray[np.bool_], floor: float = FLOOR
) -> SpatialPrior:
    """Return the prior of the voxels of a mask; without a cohort every place is alike."""
    count = int(mask.sum())
    if cohort is None:
        flat = torch.zeros(count, 3)
        return SpatialPrior(torch.zeros(count, 3, 3), flat, torch.full((count,), _OTHER))
    mean = torch.from_numpy(np.ascontiguousarray(cohort.mean[:, mask].T))
    covariance = torch.from_numpy(np.ascontiguousarray(cohort.covariance[:, :, mask].T))
    precision = torch.linalg.inv(covariance + floor**2 * torch.eye(3))
    outside = (1 - mean.sum(1)).clamp(0, 1)
    return SpatialPrior(
        precision, (precision @ mean[:, :, None])[:, :, 0], _OTHER + _OTHER_OUTSIDE * outside
    )


_OTHER = 0.005
_OTHER_OUTSIDE = 0.2
