"""Maps as combinations of the maps of other subjects: a few unknowns instead of many.

All maps are held as ``(batch or 1, subject, tissue, y, x)``, so that every batch item can leave
another subject out. The paper combines the maps of the 19 others and clamps inside the forward
pass; `clamp` does that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.inversion.pointwise import EDGE

SHARING = {"global": "k", "pixel": "kyx", "tissue": "kt"}
"""Indices of a coefficient: one per subject; one per subject and pixel, or subject and tissue."""


class _Linear:
    """Common to ``p = base + sum_k x_k M_k``, optionally followed by a clamp to [0, 1]."""

    constraints: tuple[str, ...] = ("none",)
    clamp: bool = False

    def linear(self, x: Tensor) -> Tensor:
        """Return the linear part."""
        raise NotImplementedError

    def transpose(self, p: Tensor) -> Tensor:
        """Adjoint of `linear`."""
        raise NotImplementedError

    def base(self) -> Tensor | float:
        """Return the maps at zero coefficients."""
        return 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the unknowns."""
        p = self.base() + self.linear(x)
        return p.clamp(0.0, 1.0) if self.clamp else p

    def jvp(self, x: Tensor, dx: Tensor) -> Tensor:
        """Directional derivative of `forward`; zero where the clamp is active."""
        return self.linear(dx) * self._free(x)

    def vjp(self, x: Tensor, dp: Tensor) -> Tensor:
        """Adjoint of `jvp`."""
        return self.transpose(dp * self._free(x))

    def blocks(self, x: Tensor, blocks: Tensor) -> Tensor | None:  # noqa: ARG002
        """Unknowns are not voxel-wise."""
        return None

    def capacity(self) -> Tensor | None:
        """Whole voxels."""
        return None

    def _free(self, x: Tensor) -> Tensor | float:
        if not self.clamp:
            return 1.0
        p = self.base() + self.linear(x)
        return ((p >= 0) & (p <= 1)).to(p.dtype)


@dataclass(frozen=True, eq=False)
class CohortMixture(_Linear):
    """A linear combination of the maps of other subjects.

    Parameters
    ----------
    maps
        Maps of the others, ``(batch or 1, subject, tissue, y, x)``.
    sharing
        A key of `SHARING`.
    clamp
        Clamp to [0, 1] in the forward pass, as the paper does.
    """

    maps: Tensor
    sharing: str = "global"
    clamp: bool = False

    def __post_init__(self) -> None:
        """Check shapes."""
        require_choice("sharing of coefficients", self.sharing, SHARING)
        _check_maps(self.maps)

    @property
    def name(self) -> str:
        """``mixture-`` and the sharing."""
        return f"mixture-{self.sharing}"

    def linear(self, x: Tensor) -> Tensor:
        """Combine the maps."""
        maps = self.maps.expand(len(x), -1, -1, -1, -1)
        return torch.einsum(f"b{SHARING[self.sharing]},bktyx->btyx", x, maps)

    def transpose(self, p: Tensor) -> Tensor:
        """Correlate with the maps."""
        maps = self.maps.expand(len(p), -1, -1, -1, -1)
        return torch.einsum(f"btyx,bktyx->b{SHARING[self.sharing]}", p, maps)

    def inverse(self, p: Tensor) -> Tensor:
        """Least-squares coefficients; the smallest ones where they are not unique."""
        maps = self.maps.expand(len(p), -1, -1, -1, -1).double()
        p = p.double()
        if self.sharing == "global":
            x = _least_squares(maps.flatten(2).mT, p.flatten(1).unsqueeze(-1))[..., 0]
        elif self.sharing == "tissue":
            matrix = maps.permute(0, 2, 3, 4, 1).flatten(2, 3)
            x = _least_squares(matrix, p.flatten(2).unsqueeze(-1))[..., 0].mT
        else:
            matrix = maps.permute(0, 3, 4, 2, 1)
            x = _least_squares(matrix, p.permute(0, 2, 3, 1).unsqueeze(-1))[..., 0]
            x = x.permute(0, 3, 1, 2)
        return x.to(self.maps.dtype).contiguous()

    def per_voxel(self, tissues: int) -> float:
        """At most the tissues: more coefficients per pixel describe no more maps."""
        return float(min(tissues, self.maps.shape[1])) if self.sharing == "pixel" else 0.0

    def select(self, index: Tensor) -> Self:
        """Return the parametrisation of some batch items."""
        return self if len(self.maps) == 1 else replace(self, maps=self.maps[index])


@dataclass(frozen=True, eq=False)
class CohortPca(_Linear):
    """Cohort mean plus principal components, in units of their standard deviation.

    Parameters
    ----------
    mean
        ``(batch or 1, tissue, y, x)``.
    components
        Orthogonal, each of the length of its standard deviation over the cohort.
        ``(batch or 1, component, tissue, y, x)``.
    clamp
        Clamp to [0, 1] in the forward pass.
    """

    mean: Tensor
    components: Tensor
    clamp: bool = False
    name: str = "pca"

    def base(self) -> Tensor:
        """Return the cohort's mean."""
        return self.mean

    def linear(self, x: Tensor) -> Tensor:
        """Combine the components."""
        return torch.einsum("bk,bktyx->btyx", x, self.components.expand(len(x), -1, -1, -1, -1))

    def transpose(self, p: Tensor) -> Tensor:
        """Correlate with the components."""
        return torch.einsum("btyx,bktyx->bk", p, self.components.expand(len(p), -1, -1, -1, -1))

    def inverse(self, p: Tensor) -> Tensor:
        """Project onto the components."""
        return self.transpose(p - self.mean) / self.components.square().sum((-3, -2, -1))

    def per_voxel(self, tissues: int) -> float:  # noqa: ARG002
        """Global."""
        return 0.0

    def select(self, index: Tensor) -> Self:
        """Return the parametrisation of some batch items."""
        if len(self.mean) == 1:
            return self
        return replace(self, mean=self.mean[index], components=self.components[index])


@dataclass(frozen=True, eq=False)
class PaperPca(CohortPca):
    """The paper's variant: components without the mean, through a sigmoid.

    Zero coefficients give 0.5 everywhere, so the cohort mean is not in reach; kept to compare.
    """

    name: str = "pca-paper"

    def base(self) -> float:  # type: ignore[override]
        """No mean."""
        return 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Sigmoid of the combination."""
        return torch.sigmoid(self.linear(x))

    def inverse(self, p: Tensor) -> Tensor:
        """Project the logit onto the components."""
        logit = torch.logit(p.clamp(EDGE, 1 - EDGE))
        return self.transpose(logit) / self.components.square().sum((-3, -2, -1))

    def _free(self, x: Tensor) -> Tensor:
        p = self.forward(x)
        return p * (1 - p)


def principal_components(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return mean and principal components of a cohort, in float64 inside.

    Parameters
    ----------
    maps
        ``(batch or 1, subject, tissue, y, x)``.
    count
        Components to keep, at most the subjects minus one.

    Returns
    -------
    tuple of Tensor
        Mean ``(b, tissue, y, x)`` and components ``(b, count, tissue, y, x)``, each as long as its
        standard deviation over the cohort.

    Raises
    ------
    InvalidInput
        If more components are asked for than the cohort holds.
    """
    _check_maps(maps)
    subjects = maps.shape[1]
    if not 1 <= count <= subjects - 1:
        msg = (
            f"the number of components must be in 1..{subjects - 1} for {subjects} other subjects, "
            f"got {count}; lower it"
        )
        raise InvalidInput(msg)
    mean = maps.double().mean(1, keepdim=True)
    _, sizes, right = torch.linalg.svd((maps.double() - mean).flatten(2), full_matrices=False)
    scaled = right[:, :count] * (sizes[:, :count, None] / (subjects - 1) ** 0.5)
    components = scaled.reshape(len(maps), count, *maps.shape[2:])
    return mean[:, 0].to(maps.dtype), components.to(maps.dtype)


def _least_squares(matrix: Tensor, values: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.pinv(matrix, rtol=1e-10) @ values
    return solution


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 5:
        msg = (
            "cohort maps must have shape (batch, subject, tissue, y, x), got "
            f"{tuple(maps.shape)}; add a batch axis of 1"
        )
        raise InvalidInput(msg)
