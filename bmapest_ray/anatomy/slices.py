"""Axial slices: where they lie, and their exact area average on a square matrix."""

import math
import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.volume import AnatomyVolume
from bmapest_ray.base.errors import InvalidInput, require_choice

KINDS = ("below-top", "z", "index")
"""Millimetres below the highest brain plane, world z in millimetres, plane index from the feet."""


@dataclass(frozen=True)
class SliceSpec:
    """Which axial plane; the centre in the plane is always that of the brain's 3-D box.

    Raises
    ------
    InvalidInput
        For an unknown kind, or a value that is not finite, negative below the top, or no whole
        index.
    """

    kind: str
    """One of `KINDS`."""
    value: float
    """Millimetres, or a whole number for ``index``."""

    def __post_init__(self) -> None:
        """Check kind and position."""
        require_choice("the kind of a slice", self.kind, KINDS)
        object.__setattr__(self, "value", float(self.value))
        if not math.isfinite(self.value) or (self.kind == "below-top" and self.value < 0):
            raise InvalidInput(
                f"a slice needs a finite position, not above the top, got {self.value} mm"
            )
        if self.kind == "index" and (self.value < 0 or self.value != int(self.value)):
            raise InvalidInput(f"a slice index must be a whole number from 0, got {self.value}")

    @classmethod
    def parse(cls, text: str) -> "SliceSpec":
        """Read ``below-top:75``, ``z:12.5`` or ``index:90``."""
        match = re.fullmatch(r"([a-z-]+):([-+0-9.eE]+)", text.strip())
        try:
            if match is None:
                raise ValueError(text)
            value = float(match[2])
        except ValueError:
            raise InvalidInput(
                f"a slice must read below-top:MM, z:MM or index:N, got '{text}'"
            ) from None
        return cls(match[1], value)

    def __str__(self) -> str:
        """Write what `parse` reads."""
        return f"{self.kind}:{repr(self.value).removesuffix('.0')}"

    def plane(self, volume: AnatomyVolume) -> int:
        """Return the index of the nearest plane of a volume.

        Raises
        ------
        InvalidInput
            If the position lies outside the volume.
        """
        count, spacing = volume.fraction.shape[1], volume.spacing_mm[2]
        if self.kind == "index":
            position = self.value
        elif self.kind == "z":
            position = (self.value - volume.origin_mm[2]) / spacing
        else:
            position = volume.brain_box.last[2] - self.value / spacing
        if not -0.5 <= position <= count - 0.5:
            low, high = volume.origin_mm[2], volume.origin_mm[2] + (count - 1) * spacing
            raise InvalidInput(
                f"slice {self} must lie inside the volume of subject {volume.subject}, which has "
                f"planes 0 to {count - 1} at z = {low:g} to {high:g} mm; choose another slice"
            )
        return int(min(max(math.ceil(position - 0.5), 0), count - 1))


def extract_slice(
    volume: AnatomyVolume, where: SliceSpec, matrix: int = 64, fov_mm: float = 216.0
) -> TissueMaps:
    """Average one axial plane over the pixels of a square matrix.

    Pixel edges end at +-FOV/2 around the midpoint of the brain's box; a pixel is the area-weighted
    mean of the voxels under it, with nothing outside the volume and no renormalisation.

    Parameters
    ----------
    matrix
        Even number of pixels per side.
    fov_mm
        Width of the field of view between outer pixel edges.

    Raises
    ------
    InvalidInput
        If the slice lies outside the volume or holds no tissue.
    """
    plane = where.plane(volume)
    maps = _Grid(volume, matrix, fov_mm).maps(plane)
    if not bool(maps.head.any()):
        raise InvalidInput(
            f"slice {where} of subject {volume.subject} holds no tissue; choose another slice"
        )
    return maps


def extract_volume(
    volume: AnatomyVolume, matrix: int = 64, fov_mm: float = 216.0
) -> list[tuple[float, TissueMaps]]:
    """Average every axial plane that holds tissue, as `extract_slice` does.

    Returns
    -------
    list
        World z in millimetres and maps of each plane, from the feet up.
    """
    grid = _Grid(volume, matrix, fov_mm)
    planes = np.flatnonzero(volume.fraction.any(axis=(0, 2, 3)))
    every = [grid.maps(int(plane)) for plane in planes]
    return [(float(maps.affine[2, 3]), maps) for maps in every if bool(maps.head.any())]


class _Grid:
    """The pixels of every axial slice of one volume, and the weights of the voxels in them."""

    def __init__(self, volume: AnatomyVolume, matrix: int, fov_mm: float) -> None:
        if matrix < 2 or matrix % 2:
            raise InvalidInput(f"matrix must be an even number of at least 2, got {matrix}")
        if not (math.isfinite(fov_mm) and fov_mm > 0):
            raise InvalidInput(f"fov_mm must be positive, got {fov_mm}")
        self.volume, self.matrix, self.pixel_mm = volume, matrix, fov_mm / matrix
        box = volume.brain_box
        middle = [(a + b) / 2 for a, b in zip(box.first, box.last, strict=True)]
        self.centre_mm = [
            o + m * d for o, m, d in zip(volume.origin_mm, middle, volume.spacing_mm, strict=True)
        ]
        self.x, self.y = self._axis(0, 3), self._axis(1, 2)

    def _axis(self, axis: int, array_axis: int) -> "_Axis":
        spacing, count = self.volume.spacing_mm[axis], self.volume.fraction.shape[array_axis]
        first_edge = self.volume.origin_mm[axis] - spacing / 2
        pixels = np.arange(self.matrix + 1, dtype=np.float64) - self.matrix / 2
        edges = (self.centre_mm[axis] - first_edge + pixels * self.pixel_mm) / spacing
        return _Axis(edges, count)

    def maps(self, plane: int) -> TissueMaps:
        """Return the averaged fractions and corner labels of one plane."""
        voxels = self.volume.fraction[:, plane].astype(np.float64)
        fraction = self.y.weights @ voxels @ self.x.weights.T
        return TissueMaps(
            fraction=torch.from_numpy(fraction).to(torch.float32),
            affine=self._affine(plane),
            subject=self.volume.subject,
            source=self.volume.source,
            corner_labels=torch.from_numpy(self._corner_labels(voxels)),
        )

    def _affine(self, plane: int) -> NDArray[np.float64]:
        spacing = self.volume.spacing_mm[2]
        affine = np.diag([self.pixel_mm, self.pixel_mm, spacing, 1.0])
        first = (0.5 - self.matrix / 2) * self.pixel_mm
        affine[:2, 3] = self.centre_mm[0] + first, self.centre_mm[1] + first
        affine[2, 3] = self.volume.origin_mm[2] + plane * spacing
        return affine

    def _corner_labels(self, voxels: NDArray[np.float64]) -> NDArray[np.int64]:
        background = 1 - voxels.sum(axis=0, keepdims=True)
        labels = np.concatenate([background, voxels]).argmax(axis=0)
        inside = np.outer(self.y.inside, self.x.inside)
        return np.where(inside, labels[np.ix_(self.y.corner, self.x.corner)], 0)


class _Axis:
    """Pixels over the voxels of one axis, with edges in voxels from the volume's first edge."""

    def __init__(self, edges: NDArray[np.float64], count: int) -> None:
        low, high = edges[:-1, None], edges[1:, None]
        voxel = np.arange(count)
        overlap = np.minimum(high, voxel + 1) - np.maximum(low, voxel)
        self.weights = np.clip(overlap, 0, None) / (high - low)
        corner = np.floor(edges[:-1] + 1e-9).astype(np.int64)  # an edge on a border is that border
        self.inside = (corner >= 0) & (corner < count)
        self.corner = corner.clip(0, count - 1)
