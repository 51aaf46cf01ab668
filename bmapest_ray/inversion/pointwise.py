"""Voxel-wise reparametrisations that keep fractions in range without constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

EDGE = 1e-4
"""Fractions closer than this to a bound start at this distance, where the slope is not lost."""


class _Pointwise:
    """Common to parametrisations ``p(v) = f(x(v))`` with Jacobian blocks per voxel."""

    constraints: tuple[str, ...] = ("none",)

    def jacobian(self, x: Tensor) -> Tensor:
        """Return ``dp_t/dx_u`` in every voxel, ``(batch, tissue, unknown, y, x)``."""
        raise NotImplementedError

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:
        """Directional derivative of `forward`."""
        return (self.jacobian(x) * dx.unsqueeze(1)).sum(2)

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:
        """Adjoint of `jvp`."""
        return (self.jacobian(x) * dp.unsqueeze(2)).sum(1)

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor:
        """Return ``J^T B J`` of every voxel."""
        jacobian = self.jacobian(x)
        return torch.einsum("btiyx,btuyx,bujyx->bijyx", jacobian, blocks, jacobian)

    def capacity(self) -> Tensor | None:
        """Whole voxels."""
        return None

    def per_voxel(self, tissues: int) -> float:
        """All fractions."""
        return float(tissues)

    def select(self, index: Tensor) -> Self:  # noqa: ARG002
        """Hold nothing per batch item."""
        return self


@dataclass(frozen=True)
class Sigmoid(_Pointwise):
    """Each fraction is ``1/(1 + exp(-x))``: in (0, 1), their sum is free."""

    name: str = "sigmoid"

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the unknowns."""
        return torch.sigmoid(x)

    def inverse(self, p: Tensor) -> Tensor:
        """Logit, with fractions at a bound moved inside by `EDGE`."""
        return torch.logit(p.clamp(EDGE, 1 - EDGE))

    def jacobian(self, x: Tensor) -> Tensor:
        """Diagonal ``p (1 - p)``."""
        p = torch.sigmoid(x)
        return torch.diag_embed((p * (1 - p)).movedim(1, -1)).movedim((-2, -1), (1, 2))


@dataclass(frozen=True)
class Softmax(_Pointwise):
    """Softmax of the tissues and a background class whose logit is 0: inside the simplex."""

    name: str = "softmax"

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the unknowns."""
        background = torch.zeros_like(x[:, :1])
        return torch.softmax(torch.cat([background, x], dim=1), dim=1)[:, 1:]

    def inverse(self, p: Tensor) -> Tensor:
        """Log ratios to the background, after moving inside by `EDGE`."""
        inside = p.clamp_min(EDGE)
        background = 1 - inside.sum(1, keepdim=True)
        inside = inside / (inside.sum(1, keepdim=True) + background.clamp_min(EDGE))
        return inside.log() - (1 - inside.sum(1, keepdim=True)).log()

    def jacobian(self, x: Tensor) -> Tensor:
        """``diag(p) - p p^T``."""
        p = self.forward(x)
        diagonal = torch.diag_embed(p.movedim(1, -1)).movedim((-2, -1), (1, 2))
        return diagonal - p.unsqueeze(1) * p.unsqueeze(2)


@dataclass(frozen=True, eq=False)
class SingleTissue:
    """One tissue is unknown, the others are known.

    Parameters
    ----------
    known
        Fractions of all tissues; that of the unknown one is ignored.
        ``(batch or 1, tissue, y, x)``.
    tissue
        Index of the unknown tissue.
    """

    known: Tensor
    tissue: int
    name: str = "single-tissue"
    constraints: tuple[str, ...] = ("simplex", "box", "none")

    def forward(self, x: Tensor) -> Tensor:
        """Return the known maps with the unknown tissue put in."""
        return self._others.expand(len(x), -1, -1, -1) + self.jvp(x, x)

    def inverse(self, p: Tensor) -> Tensor:
        """Return the map of the unknown tissue."""
        return p[:, self.tissue : self.tissue + 1].clone()

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:  # noqa: ARG002
        """Put a change of the one tissue among zeros."""
        change = dx.new_zeros((len(dx), self.known.shape[1], *dx.shape[-2:]))
        change[:, self.tissue] = dx[:, 0]
        return change

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:  # noqa: ARG002
        """Take the one tissue out."""
        return dp[:, self.tissue : self.tissue + 1].clone()

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor:  # noqa: ARG002
        """Diagonal entry of the tissue."""
        one = slice(self.tissue, self.tissue + 1)
        return blocks[:, one, one]

    def capacity(self) -> Tensor:
        """Return what the known tissues leave."""
        return (1 - self._others.sum(1, keepdim=True)).clamp(0.0, 1.0)

    def per_voxel(self, tissues: int) -> float:  # noqa: ARG002
        """One."""
        return 1.0

    def select(self, index: Tensor) -> SingleTissue:
        """Return the parametrisation of some batch items."""
        if len(self.known) == 1:
            return self
        return SingleTissue(self.known[index], self.tissue)

    @property
    def _others(self) -> Tensor:
        others = self.known.clone()
        others[:, self.tissue] = 0.0
        return others
