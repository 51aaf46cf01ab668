"""What an operator says about the signal of each tissue, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.baselines.baseline import Images
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

_COVERED = 0.9
"""Mean tissue of the cohort from which a voxel counts as head, however dark it is."""
_DARKEST_GAIN = 1e-3


def tissue_signals(
    operator: ForwardModel, tissues: int, matrix: int, device: torch.device
) -> NDArray[np.complex128]:
    """Return the signal of a voxel amid pure tissue, for every channel, tissue and voxel.

    Each tissue is simulated alone and everywhere, so B0, B1 and coils are in it, and the point
    spread matters only as far as the fields vary within it.

    Returns
    -------
    NDArray
        Shape `(channel, tissue, y, x)`, complex.
    """
    eye = torch.eye(tissues, device=device)
    pure = eye[:, :, None, None].expand(tissues, tissues, matrix, matrix).contiguous()
    images = operator.forward(pure).detach().cpu().numpy()
    return np.ascontiguousarray(images.swapaxes(0, 1), dtype=np.complex128)


def head_mask(magnitude: Images, cohort: Tensor, background: float) -> NDArray[np.bool_]:
    """Return which voxels are head, shape `(y, x)`.

    Those whose signal, root of the sum of squares over images, exceeds `background` times its 99th
    percentile, and those that are tissue in nearly all of the cohort.
    """
    strength = np.sqrt((magnitude**2).sum(axis=0))
    bright = strength > background * np.percentile(strength, 99)
    covered = cohort.mean(0).sum(0).cpu().numpy() > _COVERED
    return np.asarray(bright | covered)


@dataclass(frozen=True, eq=False)
class Features:
    """Images prepared for clustering: coils combined, known shading divided out."""

    images: Images
    """Shape `(image, y, x)`; the brightest tissue signal is 1."""
    prototypes: NDArray[np.float64]
    """Shape `(tissue, image)`: what pure tissue looks like."""
    inside: NDArray[np.bool_]
    """Shape `(y, x)`: the head."""

    @property
    def values(self) -> NDArray[np.float64]:
        """Features of the voxels in the head, shape `(voxel, image)`."""
        return np.ascontiguousarray(self.images[:, self.inside].T)


def make_features(
    measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor, background: float
) -> Features:
    """Prepare images for clustering.

    Coils are combined by the root of the sum of squares. The shading of an image, the mean of its
    tissue signals relative to its mean over the head, follows from the known B0, B1 and coils.

    Raises
    ------
    InvalidInput
        If no voxel is head.
    """
    names = [channel.image for channel in operator.channels]
    tissues, matrix = cohort.shape[1], measurement.images.shape[-1]
    signals = tissue_signals(operator, tissues, matrix, measurement.images.device)
    known = _combine_coils(np.abs(signals), names)
    seen = np.abs(measurement.images.detach().cpu().numpy()).astype(np.float64)
    magnitude = _combine_coils(seen, names)
    inside = head_mask(magnitude, cohort, background)
    if not inside.any():
        raise InvalidInput("images and cohort hold no head; check that the images are not empty")
    shading = known.mean(axis=1)
    shading /= shading[:, inside].mean(axis=1)[:, None, None]
    shading = np.maximum(shading, _DARKEST_GAIN)
    prototypes = (known / shading[:, None])[:, :, inside].mean(axis=-1).T
    scale = prototypes.max()
    return Features(magnitude / shading / scale, prototypes / scale, inside)


def _combine_coils(data: Images, names: list[str]) -> Images:
    """Combine channels of one image, shape `(channel, ...)` to `(image, ...)`."""
    unique = dict.fromkeys(names)
    which = np.array(names)
    return np.stack([np.sqrt((data[which == name] ** 2).sum(axis=0)) for name in unique])
