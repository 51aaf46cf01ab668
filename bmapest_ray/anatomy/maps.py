"""Tissue fractions of one axial slice."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES

TOLERANCE = 1e-3
"""How far stored fractions may leave [0, 1], and their sum may exceed 1, by rounding."""


def subject_name(subject: str) -> str:
    """Return the bare name of a subject: ``"42"`` for both ``"42"`` and ``"sub-42"``."""
    return subject.removeprefix("sub-")


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """Fractions of grey matter, white matter and cerebrospinal fluid on a square slice.

    Raises
    ------
    InvalidInput
        If a shape, a range or a sum breaks the rules stated per field.
    """

    fraction: Tensor
    """Shape `(tissue, y, x)`, float32 in [0, 1], sum over tissues <= 1; the rest is background."""
    affine: np.ndarray
    """Shape `(4, 4)`: pixel index `(x, y, 0)` to RAS world millimetres of the pixel's centre."""
    subject: str
    """Name without ``sub-``."""
    source: str
    """Where the anatomy comes from, in words or as an anatomy spec."""
    corner_labels: Tensor | None = None
    """Shape `(y, x)`, int64: 0 background, 1 GM, 2 WM, 3 CSF of the original voxel at each pixel's
    corner of lowest x and y: what `dice_paper` calls the truth."""

    def __post_init__(self) -> None:
        """Unify name and number types, then check every rule."""
        object.__setattr__(self, "subject", subject_name(self.subject))
        object.__setattr__(self, "fraction", self.fraction.to(torch.float32))
        object.__setattr__(self, "affine", np.array(self.affine, dtype=np.float64))
        _check_fraction(self.fraction)
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise InvalidInput(f"the affine must be a finite 4 x 4 matrix, got {self.affine}")
        labels = self.corner_labels
        if labels is not None and labels.shape != self.fraction.shape[1:]:
            raise InvalidInput(
                f"corner_labels must have the shape of the slice {tuple(self.fraction.shape[1:])}, "
                f"got {tuple(labels.shape)}"
            )

    @property
    def matrix(self) -> int:
        """Number of pixels along x and along y."""
        return int(self.fraction.shape[-1])

    @property
    def fov_mm(self) -> float:
        """Width of the field of view between its outer pixel edges, in millimetres."""
        return float(np.linalg.norm(self.affine[:3, 0])) * self.matrix

    @property
    def head(self) -> Tensor:
        """Shape `(y, x)`, bool: where there is any tissue."""
        return self.fraction.sum(0) > 0

    @cached_property
    def digest(self) -> str:
        """Content digest: fractions, affine and corner labels, not the names."""
        return digest([self.fraction, self.affine, self.corner_labels])


def _check_fraction(fraction: Tensor) -> None:
    shape = tuple(fraction.shape)
    if len(shape) != 3 or shape[0] != len(TISSUES) or shape[1] != shape[2]:
        raise InvalidInput(f"tissue maps must have the shape (3, N, N), got {shape}")
    if not bool(torch.isfinite(fraction).all()):
        raise InvalidInput("tissue fractions must be finite, got NaN or infinity")
    low, high = float(fraction.min()), float(fraction.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise InvalidInput(
            f"tissue fractions must lie in [0, 1], got [{low:g}, {high:g}]; rescale the maps"
        )
    total = float(fraction.sum(0).max())
    if total > 1 + TOLERANCE:
        raise InvalidInput(
            f"tissue fractions must sum to at most 1 per pixel, got {total:g}; normalise the maps"
        )
