"""Rician likelihood of magnitude images, and its Fisher information.

A magnitude of a complex Gaussian with standard deviation sigma per part and true magnitude nu is
Rician [Gudbjartsson & Patz, MRM 34, 910 (1995)]. Below 3 to 5 sigma its mean is biased upwards
and it tells less about nu than a Gaussian sample would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from scipy.special import i0e, i1e
from torch import Tensor

from bmapest_ray.inversion.loss import Local, direction, per_channel, radial

_TABLE_END = 12.0
_TABLE_STEP = 0.02


@dataclass(frozen=True)
class Rician:
    """Negative log likelihood of Rician magnitudes, minus that of a perfect Gaussian fit.

    Parameters
    ----------
    data
        Measured magnitudes. ``(batch, channel, y, x)``.
    weights
        ``1/sigma^2`` per channel; the noise level must be known. ``(channel,)``.
    curvature_floor
        Smallest relative information used as curvature, so that steps stay bounded where a
        magnitude tells nothing; the minimiser does not depend on it.
    """

    data: Tensor
    weights: Tensor
    curvature_floor: float = 0.05
    name: str = "rician"

    def residual(self, s: Tensor) -> Tensor:
        """Difference of data and their Rician mean in units of their standard deviation."""
        whitening = per_channel(self.weights.sqrt())
        mean, deviation = rician_moments(s.abs() * whitening)
        return (mean - self.data * whitening) / deviation

    def value(self, s: Tensor) -> Tensor:
        """Sum of ``(y - nu)^2 / (2 sigma^2) - log(I0(z) exp(-z))``, ``z = y nu / sigma^2``."""
        nu, weights = s.abs(), per_channel(self.weights)
        z = (self.data * nu * weights).double()
        half = 0.5 * ((self.data - nu).double().square() * weights)
        cost: Tensor = half - torch.special.i0e(z).log()
        return cost.flatten(1).sum(1)

    def local(self, s: Tensor) -> Local:
        """Gradient exact; curvature is the Fisher information of the magnitude."""
        u, nu = direction(s), s.abs()
        weights = per_channel(self.weights)
        z = self.data * nu * weights
        gradient = u * (weights * (nu - self.data * _bessel_ratio(z)))
        information = relative_information(nu * weights.sqrt()).clamp_min(self.curvature_floor)
        scaled = weights * information
        return Local(self.value(s), gradient, lambda ds: u * (scaled * radial(u, ds)))

    def select(self, index: Tensor) -> Self:
        """Return the fidelity of some batch items."""
        return replace(self, data=self.data[index])


def _bessel_ratio(z: Tensor) -> Tensor:
    ratio: Tensor = torch.special.i1e(z) / torch.special.i0e(z)
    return ratio


def rician_moments(snr: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, in units of sigma, of a magnitude whose truth is `snr` sigma."""
    half = snr.double().square() / 4
    laguerre = (1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half)
    mean = math.sqrt(math.pi / 2) * laguerre
    variance = (2 + snr.double().square() - mean.square()).clamp_min(2 - math.pi / 2)
    return mean.to(snr.dtype), variance.sqrt().to(snr.dtype)


def relative_information(snr: Tensor) -> Tensor:
    """Fisher information of a Rician magnitude about nu, relative to ``1/sigma^2``.

    Zero at nu = 0 and one for a high signal; linear interpolation in a table (error below 1e-4),
    beyond its end the expansion ``1 - 1/(2 snr^2)``.
    """
    table = torch.as_tensor(_information_table(), dtype=snr.dtype, device=snr.device)
    position = (snr / _TABLE_STEP).clamp(0, len(table) - 1.001)
    low = position.floor().long()
    fraction = position - low
    inside = table[low] * (1 - fraction) + table[low + 1] * fraction
    return torch.where(snr < _TABLE_END, inside, 1 - 0.5 / snr.clamp_min(1).square())


@lru_cache(maxsize=1)
def _information_table() -> np.ndarray:
    """Integrate ``E[y^2 R(y nu)^2] - nu^2`` (sigma = 1, R = I1/I0) on a fine grid of y."""
    nu = np.arange(0, _TABLE_END + 2 * _TABLE_STEP, _TABLE_STEP)[:, None]
    offset = np.linspace(-9, 9, 241)[None, :]  # as good as 2001 points: 1e-10
    y = np.maximum(nu + offset, 0.0)
    z = y * nu
    density = y * np.exp(-0.5 * (y - nu) ** 2) * i0e(z)
    ratio = i1e(z) / i0e(z)
    step = float(offset[0, 1] - offset[0, 0])
    information = ((y * ratio) ** 2 * density).sum(1) * step - nu[:, 0] ** 2
    return np.asarray(np.clip(information, 0.0, 1.0))
