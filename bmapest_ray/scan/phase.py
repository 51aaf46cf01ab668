"""Phase of measured images: read, and taken out where it is smooth, so that signs are left.

Coil and B0 turn a complex image by a smooth phase, tissue whose signal is negative by half a turn
more. Squared, a voxel has no sign: its phase is twice the smooth one. That is fitted by polynomials
to the steps between neighbours (no unwrapping), then followed by a wide Gaussian.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bmapest_ray.anatomy.nifti import Volume, load_volume
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.scan.nuisances import polynomials

_SCANNER = 4096
_FEWEST_UNITS = 512
_SLACK = 0.01
_DEGREE = 3
_PAIRS = 20_000
_BRIGHT = 0.3
_WIDTH_MM = 6.0
_LARGEST_QUADRATURE = 0.35
_SAME_GRID = 1e-3


def read_phase(path: Path, magnitude: Volume) -> tuple[NDArray[np.float32], str]:
    """Read the phase of an image.

    Parameters
    ----------
    magnitude
        The image's magnitude.

    Returns
    -------
    phase, unit
        In radians, on the grid of the magnitude; what the file's numbers were taken for.

    Raises
    ------
    MissingInput, InvalidInput
        If the file is missing or broken, lies on another grid, is constant or in no known unit.
    """
    volume = load_volume(path)
    same = volume.data.shape == magnitude.data.shape
    if not same or not np.allclose(volume.affine, magnitude.affine, atol=_SAME_GRID):
        raise InvalidInput(
            f"the phase {path} must lie on the grid of its magnitude, it does not; export both "
            "from one series"
        )
    low, high = float(volume.data.min()), float(volume.data.max())
    if low == high:
        raise InvalidInput(f"the phase {path} must vary, all its voxels are {low:g}; check it")
    turn = 2 * np.pi + _SLACK
    if max(-low, high) <= turn / 2 or (low >= 0 and high <= turn):
        return volume.data, "radians"
    whole = bool((np.abs(volume.data - np.round(volume.data)) < _SLACK).all())
    if whole and max(-low, high) <= _SCANNER and high - low >= _FEWEST_UNITS:
        first = 0 if low >= 0 else -_SCANNER
        unit = np.float32(2 * np.pi / (_SCANNER - first))
        return volume.data * unit, f"scanner units ({first} to {_SCANNER} is one turn)"
    raise InvalidInput(
        f"the phase {path} must be in radians or in scanner units (-4096 to 4096 or 0 to 4096), "
        f"got {low:g} to {high:g}; convert it"
    )


def real_part(
    image: NDArray[np.complex64], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], float]:
    """Take the smooth phase out of an image `(z, y, x)`.

    Returns
    -------
    real, quadrature
        What is left along the smooth phase, up to one sign of the whole image, and the rms of what
        is across it relative to the rms of all, in the bright voxels.
    """
    turned = image * np.exp(-1j * smooth_phase(image, affine)).astype(np.complex64)
    size = np.abs(turned)
    bright = _bright(size)
    share = np.sqrt(np.mean(turned.imag[bright] ** 2) / np.mean(size[bright] ** 2))
    return np.ascontiguousarray(turned.real), float(share)


def _bright(size: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where an image of such magnitudes has signal."""
    found: NDArray[np.bool_] = size > _BRIGHT * np.quantile(size[size > 0], 0.95)
    return found


def is_smooth(quadrature: float) -> bool:
    """Say whether what is across the smooth phase may be noise; 0.71 is a phase without meaning."""
    return quadrature < _LARGEST_QUADRATURE


def smooth_phase(image: NDArray[np.complex64], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the smooth phase of an image `(z, y, x)` of either sign, up to half a turn."""
    from scipy.ndimage import gaussian_filter

    double = np.where(image == 0, 0, image**2 / np.maximum(np.abs(image), 1e-30))
    trend = _trend(double.astype(np.complex64))
    left = double * np.exp(-1j * trend)
    turn = np.angle(left.sum())
    trend += turn
    left *= np.exp(-1j * turn)
    sigma = [_WIDTH_MM / size for size in np.linalg.norm(affine[:3, :3], axis=0)[::-1]]
    phase: NDArray[np.float32] = (trend + np.angle(gaussian_filter(left, sigma))) / 2
    return phase.astype(np.float32)


def _trend(double: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Fit polynomials to the phase steps between bright neighbours; constant left out."""
    shape = double.shape
    rows, steps, weights = [], [], []
    for axis in (a for a in range(3) if shape[a] > 1):
        near, far = _chosen_pairs(double, axis)
        if not len(near):
            continue
        rows.append(_terms(far, shape) - _terms(near, shape))
        pair = double[tuple(far.T)] * double[tuple(near.T)].conj()
        steps.append(np.angle(pair))
        weights.append(np.sqrt(np.abs(pair)))
    if not rows:
        return np.zeros(shape, dtype=np.float32)
    weight = np.concatenate(weights)
    design, wanted = np.concatenate(rows) * weight[:, None], np.concatenate(steps) * weight
    found = np.linalg.lstsq(design, wanted, rcond=1e-6)[0]
    out = np.empty(shape, dtype=np.float32)
    for z in range(shape[0]):  # slice by slice to bound memory
        place = np.argwhere(np.ones(shape[1:], dtype=bool))
        place = np.concatenate([np.full((len(place), 1), z), place], 1)
        out[z] = (_terms(place, shape) @ found).reshape(shape[1:])
    return out


def _chosen_pairs(
    double: NDArray[np.complex64], axis: int
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return some bright voxels and their next neighbours along an axis, `(pair, 3)`."""
    bright = _bright(np.abs(double))
    bright &= np.roll(bright, -1, axis)
    last = [slice(None)] * 3
    last[axis] = slice(-1, None)
    bright[tuple(last)] = False
    near = np.argwhere(bright)
    order = torch.randperm(len(near), generator=generator("phase", str(axis)))[:_PAIRS].numpy()
    near = near[order]
    return near, near + np.eye(3, dtype=int)[axis]


def _terms(place: NDArray[np.int_], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return polynomials at voxels `(voxel, zyx)`, the constant left out."""
    size = np.maximum(np.array(shape) - 1, 1)
    where = torch.from_numpy((2 * place / size - 1)[:, ::-1].copy())
    return np.asarray(polynomials(where, _DEGREE)[:, 1:].numpy(), dtype=np.float64)
