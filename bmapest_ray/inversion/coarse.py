"""A cheaper stand-in for a linear model inside Gauss-Newton steps.

Gradients come from the full model, so where the iterations end does not change; a product of the
inner problem only decides how good the next step is. Where the steps of an item turn out poor, by
its non-linearity, its next step uses the full model; where a voxel's weakest combination of tissues
is seen little better than the stand-in's error, there is no stand-in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bmapest_ray.inversion.blocks import weakest_share
from bmapest_ray.inversion.ports import ForwardModel, LinearModel

TOLERANCE = 3e-3
"""Relative error of the stand-in, per image."""
POOR = 0.1
"""A step that leaves more than this share of the squared residual calls for the full model."""
RESOLVED = 0.1
"""Most error of the stand-in as a share of a voxel's weakest response to a change of tissues."""


@runtime_checkable
class Truncatable(Protocol):
    """A linear model that has cheaper approximations of itself."""

    def coarse(self, tolerance: float, /) -> ForwardModel:
        """Return a linear model within a relative ``tolerance`` of this one."""
        ...


class Jacobian(Protocol):
    """What products need of a model."""

    def jvp(self, p: Tensor, dp: Tensor, /) -> Tensor:
        """Directional derivative."""
        ...

    def vjp(self, p: Tensor, s: Tensor, /) -> Tensor:
        """Its adjoint."""
        ...


@dataclass(frozen=True, eq=False)
class Blend:
    """Jacobian products by the full model for some batch items, by its stand-in for the others.

    Parameters
    ----------
    full, cheap
        The two linear models.
    exact
        Which items use the full one, bool ``(batch,)``.
    """

    full: ForwardModel
    cheap: ForwardModel
    exact: Tensor

    def jvp(self, p: Tensor, dp: Tensor) -> Tensor:
        """Apply each item's model."""
        return self._apply(lambda model, rows: model.jvp(p[rows], dp[rows]))

    def vjp(self, p: Tensor, s: Tensor) -> Tensor:
        """Apply the adjoint of each item's model."""
        return self._apply(lambda model, rows: model.vjp(p[rows], s[rows]))

    def _apply(self, product: Callable[[ForwardModel, Tensor], Tensor]) -> Tensor:
        exact, cheap = self.exact.nonzero()[:, 0], (~self.exact).nonzero()[:, 0]
        if not len(cheap):
            return product(self.full, exact)
        found = product(self.cheap, cheap)
        if not len(exact):
            return found
        return torch.cat([found, product(self.full, exact)])[torch.cat([cheap, exact]).argsort()]


_FOUND: WeakKeyDictionary[ForwardModel, ForwardModel | None] = WeakKeyDictionary()


def stand_in(model: ForwardModel) -> ForwardModel | None:
    """Return the cheap approximation of a model, if it has one that sees every tissue."""
    if not (isinstance(model, Truncatable) and isinstance(model, LinearModel)):
        return None
    if model not in _FOUND:
        seen = weakest_share(model) >= TOLERANCE / RESOLVED
        _FOUND[model] = model.coarse(TOLERANCE) if seen else None
    return _FOUND[model]
