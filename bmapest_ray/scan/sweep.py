"""Posterior maps of a whole head, block by block: what one block needs and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.scan.components import Components
from bmapest_ray.scan.nuisances import SignalModel
from bmapest_ray.scan.voxels import NoiseLevel, Voxels, moments_of

_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Fitted:
    """What all blocks share.

    Parameters
    ----------
    model, vector, level, parts
        Signal model, nuisances, noise and mixtures.
    """

    model: SignalModel
    vector: Tensor
    level: NoiseLevel
    parts: Components


@dataclass(frozen=True, eq=False)
class BlockMaps:
    """Posterior of the voxels of one block.

    Parameters
    ----------
    mean, deviation
        Fractions and their standard deviations, `(voxel, tissue)`; something else counts as none.
    other
        Probability of something else, `(voxel,)`.
    residual
        Intensity minus that of the mean, `(voxel, contrast)`.
    slope
        Sum over voxels of the derivative of the mean along every nuisance, `(tissue, parameter)`.
    variance
        Sum over voxels of the variance of every tissue, `(tissue,)`.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    other: NDArray[np.float32]
    residual: NDArray[np.float32]
    slope: NDArray[np.float64]
    variance: NDArray[np.float64]


def block_maps(voxels: Voxels, fitted: Fitted) -> BlockMaps:
    """Return the posterior maps of a block."""
    pieces = [_piece(chunk, fitted) for chunk in voxels.blocks(_CHUNK)]
    return BlockMaps(
        *(np.concatenate([getattr(p, name) for p in pieces]) for name in _MAPS),
        *(sum(getattr(p, name) for p in pieces) for name in _SUMS),
    )


_MAPS = ("mean", "deviation", "other", "residual")
_SUMS = ("slope", "variance")


def work(payload: tuple[Voxels, Fitted], state: dict[str, Any]) -> BlockMaps:  # noqa: ARG001
    """Run one block in a worker; the form that runners call."""
    return block_maps(*payload)


def _piece(voxels: Voxels, fitted: Fitted) -> BlockMaps:
    found = moments_of(voxels, fitted.model, fitted.vector, fitted.level, fitted.parts)
    keep = 1 - found.other
    mean = found.mean.clamp(0, 1)
    mean = mean / mean.sum(1, keepdim=True).clamp_min(1) * keep[:, None]
    inside = found.covariance
    spread = keep[:, None] * inside.diagonal(dim1=1, dim2=2)
    spread = spread + (keep * found.other)[:, None] * found.mean.square()
    signals = fitted.model.signals(fitted.vector, voxels.where, voxels.b1)
    variance = fitted.level.variance(voxels.intensity)
    slope = torch.zeros(mean.shape[1], fitted.model.layout.total, dtype=torch.float64)
    for c in range(voxels.intensity.shape[1]):
        # how the mean follows an intensity is the covariance over the noise (Tweedie)
        follow = (inside @ signals.value[:, c, :, None])[:, :, 0] * (keep / variance[:, c])[:, None]
        change = (signals.derivative(c) * found.mean[:, None]).sum(2)
        slope -= (follow.T @ change).double()
    shown = fitted.model.seen((signals.value @ found.mean[:, :, None])[:, :, 0])
    residual = (voxels.intensity - shown) * keep[:, None]
    return BlockMaps(
        mean.numpy(), spread.clamp_min(0).sqrt().numpy(), found.other.numpy(), residual.numpy(),
        slope.numpy(), spread.double().sum(0).numpy(),
    )  # fmt: skip
