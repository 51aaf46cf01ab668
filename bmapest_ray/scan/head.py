"""The voxels of a head that are fitted: where they are, what they show, what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.scan.cohort_prior import SpatialPrior, VolumeCohort
from bmapest_ray.scan.components import Components
from bmapest_ray.scan.images import Scan
from bmapest_ray.scan.voxels import Voxels

_STRIPPED = 0.25
_TISSUE = 0.02
_MARGIN = 2
_SMALLEST_HEAD = 100


@dataclass(frozen=True, eq=False)
class Head:
    """Voxels inside a mask, in the order of the mask.

    Parameters
    ----------
    mask
        Shape `(z, y, x)`.
    intensity
        Shape `(voxel, contrast)`, without the mean that noise adds; may be negative where the
        phase is known.
    b1
        Given B1, `(voxel,)`.
    prior
        Of the fractions.
    """

    mask: NDArray[np.bool_]
    intensity: Tensor
    b1: Tensor
    prior: SpatialPrior

    def __len__(self) -> int:
        """Return the number of voxels."""
        return len(self.intensity)

    def where(self, index: slice | Tensor) -> Tensor:
        """Return coordinates in [-1, 1] along x, y, z over the box of the mask, `(voxel, 3)`."""
        place = torch.from_numpy(self._places()[index]).float()
        low, high = self._box()
        return 2 * (place - low) / (high - low).clamp_min(1) - 1

    def voxels(
        self,
        index: slice | Tensor,
        parts: Components,
        neighbours: Tensor | None = None,
        coupling: float = 0.0,
    ) -> Voxels:
        """Return voxels ready for a fit.

        Parameters
        ----------
        neighbours
            Mean fractions of the neighbours of these voxels, `(voxel, tissue)`.
        coupling
            Of the Markov random field: the prior is multiplied by
            ``exp(-coupling / 2 |p - neighbours|^2)``.
        """
        log_prior = self.prior.log_prior(index, parts)
        if neighbours is not None and coupling > 0:
            square = parts.points.square().sum(1)
            log_prior = log_prior + coupling * (neighbours @ parts.points.T - 0.5 * square)
        log_other = self.prior.other[index].log() - self._log_range
        return Voxels(
            self.intensity[index], self.where(index), self.b1[index], log_prior, log_other
        )

    @property
    def _log_range(self) -> float:
        both = torch.where(self.intensity.amin(0) < 0, 2.0, 1.0)  # signs double the range
        return float((both * self.intensity.abs().amax(0)).log().sum())

    def _places(self) -> NDArray[np.int32]:
        if not hasattr(self, "_kept"):
            z, y, x = np.nonzero(self.mask)
            object.__setattr__(self, "_kept", np.stack([x, y, z], 1).astype(np.int32))
        return self._kept  # type: ignore[attr-defined, no-any-return]

    def _box(self) -> tuple[Tensor, Tensor]:
        places = self._places()
        return tuple(torch.from_numpy(end).float() for end in (places.min(0), places.max(0)))  # type: ignore[return-value]


def head_mask(scan: Scan, cohort: VolumeCohort | None) -> NDArray[np.bool_]:
    """Return which voxels to fit where no mask is given.

    A skull-stripped image is zero around the brain: what is not zero is fitted. Otherwise the
    voxels where the cohort has tissue, and a margin; without a cohort, what is brighter than
    air by Otsu's threshold.

    Raises
    ------
    InvalidInput
        If hardly anything is left.
    """
    from scipy.ndimage import binary_dilation, binary_fill_holes

    bright = scan.images.min(0) > 0
    if (~bright).mean() > _STRIPPED:
        mask = bright
    elif cohort is not None:
        mask = binary_dilation(cohort.mean.sum(0) > _TISSUE, iterations=_MARGIN)
    else:
        mask = binary_fill_holes(scan.images[0] > 0.5 * otsu(scan.images[0]))
    mask = np.asarray(mask & scan.covered, dtype=bool)
    if mask.sum() < _SMALLEST_HEAD:
        raise InvalidInput(
            f"a head needs at least {_SMALLEST_HEAD} voxels, found {int(mask.sum())}; check that "
            "image and cohort lie in one space, or give --mask"
        )
    return mask


def otsu(values: NDArray[np.float32], bins: int = 256) -> float:
    """Return the threshold that splits values into two classes most apart (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    low, high = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * (high - low) ** 2)])


def neighbour_mean(fraction: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mean of the six neighbours of every voxel of a mask, `(voxel, tissue)`.

    Parameters
    ----------
    fraction
        Shape `(tissue, z, y, x)`, zero outside the mask.
    """
    padded = np.pad(fraction, [(0, 0), (1, 1), (1, 1), (1, 1)], mode="edge")
    z, y, x = fraction.shape[1:]
    total = np.zeros_like(fraction)
    for axis, size in enumerate((z, y, x), start=1):
        for start in (0, 2):
            cut = [slice(None), slice(1, z + 1), slice(1, y + 1), slice(1, x + 1)]
            cut[axis] = slice(start, start + size)
            total += padded[tuple(cut)]
    return np.ascontiguousarray(total[:, mask].T) / np.float32(6)
