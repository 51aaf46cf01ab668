"""Data fidelities: how far predicted images are from the measured ones.

Each fidelity gives its value, its whitened residual and, where it has one, a Gauss-Newton
linearisation. With weights ``1/sigma_c^2`` a least-squares value is half a chi-squared. Predicted
and measured images have shape ``(batch, channel, y, x)``; values have shape ``(batch,)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

TINY = 1e-30
"""Guards the direction of a prediction that is exactly zero."""


@dataclass(frozen=True)
class Local:
    """A fidelity at one prediction ``s``.

    Parameters
    ----------
    value
        Shape ``(batch,)``, float64.
    gradient
        ``g`` with ``d value = Re <g, ds>``. Complex, shape of ``s``.
    curvature
        ``ds -> g``: the positive semidefinite Gauss-Newton (or Fisher) curvature; None if the
        fidelity has none.
    """

    value: Tensor
    gradient: Tensor
    curvature: Callable[[Tensor], Tensor] | None


@runtime_checkable
class Fidelity(Protocol):
    """A misfit of predicted to measured images."""

    @property
    def name(self) -> str:
        """Name in `settings.LOSSES`."""
        ...

    @property
    def weights(self) -> Tensor:
        """Squared whitening per channel, ``1/sigma^2``; shape ``(channel,)``."""
        ...

    def value(self, s: Tensor) -> Tensor:
        """Misfit of every batch item, float64 ``(batch,)``."""
        ...

    def residual(self, s: Tensor) -> Tensor:
        """Whitened residual, real or complex ``(batch, channel, y, x)``."""
        ...

    def local(self, s: Tensor) -> Local:
        """Value, gradient and curvature at ``s``."""
        ...

    def select(self, index: Tensor) -> Self:
        """Return the fidelity of some batch items."""
        ...


def half_squares(residual: Tensor) -> Tensor:
    """Half the sum of squares of each batch item, summed in float64."""
    real = torch.view_as_real(residual) if residual.is_complex() else residual
    return 0.5 * real.double().square().flatten(1).sum(1)


def per_channel(weights: Tensor) -> Tensor:
    """View weights ``(channel,)`` or ``([batch,] channel, y, x)`` so that they multiply images."""
    return weights[:, None, None] if weights.ndim == 1 else weights


def direction(s: Tensor) -> Tensor:
    """Return ``s / |s|``, zero where ``s`` is zero."""
    return s / s.abs().clamp_min(TINY)


@dataclass(frozen=True)
class LeastSquares:
    """A sum of squares of ``residual(s)``, weighted per channel.

    Parameters
    ----------
    data
        Measured images, complex or magnitude as the fidelity needs. ``(batch, channel, y, x)``.
    weights
        Squared weight per channel, ``1/sigma^2`` where the noise is known. ``(channel,)``, or
        ``(batch, channel, y, x)`` where pixels differ.
    """

    data: Tensor
    weights: Tensor

    def value(self, s: Tensor) -> Tensor:
        """Half the weighted sum of squares."""
        return half_squares(self.residual(s))

    def residual(self, s: Tensor) -> Tensor:
        """Whitened difference of prediction and data."""
        raise NotImplementedError

    def select(self, index: Tensor) -> Self:
        """Return the fidelity of some batch items."""
        weights = self.weights[index] if self.weights.ndim == 4 else self.weights
        return replace(self, data=self.data[index], weights=weights)


@dataclass(frozen=True)
class ComplexImage(LeastSquares):
    """Squared difference of complex images: linear in the images."""

    name: str = "complex"

    def residual(self, s: Tensor) -> Tensor:
        """Whitened complex difference."""
        return (s - self.data) * per_channel(self.weights.sqrt())

    def local(self, s: Tensor) -> Local:
        """Exact: the curvature is the weights."""
        weights = per_channel(self.weights)
        return Local(self.value(s), (s - self.data) * weights, lambda ds: ds * weights)


@dataclass(frozen=True)
class MagnitudeImage(LeastSquares):
    """Squared difference of magnitude images, the paper's loss."""

    name: str = "magnitude"

    def residual(self, s: Tensor) -> Tensor:
        """Whitened difference of magnitudes."""
        return (s.abs() - self.data) * per_channel(self.weights.sqrt())

    def local(self, s: Tensor) -> Local:
        """Gauss-Newton: J = Re(conj(u) .), u = s/|s|."""
        u = direction(s)
        weights = per_channel(self.weights)
        gradient = u * ((s.abs() - self.data) * weights)
        return Local(self.value(s), gradient, lambda ds: u * (weights * radial(u, ds)))


def radial(u: Tensor, ds: Tensor) -> Tensor:
    """Return ``Re(conj(u) ds)``, the change of magnitude, without complex products."""
    return u.real * ds.real + u.imag * ds.imag
