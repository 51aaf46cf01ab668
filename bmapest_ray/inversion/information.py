"""What data tell about maps near a solution: a linear view of the images, with weights.

Near a solution the images move along ``J dp``, and each sample tells about its move with a weight:
``1/sigma^2`` for a complex sample, ``I(A/sigma)/sigma^2`` along the direction of a magnitude, where
I is the Fisher information of a Rician sample, 1 for a strong signal and 0 at a null.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.blocks import weighted_blocks
from bmapest_ray.inversion.loss import direction, radial
from bmapest_ray.inversion.loss_rician import relative_information
from bmapest_ray.inversion.ports import ForwardModel, LinearModel

LEAST_INFORMATION = 1e-2
"""Relative information below which a voxel's blocks shrink no more."""


@dataclass(frozen=True, eq=False)
class Information:
    """Whitened derivative of the data at some maps, and its adjoint.

    Parameters
    ----------
    model
        Scanner model.
    maps
        Where it is linearised, ``(tissue, y, x)``.
    images
        Noise-free images there, complex ``(channel, y, x)``.
    sigma
        Noise standard deviation of the real and of the imaginary part, ``(channel,)``.
    magnitude
        Whether only magnitudes are seen.
    """

    model: ForwardModel
    maps: Tensor
    images: Tensor
    sigma: Tensor
    magnitude: bool

    @property
    def snr(self) -> Tensor:
        """Noise-free magnitude over sigma, ``(channel, y, x)``."""
        return self.images.abs() / self.sigma[:, None, None]

    @cached_property
    def roots(self) -> Tensor:
        """Square root of the weight of every sample, ``(channel, y, x)``."""
        if not self.magnitude:
            return (1 / self.sigma)[:, None, None].expand(self.images.shape)
        return relative_information(self.snr).sqrt() / self.sigma[:, None, None]

    def whitened(self, change: Tensor) -> Tensor:
        """Whitened change of the data, real for magnitudes, ``(batch, channel, y, x)``."""
        images = self.model.jvp(self.maps.expand_as(change), change)
        if self.magnitude:
            images = radial(direction(self.images), images)
        return images * self.roots

    def adjoint(self, whitened: Tensor) -> Tensor:
        """Adjoint of `whitened`, ``(batch, tissue, y, x)``."""
        images = whitened * self.roots
        if self.magnitude:
            images = direction(self.images) * images
        maps = self.maps.expand(len(whitened), *self.maps.shape)
        return self.model.vjp(maps, images)

    def product(self, change: Tensor) -> Tensor:
        """Product with the Fisher information of the maps."""
        return self.adjoint(self.whitened(change))

    def blocks(self, where: Tensor) -> Tensor:
        """Approximate diagonal blocks of the information, ``(tissue, tissue, y, x)``.

        The weight of a channel is its mean over the voxels `where`, bool ``(y, x)``, times how
        much more or less than that all channels tell about a voxel.
        """
        squares = self.roots.square()
        weights = squares[:, where].mean(1)
        if isinstance(self.model, LinearModel):
            local = (squares.mean(0) / weights.mean()).clamp_min(LEAST_INFORMATION)
            return weighted_blocks(self.model, weights) * local
        identity = torch.eye(len(self.maps)).to(self.maps) * weights.sum()
        return identity[:, :, None, None].expand(-1, -1, *self.maps.shape[-2:])


def information_at(
    model: ForwardModel, maps: Tensor, sigma: Tensor | None, *, magnitude: bool
) -> Information:
    """Linearise a model with a known noise level at some maps.

    Raises
    ------
    InvalidInput
        If the noise level is not known.
    """
    if sigma is None:
        msg = "a posterior needs a noise level, got noise-free data; add noise (--snr, noise.snr)"
        raise InvalidInput(msg)
    with torch.no_grad():
        images = model.forward(maps)
        linearise = getattr(model, "linearise", None)
        if linearise is not None and not getattr(model, "is_linear", True):
            _, model = linearise(maps)
    return Information(model, maps, images, sigma.to(maps), magnitude)
