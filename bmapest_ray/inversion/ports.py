"""What the inversion needs from a scanner model and from data: nothing else is ever used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


class ChannelLike(Protocol):
    """One complex image channel: which image of which contrast, seen by which coil."""

    @property
    def image(self) -> str:
        """Name such as ``t1inv[0]``."""
        ...


@runtime_checkable
class ForwardModel(Protocol):
    """Maps to images, with derivatives; leading batch dimensions everywhere.

    For a linear model ``jvp(p, dp)`` is ``forward(dp)`` and ``vjp(p, s)`` is ``adjoint(s)``.
    """

    @property
    def channels(self) -> Sequence[ChannelLike]:
        """Channels, image-major over coils."""
        ...

    def forward(self, p: Tensor, /) -> Tensor:
        """Real maps ``(..., tissue, y, x)`` to complex images ``(..., channel, y, x)``."""
        ...

    def jvp(self, p: Tensor, dp: Tensor, /) -> Tensor:
        """Directional derivative of `forward` at ``p``, complex ``(..., channel, y, x)``."""
        ...

    def vjp(self, p: Tensor, s: Tensor, /) -> Tensor:
        """Adjoint of `jvp` for the inner product ``Re<a, b>``, real ``(..., tissue, y, x)``."""
        ...


@runtime_checkable
class LinearModel(ForwardModel, Protocol):
    """A forward model that is linear in the maps."""

    def adjoint(self, s: Tensor, /) -> Tensor:
        """Adjoint of `forward` for ``Re<a, b>``, real ``(..., tissue, y, x)``."""
        ...

    def normal_blocks(self) -> Tensor:
        """Diagonal blocks of the normal matrix ``A^H A``, ``(tissue, tissue, y, x)``."""
        ...


class MeasurementLike(Protocol):
    """Measured images with their kind and noise level."""

    @property
    def images(self) -> Tensor:
        """Complex, or real magnitude, images ``(..., channel, y, x)``."""
        ...

    @property
    def signal(self) -> str:
        """``"magnitude"`` or ``"complex"``."""
        ...

    @property
    def sigma(self) -> Tensor | None:
        """Noise standard deviation of real and imaginary part per channel, or None."""
        ...
