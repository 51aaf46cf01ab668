"""A cheaper stand-in for a linear model inside Gauss-Newton steps.

Gradients come from the full model, so where the iterations end does not change; a product of the
inner problem only decides how good the next step is. Where the steps of an item turn out poor, by
an ill-conditioned problem or by its non-linearity, its next step uses the full model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bmapest_ray.inversion.ports import ForwardModel

TOLERANCE = 3e-3
"""Relative error of the stand-in, per image."""
POOR = 0.1
"""A step that leaves more than this share of the squared residual calls for the full model."""


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


def stand_in(model: ForwardModel) -> ForwardModel | None:
    """Return the cheap approximation of a model, if it has one."""
    return model.coarse(TOLERANCE) if isinstance(model, Truncatable) else None
