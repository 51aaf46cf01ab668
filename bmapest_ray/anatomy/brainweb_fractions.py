"""BrainWeb's 0.5 mm models averaged to tissue fractions at 1 mm."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.brainweb_files import CRISP
from bmapest_ray.anatomy.brainweb_formats import ByteVolume, Grid, read_bytes_volume
from bmapest_ray.anatomy.volume import BRAIN_THRESHOLD, normalise
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES

_LABELS = {"GM": (2,), "WM": (3,), "CSF": (1, 8)}
"""Crisp labels of each tissue; blood in vessels counts as CSF."""
_BLUR_VOXELS = 0.5
"""Standard deviation of the blur that gives crisp borders partial volumes, in 0.5 mm voxels."""
_MARGIN_MM = 8.0
"""How far from the brain, summed along the axes, CSF still belongs to the head."""
_EXCESS = 1.05
"""Fuzzy models may sum to this much: each is rescaled to its own 256 levels."""

Planes = Callable[[int], NDArray[np.float32]]
"""Index of an axial plane -> fractions of one tissue on it, shape `(y, x)`."""


def brainweb_fractions(
    files: Mapping[str, Path], grid: Grid
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read the models of one subject and average them over 2 x 2 x 2 voxels.

    Crisp labels are blurred by a Gaussian of 0.5 voxels first. The result is limited to the head
    around GM and WM: the largest connected part of GM + WM > 0.5 and 8 mm (city-block) around it.

    Parameters
    ----------
    files
        File of ``crisp``, or of each fuzzy model.
    grid
        Grid of files without a header.

    Returns
    -------
    fraction, affine
        Shapes `(tissue, z, y, x)`, sum over tissues <= 1, and `(4, 4)`.

    Raises
    ------
    MissingInput, InvalidInput
        As `read_bytes_volume`, and if grids differ, are odd or the models hold no brain.
    """
    crisp = tuple(files) == CRISP
    volumes = {m: read_bytes_volume(path, crisp, grid) for m, path in files.items()}
    grid = _common_grid(volumes, files)
    planes = _crisp_planes(volumes["crisp"]) if crisp else _fuzzy_planes(volumes)
    kernel = np.convolve(_gaussian() if crisp else [1.0], [0.5, 0.5]).astype(np.float32)
    fraction = np.stack([_halved(planes[tissue], grid.shape[0], kernel) for tissue in TISSUES])
    where = str(next(iter(files.values())).parent)
    fraction *= _head(fraction[0] + fraction[1], 2 * min(grid.spacing_mm), where)
    return normalise(_without_excess(fraction, where), where), _affine(grid)


def _common_grid(volumes: Mapping[str, ByteVolume], files: Mapping[str, Path]) -> Grid:
    first = next(iter(volumes.values())).grid
    for model, volume in volumes.items():
        if volume.grid != first or any(n % 2 for n in first.shape):
            raise InvalidInput(
                f"the models of a subject must share one grid of even size, {files[model]} has "
                f"{volume.grid}; fetch them again"
            )
    return first


def _crisp_planes(volume: ByteVolume) -> dict[str, Planes]:
    def of(labels: tuple[int, ...]) -> Planes:
        def plane(index: int) -> NDArray[np.float32]:
            member = np.isin(np.rint(volume.values(index)), labels).astype(np.float32)
            fraction: NDArray[np.float32] = member[volume.levels[index]]
            return fraction

        return plane

    return {tissue: of(labels) for tissue, labels in _LABELS.items()}


def _fuzzy_planes(volumes: Mapping[str, ByteVolume]) -> dict[str, Planes]:
    csf, vessels = volumes["csf"], volumes["ves"]
    background = vessels.commonest_level()  # 1 instead of 0 in BrainWeb's files of vessels

    def fluid(index: int) -> NDArray[np.float32]:
        blood = vessels.plane(index) - vessels.values(index)[background]
        total: NDArray[np.float32] = csf.plane(index) + np.maximum(blood, 0)
        return total

    return {"GM": volumes["gry"].plane, "WM": volumes["wht"].plane, "CSF": fluid}


def _gaussian() -> NDArray[np.float64]:
    radius = int(4 * _BLUR_VOXELS + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _BLUR_VOXELS) ** 2)
    return np.asarray(weights / weights.sum())


def _halved(planes: Planes, count: int, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter and keep every second voxel along all axes, holding one full plane at a time."""
    inside = [_halve(_halve(planes(index), 1, kernel), 0, kernel) for index in range(count)]
    return np.clip(_halve(np.stack(inside), 0, kernel), 0, 1)


def _halve(
    data: NDArray[np.float32], axis: int, kernel: NDArray[np.float32]
) -> NDArray[np.float32]:
    reach = len(kernel) // 2 - 1
    data = np.moveaxis(data, axis, 0)
    count = len(data)
    padded = np.pad(data, [(reach, reach), *[(0, 0)] * (data.ndim - 1)], mode="symmetric")
    out = np.zeros((count // 2, *data.shape[1:]), dtype=np.float32)
    for offset, weight in enumerate(kernel):
        out += weight * padded[offset : offset + count : 2]
    return np.moveaxis(out, 0, axis)


def _head(brain: NDArray[np.float32], spacing_mm: float, where: str) -> NDArray[np.bool_]:
    """Mask the largest part of the brain and what lies within the margin around it."""
    from scipy.ndimage import binary_dilation, label

    parts, count = label(brain > BRAIN_THRESHOLD)
    if count == 0:
        raise InvalidInput(
            f"an anatomy needs voxels with GM + WM > {BRAIN_THRESHOLD}, the files in {where} hold "
            "none; check that they are BrainWeb's models"
        )
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    margin = round(_MARGIN_MM / spacing_mm)
    return np.asarray(binary_dilation(largest, iterations=margin), dtype=np.bool_)


def _without_excess(fraction: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    total = fraction.sum(axis=0)
    highest = float(total.max())
    if highest > _EXCESS:
        raise InvalidInput(
            f"the models of a subject must sum to at most 1, got {highest:g} in {where}; fetch "
            "them again as MINC"
        )
    fraction /= np.maximum(total, 1)
    return fraction


def _affine(grid: Grid) -> NDArray[np.float64]:
    affine = np.diag([*(2 * size for size in grid.spacing_mm), 1.0])
    first = [start + s / 2 for start, s in zip(grid.start_mm, grid.spacing_mm, strict=True)]
    affine[:3, 3] = first
    return affine
