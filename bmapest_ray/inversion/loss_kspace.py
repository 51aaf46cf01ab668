"""Fidelities in k-space: the orthonormal FFT of the images.

The FFT is orthonormal and centred, so noise has the same standard deviation in both domains and
an unfiltered complex k-space loss equals the complex image loss; it differs once samples are
weighted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bmapest_ray.inversion.loss import (
    LeastSquares,
    Local,
    direction,
    half_squares,
    per_channel,
    radial,
)


def to_kspace(images: Tensor) -> Tensor:
    """Centred orthonormal FFT over the last two axes."""
    shifted = torch.fft.ifftshift(images, dim=(-2, -1))
    centred: Tensor = torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))
    return centred


def to_image(kspace: Tensor) -> Tensor:
    """Inverse, and adjoint, of `to_kspace`."""
    shifted = torch.fft.ifftshift(kspace, dim=(-2, -1))
    centred: Tensor = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))
    return centred


@dataclass(frozen=True)
class ComplexKspace(LeastSquares):
    """Squared difference of complex k-space, with an optional weight per sample.

    Parameters
    ----------
    sample_weights
        Amplitude weight of each k-space sample (broadcasts to ``(y, x)``); None is one.
    """

    sample_weights: Tensor | None = None
    name: str = "kspace-complex"

    def _amplitude(self) -> Tensor:
        amplitude = per_channel(self.weights.sqrt())
        return amplitude if self.sample_weights is None else amplitude * self.sample_weights

    def residual(self, s: Tensor) -> Tensor:
        """Whitened complex difference in k-space."""
        return to_kspace(s - self.data) * self._amplitude()

    def local(self, s: Tensor) -> Local:
        """Exact: a diagonal in k-space."""
        residual, amplitude = self.residual(s), self._amplitude()
        squared = amplitude.square()
        return Local(
            half_squares(residual),
            to_image(residual * amplitude),
            lambda ds: to_image(to_kspace(ds) * squared),
        )


@dataclass(frozen=True)
class MagnitudeKspace(LeastSquares):
    """Squared difference of k-space magnitudes.

    ``data`` are the complex images, or a real tensor that already is the k-space magnitude.
    """

    name: str = "kspace-magnitude"

    def _target(self) -> Tensor:
        return to_kspace(self.data).abs() if self.data.is_complex() else self.data

    def residual(self, s: Tensor) -> Tensor:
        """Whitened difference of k-space magnitudes."""
        return (to_kspace(s).abs() - self._target()) * per_channel(self.weights.sqrt())

    def local(self, s: Tensor) -> Local:
        """Gauss-Newton with the directions of the predicted k-space."""
        kspace = to_kspace(s)
        u, weights = direction(kspace), per_channel(self.weights)
        difference = kspace.abs() - self._target()
        return Local(
            half_squares(difference * weights.sqrt()),
            to_image(u * (difference * weights)),
            lambda ds: to_image(u * (weights * radial(u, to_kspace(ds)))),
        )


def raw_signal(
    data: Tensor, weights: Tensor, sample_weights: Tensor | None = None
) -> ComplexKspace:
    """Squared difference of the raw ADC samples.

    The samples are the k-space in another order, so this is `ComplexKspace` under its own name.
    """
    return ComplexKspace(data, weights, sample_weights, name="raw")


def smoothed_kspace(data: Tensor, weights: Tensor, width: float = 0.25) -> ComplexKspace:
    """Squared difference of k-space under a Gaussian of the spatial frequency.

    Low frequencies count most, so the fit sees smoothed images first.

    Parameters
    ----------
    width
        Standard deviation of the Gaussian as a fraction of the half width of k-space.
    """
    rows, columns = data.shape[-2:]
    ky = torch.linspace(-1, 1 - 2 / rows, rows, dtype=weights.dtype, device=data.device)
    kx = torch.linspace(-1, 1 - 2 / columns, columns, dtype=weights.dtype, device=data.device)
    gaussian = torch.exp(-(ky[:, None] ** 2 + kx[None, :] ** 2) / (2 * width**2))
    return ComplexKspace(data, weights, gaussian, name="kspace-smoothed")


@dataclass(frozen=True)
class Ssim:
    """One minus the mean structural similarity of magnitude images, times `scale`.

    Similarity is higher for better fits, so it enters with a minus sign. Gaussian window of
    11 x 11 pixels (sigma 1.5), k1 = 0.01, k2 = 0.03, range = largest magnitude of each channel
    [Wang et al., IEEE TIP 13, 600 (2004)]. It has no Gauss-Newton linearisation.
    """

    data: Tensor
    weights: Tensor
    name: str = "ssim"

    def residual(self, s: Tensor) -> Tensor:
        """Whitened difference of magnitudes (what `value` measures in another way)."""
        return (s.abs() - self.data) * per_channel(self.weights.sqrt())

    def value(self, s: Tensor) -> Tensor:
        """One minus the similarity, averaged over channels and pixels."""
        return 1.0 - self._similarity(s.abs()).double().flatten(1).mean(1)

    def local(self, s: Tensor) -> Local:
        """Gradient by automatic differentiation."""
        with torch.enable_grad():
            variable = s.detach().requires_grad_()
            value = self.value(variable)
            (gradient,) = torch.autograd.grad(value.sum(), variable)
        return Local(value.detach(), gradient, None)

    def select(self, index: Tensor) -> Self:
        """Return the fidelity of some batch items."""
        return replace(self, data=self.data[index])

    def _similarity(self, a: Tensor) -> Tensor:
        b = self.data
        value_range = b.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
        c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
        mean_a, mean_b = _blur(a), _blur(b)
        var_a = _blur(a * a) - mean_a.square()
        var_b = _blur(b * b) - mean_b.square()
        covariance = _blur(a * b) - mean_a * mean_b
        top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
        return top / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))


def _blur(images: Tensor) -> Tensor:
    grid = torch.arange(-5, 6, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-grid.square() / (2 * 1.5**2))
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, -3).unsqueeze(1)
    padded = torch.nn.functional.pad(flat, (5, 5, 5, 5), mode="reflect")
    rows = torch.nn.functional.conv2d(padded, kernel[None, None, :, None])
    return torch.nn.functional.conv2d(rows, kernel[None, None, None, :]).reshape(images.shape)
