"""The derivative of a non-linear scanner model as a linear model of its own.

Where a model offers ``linearise(p)``, a solver pays for the expensive model once per outer
iteration and for its cheap derivative in all products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from bmapest_ray.inversion.ports import ChannelLike, ForwardModel, LinearModel


@runtime_checkable
class Linearisable(Protocol):
    """A model that can be replaced by a linear one around a point."""

    def linearise(self, p: Tensor, /) -> tuple[Tensor, LinearModel]:
        """Return the images at ``p`` ``(tissue, y, x)`` and the derivative there."""
        ...


@dataclass(frozen=True, eq=False)
class StackedModel:
    """One linear model per batch item.

    Parameters
    ----------
    parts
        Models of the items, all with the same channels.
    """

    parts: tuple[LinearModel, ...]

    @property
    def channels(self) -> Sequence[ChannelLike]:
        """Channels of every item."""
        return self.parts[0].channels

    def forward(self, p: Tensor) -> Tensor:
        """Apply each item's model."""
        return torch.stack([a.forward(one) for a, one in zip(self.parts, p, strict=True)])

    def adjoint(self, s: Tensor) -> Tensor:
        """Apply each item's adjoint."""
        return torch.stack([a.adjoint(one) for a, one in zip(self.parts, s, strict=True)])

    def jvp(self, p: Tensor, dp: Tensor) -> Tensor:  # noqa: ARG002
        """Apply each item's model."""
        return self.forward(dp)

    def vjp(self, p: Tensor, s: Tensor) -> Tensor:  # noqa: ARG002
        """Apply each item's adjoint."""
        return self.adjoint(s)

    def normal_blocks(self) -> Tensor:
        """Diagonal blocks of every item, ``(batch, tissue, tissue, y, x)``."""
        return torch.stack([part.normal_blocks() for part in self.parts])

    def choose(self, wanted: Tensor, other: StackedModel) -> StackedModel:
        """Take the own model of each item where ``wanted``, that of ``other`` elsewhere."""
        pairs = zip(wanted.tolist(), self.parts, other.parts, strict=True)
        return StackedModel(tuple(own if take else theirs for take, own, theirs in pairs))


def needs_tangent(model: ForwardModel) -> TypeGuard[Linearisable]:
    """Whether a model is not linear but can give its tangent."""
    return not isinstance(model, LinearModel) and isinstance(model, Linearisable)


def linearised(model: Linearisable, p: Tensor) -> tuple[Tensor, StackedModel]:
    """Return images and tangents at ``p`` ``(batch, tissue, y, x)``."""
    pairs = [model.linearise(one) for one in p]
    images = torch.stack([image for image, _ in pairs])
    return images, StackedModel(tuple(tangent for _, tangent in pairs))


def tangent_of(model: ForwardModel, p: Tensor) -> ForwardModel:
    """Return a model whose jvp and vjp at ``p`` ``(batch, tissue, y, x)`` are cheap."""
    return linearised(model, p)[1] if needs_tangent(model) else model
