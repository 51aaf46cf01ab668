"""What a scanner hands over: images, their kind and their noise level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch

from bmapest_ray.base.errors import InvalidInput


class Signal(StrEnum):
    """Whether the phase is known."""

    MAGNITUDE = "magnitude"
    COMPLEX = "complex"


@dataclass(frozen=True)
class Measurement:
    """Measured images.

    Parameters
    ----------
    images
        Complex, or real and non-negative for magnitudes. Shape ``(..., channel, y, x)``.
    signal
        Kind of the images.
    sigma
        Noise standard deviation of the real and of the imaginary part. Shape ``(channel,)``; None
        if there is no noise or its level is unknown.

    Raises
    ------
    InvalidInput
        If the kind of the images is not the declared one or sigma does not fit.
    """

    images: torch.Tensor
    signal: Signal
    sigma: torch.Tensor | None = None

    def __post_init__(self) -> None:
        """Check the kind of the images and the shape of sigma."""
        if self.images.ndim < 3 or self.images.is_complex() != (self.signal is Signal.COMPLEX):
            wanted = "complex" if self.signal is Signal.COMPLEX else "real"
            msg = (
                f"{self.signal} images must be {wanted} of shape (..., channel, y, x), got "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}; convert them"
            )
            raise InvalidInput(msg)
        if self.signal is Signal.MAGNITUDE and bool((self.images < 0).any()):
            lowest = float(self.images.nan_to_num(nan=0.0).min())
            msg = f"magnitudes must not be negative, got {lowest:.3g}; take absolute values"
            raise InvalidInput(msg)
        if self.sigma is not None:
            if self.sigma.shape != self.images.shape[-3:-2]:
                msg = (
                    f"sigma must have one value per channel ({self.images.shape[-3]}), got shape "
                    f"{tuple(self.sigma.shape)}; repeat it"
                )
                raise InvalidInput(msg)
            if not bool((self.sigma > 0).all()):
                msg = (
                    f"sigma must be positive, got {float(self.sigma.min())}; use None without noise"
                )
                raise InvalidInput(msg)


def measure(images: torch.Tensor, signal: Signal, sigma: torch.Tensor | None) -> Measurement:
    """Return complex images as a measurement of the wanted kind."""
    seen = images.abs() if signal is Signal.MAGNITUDE else images
    return Measurement(images=seen, signal=signal, sigma=sigma)
