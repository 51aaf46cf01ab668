"""Fisher information and Cramer-Rao bound of the fractions, with the point spread.

Around a voxel the anatomy's frequencies are measured one by one: at k the images are
``a(k) P(k)``, a row per image and a column per tissue, since a point spread is a filter. Maps are
real, so k and -k tell about the same unknown, and

    G(k) = 1/2 [ a(k)^H a(k) + conj(a(-k)^H a(-k)) ] N^2 / sigma^2,
    covariance of a voxel = mean over k of (G(k) + prior)^-1.

The mean of G is the voxel's block of ``A^H A``; inverting that mean would be the variance only if
no line ever lost contrast, and is always too small. What neighbours of other B1 and the edge of
the head change is left out; tests and ``studies/results/design.md`` say how little that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.signals import Signals, gauss_columns, nuisance_names
from bmapest_ray.inversion.loss_rician import relative_information
from bmapest_ray.simulate.measurement import Signal

LARGEST_STD = 10.0
"""A fraction, which lies in 0..1, known no better than this is not identified."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Covariance of the fractions at every design voxel, ``(voxel, tissue, tissue)``."""

    covariance: Tensor

    @property
    def variance(self) -> Tensor:
        """Variance per tissue, mean over voxels, ``(tissue,)``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).mean(0)

    @property
    def std(self) -> Tensor:
        """Root of the mean variance, ``(tissue,)``."""
        return self.variance.sqrt()

    @property
    def worst_std(self) -> Tensor:
        """Largest standard deviation of any voxel, ``(tissue,)``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).amax(0).sqrt()


def image_information(signals: Signals, setting: DesignSetting) -> Tensor:
    """Return the information of every image alone.

    Shape ``(image, k, voxel, unknown, unknown)``, Hermitian; k runs over lines and columns, the
    unknowns are tissues and then nuisances. Information of images adds up.
    """
    stacked = torch.cat([signals.tissues, signals.nuisances], dim=-2)
    sigma = setting.sigma * torch.sqrt(setting.dwell_s / signals.dwell_s)
    scale = setting.acquisition.matrix / sigma
    stacked = stacked * (scale * 2**-0.5)[:, None, None, None, None]
    if setting.signal is Signal.MAGNITUDE:
        stacked = _seen_by_magnitudes(signals, setting, scale, stacked)
    rows = stacked.movedim(-2, -1)  # (image, ky, column, voxel, unknown)
    product = rows.conj()[..., :, None] * rows[..., None, :]
    paired = product + _opposite(product).conj()
    return paired.flatten(1, 2)


def _opposite(values: Tensor) -> Tensor:
    """Return values at -k; axes 1 and 2 are ky and column."""
    matrix = values.shape[1]
    line = (matrix - torch.arange(matrix)) % matrix
    return values[:, line].flip(2)


def _seen_by_magnitudes(
    signals: Signals, setting: DesignSetting, scale: Tensor, stacked: Tensor
) -> Tensor:
    """Return the part of the point spread in phase with the image, weighted as Rician data."""
    middle = signals.tissues[:, setting.acquisition.matrix // 2]
    half = middle.shape[1] // 2
    image = (middle[:, half - 1 : half + 1].mean(1) * setting.voxels.fraction).sum(-2)
    size = image.abs().clamp_min(1e-30)
    turned = stacked * (image.conj() / size)[:, None, None, None, :]
    seen = (turned + _opposite(turned).conj()) / 2
    weight = relative_information(size.detach() * scale[:, None]).sqrt()
    return seen * weight[:, None, None, None, :]


def k_weights(setting: DesignSetting) -> Tensor:
    """Return the share of every k of `image_information` in the mean, ``(k,)``."""
    matrix = setting.acquisition.matrix
    column = gauss_columns(matrix, setting.columns).weight
    return (column / matrix).repeat(matrix)


def covariance_of(information: Tensor, setting: DesignSetting) -> Tensor:
    """Return the mean over k of the inverse, ``(..., voxel, tissue, tissue)``, real.

    Nuisances are marginalised.

    Parameters
    ----------
    information
        Sum over images, ``(..., k, voxel, unknown, unknown)``.
    """
    known = torch.linalg.inv(marginal(information, setting)).real
    weights = k_weights(setting)
    mean: Tensor = (known * weights[:, None, None, None]).sum(-4)
    return mean


def marginal(information: Tensor, setting: DesignSetting) -> Tensor:
    """Return the information of the tissues alone, nuisances unknown, prior included.

    The Schur complement, ``(..., tissue, tissue)``.
    """
    tissues = len(setting.table.names)
    known = information + prior_precision(setting)
    own = known[..., :tissues, :tissues]
    if known.shape[-1] == tissues:
        return own
    shared = known[..., :tissues, tissues:]
    others = known[..., tissues:, tissues:]
    left: Tensor = own - shared @ torch.linalg.solve(others, shared.mH)
    return left


def prior_precision(setting: DesignSetting) -> Tensor:
    """Return what is known beforehand, ``(unknown, unknown)``, complex128."""
    tissues = len(setting.table.names)
    names = nuisance_names(setting)
    precision = torch.zeros((tissues + len(names),) * 2, dtype=torch.complex128)
    if setting.prior is not None:
        precision[:tissues, :tissues] = setting.prior.to(precision.dtype)
    for place, name in enumerate(names, tissues):
        precision[place, place] = setting.nuisances[name] ** -2
    return precision


def bound(signals: Sequence[Signals], setting: DesignSetting) -> Bound:
    """Return the Cramer-Rao bound of chains that are measured one after the other.

    Raises
    ------
    InvalidInput
        If the contrasts do not determine every tissue.
    """
    total = sum_information(signals, setting)
    check_identified(total, setting, sum(len(s.tissues) for s in signals))
    return Bound(covariance_of(total, setting))


def soft_bound(signals: Sequence[Signals], setting: DesignSetting) -> Bound:
    """Return the bound under a prior too weak to matter where tissues are identified.

    Finite and smooth everywhere, which a search needs on its way.
    """
    total = sum_information(signals, setting)
    tissues, unknowns = len(setting.table.names), total.shape[-1]
    weak = torch.zeros((unknowns, unknowns), dtype=total.dtype)
    weak[:tissues, :tissues] = torch.eye(tissues, dtype=total.dtype) / LARGEST_STD**2
    return Bound(covariance_of(total + weak, setting))


def sum_information(signals: Sequence[Signals], setting: DesignSetting) -> Tensor:
    """Return the information of all images, ``(k, voxel, unknown, unknown)``."""
    return torch.stack([image_information(s, setting).sum(0) for s in signals]).sum(0)


def check_identified(information: Tensor, setting: DesignSetting, images: int) -> None:
    """Refuse information that leaves a tissue undetermined.

    Raises
    ------
    InvalidInput
        Says how many contrasts there are and how badly the weakest mix of tissues is known.
    """
    spectrum = torch.linalg.eigvalsh(marginal(information.detach(), setting))
    least, largest = spectrum[..., 0], float(spectrum[..., -1].max())
    # the weakest mix of tissues, averaged as a variance is
    weakest = least.clamp_min(1e-300).reciprocal()
    mean = float((weakest * k_weights(setting)[:, None]).sum(0).mean())
    singular = bool((least <= 1e-12 * largest).any())
    tissues = len(setting.table.names)
    if singular or mean**0.5 > LARGEST_STD:
        how = "nothing" if singular else f"a standard deviation of {mean**0.5:.3g}"
        msg = (
            f"a protocol must identify {tissues} tissues, got {images} contrast(s) that leave "
            f"their weakest mix known to {how}; add contrasts or a prior"
        )
        raise InvalidInput(msg)
