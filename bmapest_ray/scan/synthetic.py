"""A scan whose truth is known: a volume played slice by slice, then what a scanner does to it.

The images hold the point spread of the readouts, B0 and B1 as the package simulates them; on top
come the sensitivity of a receive coil beside the head, an unknown scale, and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.volume import AnatomyVolume
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.scan.images import Scan
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.cache import FactorCache
from bmapest_ray.simulate.factory import build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.noise import add_noise, sigma_from_snr
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import make_fields
from bmapest_ray.tissue.table import TissueTable

_MULTIPLE = 32
_COIL_AWAY, _COIL_REACH = 2.0, 2.0
_SCALES = (300.0, 3000.0)
_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class KnownScan:
    """A scan with what made it.

    Parameters
    ----------
    scan
        Magnitude images.
    truth
        Fractions, `(tissue, z, y, x)`.
    bias
        Sensitivity of the coil of every image, `(contrast, z, y, x)`, median 1 in the head.
    scale
        Of every image, `(contrast,)`.
    sigma
        Standard deviation of the noise of every image, `(contrast,)`.
    """

    scan: Scan
    truth: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: NDArray[np.float64]
    sigma: NDArray[np.float64]


def padded_planes(volume: AnatomyVolume, first: int, last: int) -> list[TissueMaps]:
    """Return planes of a volume in a square with an even side that sequences can play.

    Voxels keep their places; nothing is interpolated.

    Raises
    ------
    InvalidInput
        If the voxels are not square.
    """
    dx, dy, _ = volume.spacing_mm
    if abs(dx - dy) > 1e-6:
        raise InvalidInput(f"a scan needs square voxels, got {dx:g} x {dy:g} mm; resample them")
    size_y, size_x = volume.fraction.shape[2:]
    side = -(-max(size_y, size_x) // _MULTIPLE) * _MULTIPLE
    before = [(side - size_y) // 2, (side - size_x) // 2]
    widths = [
        (0, 0),
        (before[0], side - size_y - before[0]),
        (before[1], side - size_x - before[1]),
    ]
    affine = volume.affine.copy()
    affine[:2, 3] -= dx * before[1], dy * before[0]
    maps = []
    for plane in range(first, last):
        here = affine.copy()
        here[2, 3] += plane * volume.spacing_mm[2]
        fraction = torch.from_numpy(np.pad(volume.fraction[:, plane], widths).astype(np.float32))
        maps.append(TissueMaps(fraction, here, volume.subject, volume.source))
    return maps


def clean_images(
    planes: list[TissueMaps], protocol: str, table: TissueTable, cache: FactorCache
) -> NDArray[np.complex64]:
    """Play a protocol on planes with analytic fields; its first images, `(z, y, x)`.

    They are in units of the signal of a voxel, as a scan's scale counts them.
    """
    matrix, fov_m = planes[0].matrix, float(planes[0].fov_mm) * 1e-3
    fields = make_fields("analytic", "analytic", planes[0])
    scene = Scene(parse_protocol(protocol), VoxelGrid(matrix, fov_m), fields, table)
    operator = build_operator(scene, cache=cache).operator
    fraction = torch.stack([maps.fraction for maps in planes])
    parts = [operator.forward(part)[:, 0] for part in torch.split(fraction, _AT_ONCE)]
    images: NDArray[np.complex64] = (torch.cat(parts) / matrix).numpy()
    return images


def coil_beside(shape: tuple[int, int, int], *keys: str) -> NDArray[np.float32]:
    """Return the sensitivity of a coil beside the head, in a direction drawn for `keys`.

    It falls as ``1 / (1 + d^2 / reach^2)`` with the distance in half widths of the volume: about
    20 % up and down across a head, and no polynomial.
    """
    direction = torch.randn(3, generator=generator("coil", *keys)).numpy()
    centre = _COIL_AWAY * direction / np.linalg.norm(direction)
    longest = max(shape)
    axes = [
        ((np.arange(n) + 0.5) - n / 2) / (longest / 2) - c
        for n, c in zip(shape, centre, strict=True)
    ]
    square = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2
    sensitivity: NDArray[np.float32] = (1 / (1 + square / _COIL_REACH**2)).astype(np.float32)
    return sensitivity


def known_scan(
    clean: list[NDArray[np.complex64]],
    truth: NDArray[np.float32],
    affine: NDArray[np.float64],
    snr: float,
    *keys: str,
) -> KnownScan:
    """Put coil, scale and noise on clean images `(z, y, x)`, all drawn for `keys`.

    Parameters
    ----------
    truth
        Fractions on the same grid, `(tissue, z, y, x)`.
    snr
        Largest magnitude of an image over the noise.
    """
    head = truth.sum(0) > 0.5
    images, biases, scales, sigmas = [], [], [], []
    low, high = (float(np.log(end)) for end in _SCALES)
    for number, image in enumerate(clean):
        name = (*keys, str(number))
        bias = coil_beside(image.shape, *name)
        bias /= np.median(bias[head])
        drawn = torch.rand(1, generator=generator("scale", *name))
        scale = float(np.exp(low + (high - low) * float(drawn)))
        shown = torch.from_numpy(image * bias * np.float32(scale))
        sigma = sigma_from_snr(shown, snr)
        noisy = add_noise(shown[:, None], torch.tensor([sigma]), generator("scan-noise", *name))
        images.append(noisy[:, 0].abs().numpy().astype(np.float32))
        biases.append(bias)
        scales.append(scale)
        sigmas.append(sigma)
    scan = Scan(np.stack(images), affine, np.ones(truth.shape[1:], dtype=bool))
    return KnownScan(scan, truth, np.stack(biases), np.array(scales), np.array(sigmas))
