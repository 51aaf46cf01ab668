"""What a simulated protocol offers to a solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch


@dataclass(frozen=True)
class Channel:
    """One measured image: an image of the protocol seen by one receive coil.

    Parameters
    ----------
    image
        Name of the image, for example ``t1inv[0]``.
    image_index
        Its place among the images of the protocol.
    coil
        Receive coil.
    """

    image: str
    image_index: int
    coil: int


@runtime_checkable
class Operator(Protocol):
    """Tissue fractions to complex images.

    ``forward`` maps fractions ``(..., tissue, y, x)`` to images ``(..., channel, y, x)``. ``jvp``
    maps a change of the fractions to the change of the images; ``vjp`` is its adjoint for the real
    inner product ``Re sum conj(a) b``.
    """

    channels: tuple[Channel, ...]
    matrix: int
    tissues: int
    engine: str
    is_linear: bool
    device: torch.device
    dtype: torch.dtype

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images."""
        ...

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Apply the derivative at ``fractions`` to a change of the fractions."""
        ...

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint of the derivative at ``fractions`` to images."""
        ...


@runtime_checkable
class LinearOperator(Operator, Protocol):
    """An operator whose images are linear in the fractions."""

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint: images ``(..., channel, y, x)`` to ``(..., tissue, y, x)``, real."""
        ...

    def normal_blocks(self) -> torch.Tensor:
        """Return the 3x3 diagonal blocks of ``Re A^H A`` per voxel, ``(tissue, tissue, y, x)``."""
        ...


class Linear:
    """An operator that is its own derivative."""

    is_linear = True

    def forward(self, fractions: torch.Tensor) -> torch.Tensor:
        """Simulate the images."""
        raise NotImplementedError

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint."""
        raise NotImplementedError

    def jvp(self, fractions: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Return ``forward(change)``: the operator is linear."""
        del fractions
        return self.forward(change)

    def vjp(self, fractions: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return ``adjoint(images)``: the operator is linear."""
        del fractions
        return self.adjoint(images)


@runtime_checkable
class NonlinearOperator(Operator, Protocol):
    """An operator that can be replaced by a linear one around a point."""

    def linearise(self, fractions: torch.Tensor) -> tuple[torch.Tensor, LinearOperator]:
        """Return the images at ``fractions`` ``(tissue, y, x)`` and the derivative there."""
        ...


def make_channels(images: tuple[str, ...], n_coils: int) -> tuple[Channel, ...]:
    """Return the channels of a protocol, image-major over coils."""
    return tuple(
        Channel(name, index, coil) for index, name in enumerate(images) for coil in range(n_coils)
    )
