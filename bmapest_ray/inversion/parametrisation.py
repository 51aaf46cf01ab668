"""Parametrisations: operators from the unknowns of a fit to tissue maps.

Each is a frozen value with ``forward`` and ``inverse`` and their derivatives; the solver sees
only the composed objective. Parameters have a batch axis in front: ``(batch, ...)``; maps are
``(batch, tissue, y, x)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput


@runtime_checkable
class Parametrisation(Protocol):
    """Maps as a function of unknowns."""

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def constraints(self) -> tuple[str, ...]:
        """Voxel-wise constraint sets that can hold on the unknowns, the default first."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the unknowns."""
        ...

    def inverse(self, p: Tensor) -> Tensor:
        """Unknowns whose maps are closest to ``p`` (equal to it where that is possible)."""
        ...

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:
        """Directional derivative of `forward`."""
        ...

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:
        """Adjoint of `jvp`."""
        ...

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor | None:
        """Diagonal blocks of the normal matrix in the unknowns.

        ``blocks`` are those of the maps, ``(batch or 1, tissue, tissue, y, x)``; the result is
        ``(batch or 1, n, n, y, x)``, or None where unknowns are not voxel-wise.
        """
        ...

    def capacity(self) -> Tensor | None:
        """Largest sum of fractions left to the unknowns, ``(batch or 1, 1, y, x)``; None is 1."""
        ...

    def per_voxel(self, tissues: int) -> float:
        """Return the unknowns per voxel; 0 where their number does not grow with the voxels."""
        ...

    def select(self, index: Tensor) -> Self:
        """Return the parametrisation of some batch items."""
        ...


class Automatic:
    """Derivatives by automatic differentiation, and the defaults of a global parametrisation."""

    constraints: tuple[str, ...] = ("none",)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the unknowns."""
        raise NotImplementedError

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:
        """Directional derivative of `forward`."""
        tangent = torch.func.jvp(self.forward, (x,), (dx,))[1]
        return torch.as_tensor(tangent)

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:
        """Adjoint of `jvp`."""
        pullback = torch.func.vjp(self.forward, x)[1]
        (gradient,) = pullback(dp)
        return torch.as_tensor(gradient)

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor | None:  # noqa: ARG002
        """Unknowns are not voxel-wise."""
        return None

    def capacity(self) -> Tensor | None:
        """Whole voxels."""
        return None

    def per_voxel(self, tissues: int) -> float:  # noqa: ARG002
        """Global."""
        return 0.0

    def select(self, index: Tensor) -> Self:  # noqa: ARG002
        """Hold nothing per batch item."""
        return self


@dataclass(frozen=True, eq=False)
class Direct:
    """The unknowns are the fractions themselves, under exact constraints.

    Parameters
    ----------
    support
        Voxels that may hold tissue, bool ``(batch or 1, y, x)``; None is all of them.
    """

    name: str = "direct"
    constraints: tuple[str, ...] = ("simplex", "box", "none")
    support: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Identity."""
        return x

    def inverse(self, p: Tensor) -> Tensor:
        """Identity."""
        return p

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:  # noqa: ARG002
        """Identity."""
        return dx

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:  # noqa: ARG002
        """Identity."""
        return dp

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor:  # noqa: ARG002
        """Blocks of the maps."""
        return blocks

    def capacity(self) -> Tensor | None:
        """Whole voxels inside the support, nothing outside."""
        return None if self.support is None else self.support[:, None].to(torch.float32)

    def per_voxel(self, tissues: int) -> float:
        """All fractions."""
        return float(tissues)

    def select(self, index: Tensor) -> Self:
        """Return the support of some batch items."""
        if self.support is None or len(self.support) == 1:
            return self
        return replace(self, support=self.support[index])


def choose_constraint(parametrisation: Parametrisation, wanted: str | None) -> str:
    """Return the constraint set to use on the unknowns.

    Raises
    ------
    InvalidInput
        If the parametrisation cannot hold the wanted set.
    """
    allowed = parametrisation.constraints
    if wanted is None:
        return allowed[0]
    if wanted not in allowed:
        msg = (
            f"constraints of the parametrisation '{parametrisation.name}' must be one of "
            f"{', '.join(allowed)}, got '{wanted}'; leave them out for its own"
        )
        raise InvalidInput(msg)
    return wanted
