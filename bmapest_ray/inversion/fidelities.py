"""Builds the fidelity that the settings ask for from a measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.inversion.loss import ComplexImage, Fidelity, MagnitudeImage
from bmapest_ray.inversion.loss_kspace import (
    ComplexKspace,
    MagnitudeKspace,
    Ssim,
    raw_signal,
    smoothed_kspace,
)
from bmapest_ray.inversion.loss_rician import Rician
from bmapest_ray.inversion.ports import ChannelLike, MeasurementLike
from bmapest_ray.inversion.settings import SolverSettings

_NEEDS_COMPLEX: dict[str, Callable[[Tensor, Tensor], Fidelity]] = {
    "complex": ComplexImage,
    "kspace-complex": ComplexKspace,
    "kspace-magnitude": MagnitudeKspace,
    "kspace-smoothed": smoothed_kspace,
    "raw": raw_signal,
}
_NEEDS_MAGNITUDE: dict[str, Callable[[Tensor, Tensor], Fidelity]] = {
    "magnitude": MagnitudeImage,
    "rician": Rician,
    "ssim": Ssim,
}


def make_fidelity(
    measurement: MeasurementLike, channels: Sequence[ChannelLike], settings: SolverSettings
) -> Fidelity:
    """Return the fidelity of a measurement with a batch axis, ``(batch, channel, y, x)``.

    Raises
    ------
    InvalidInput
        If the loss needs complex data or a noise level and the measurement has none.
    """
    loss = choose_loss(measurement, settings)
    weights = channel_weights(measurement, channels, settings)
    images = measurement.images
    if loss in _NEEDS_COMPLEX:
        if not images.is_complex():
            msg = f"the loss '{loss}' needs complex images, got magnitudes; use 'magnitude'"
            raise InvalidInput(msg)
        return _NEEDS_COMPLEX[loss](images, weights)
    if loss == "rician" and not is_whitened(measurement, settings):
        msg = "the loss 'rician' needs a noise level to whiten by, got none; give sigma"
        raise InvalidInput(msg)
    magnitudes = images.abs() if images.is_complex() else images
    return _NEEDS_MAGNITUDE[loss](magnitudes, weights)


def choose_loss(measurement: MeasurementLike, settings: SolverSettings) -> str:
    """Return the loss that ``auto`` stands for: the likelihood, as far as the noise is known."""
    if settings.loss != "auto":
        return settings.loss
    signal = str(measurement.signal)
    return "rician" if signal == "magnitude" and is_whitened(measurement, settings) else signal


def is_whitened(measurement: MeasurementLike, settings: SolverSettings) -> bool:
    """Whether residuals are in units of the noise's standard deviation."""
    return measurement.sigma is not None and settings.weighting in ("auto", "whitened")


def channel_weights(
    measurement: MeasurementLike, channels: Sequence[ChannelLike], settings: SolverSettings
) -> Tensor:
    """Squared weight of each channel, real ``(channel,)``."""
    pixels = measurement.images.shape[-2] * measurement.images.shape[-1]
    kind: dict[str, Any] = {
        "dtype": measurement.images.abs().dtype,
        "device": measurement.images.device,
    }
    if is_whitened(measurement, settings):
        weights = torch.as_tensor(measurement.sigma, **kind).square().reciprocal()
    elif settings.weighting == "whitened":
        msg = "the weighting 'whitened' needs a noise level, got none; give sigma or use 'equal'"
        raise InvalidInput(msg)
    elif settings.weighting == "sequence-mean":
        names = [sequence_of(channel.image) for channel in channels]
        counts = Counter(names)
        weights = torch.tensor([2.0 / (pixels * counts[name]) for name in names], **kind)
    else:
        weights = torch.full((len(channels),), 2.0 / (pixels * len(channels)), **kind)
    factors = torch.tensor(_extra_factors(channels, settings), **kind)
    return weights * factors * (pixels if settings.fft == "unnormalised" else 1)


def sequence_of(image: str) -> str:
    """Name of the sequence of an image: ``t1inv[2]`` belongs to ``t1inv``."""
    return image.split("[", 1)[0]


def _extra_factors(channels: Sequence[ChannelLike], settings: SolverSettings) -> list[float]:
    images = [channel.image for channel in channels]
    factors = dict(settings.contrast_weights)
    for name, factor in factors.items():
        require_choice("contrast weight", name, dict.fromkeys(images))
        if not factor >= 0:
            msg = f"the weight of contrast '{name}' must be at least 0, got {factor}; raise it"
            raise InvalidInput(msg)
    return [factors.get(image, 1.0) for image in images]
