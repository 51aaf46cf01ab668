"""Prior over the mixtures a voxel may hold: a few Gaussians on the faces of the simplex.

A voxel is pure (a vertex), shared by two tissues (an edge), by three (the inside), or partly empty
with one tissue or two.
Each component is a point of a lattice with a small Gaussian spread inside its own face, so that
together they cover every mixture, and given a component all posteriors have closed forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

STEP = 0.2
_SPREAD = 0.1
_RIM_STEP = 0.25
_SHARES = {"pure": 0.6, "two": 0.33, "three": 0.03, "void": 0.02, "rim": 0.01, "rim of two": 0.01}


@dataclass(frozen=True, eq=False)
class Components:
    """Mixtures a voxel may hold.

    Parameters
    ----------
    points
        Shape `(component, tissue)`, float32; what is missing to a sum of 1 is empty.
    faces
        Which components lie on each face.
    bases
        Of each face, `(tissue, directions)`: a point of it is ``points + basis z``, z standard
        normal; a vertex has no directions.
    shares
        How common each is before anything is known of a voxel, sums to 1, `(component,)`.
    """

    points: Tensor
    faces: tuple[slice, ...]
    bases: tuple[Tensor, ...]
    shares: Tensor


def simplex_components(tissues: int = 3) -> Components:
    """Return the standard components for GM, WM and CSF (the last may share a voxel with nothing).

    The empty voxel is the first component.
    """
    pure = torch.eye(tissues)
    inner = torch.arange(1, round(1 / STEP)) * STEP
    groups: list[tuple[str, Tensor, Tensor]] = [
        ("void", torch.zeros(1, tissues), torch.zeros(tissues, 0)),
        ("pure", pure, torch.zeros(tissues, 0)),
    ]
    for i in range(tissues):
        for j in range(i):
            points = inner[:, None] * pure[i] + (1 - inner)[:, None] * pure[j]
            groups.append(("two", points, _along([pure[i] - pure[j]])))
    groups += [("rim", inner[:, None] * pure[i], _along([pure[i]])) for i in range(tissues)]
    rims = _rims()
    for i in range(tissues):
        for j in range(i):
            points = rims[:, :1] * pure[i] + rims[:, 1:] * pure[j]
            groups.append(("rim of two", points, _along([pure[i], pure[j]])))
    groups.append(("three", _inside(tissues), _along([pure[0] - pure[1], pure[0] - pure[2]])))
    points = torch.cat([points for _, points, _ in groups])
    ends = list(accumulate(len(points) for _, points, _ in groups))
    faces = tuple(slice(a, b) for a, b in zip([0, *ends], ends, strict=False))
    kinds = [kind for kind, points, _ in groups for _ in range(len(points))]
    shares = torch.tensor([_SHARES[kind] / kinds.count(kind) for kind in kinds])
    return Components(points, faces, tuple(basis for _, _, basis in groups), shares)


def _along(directions: list[Tensor]) -> Tensor:
    """Return orthogonal directions in the span of some, as long as a spread of fractions."""
    basis, _ = torch.linalg.qr(torch.stack(directions, dim=1))
    scaled: Tensor = basis * (_SPREAD * max(float(d.norm()) for d in directions))
    return scaled


def _rims() -> Tensor:
    """Return shares of two tissues that leave some of a voxel empty."""
    parts = round(1 / _RIM_STEP)
    shares = [(i, j) for i in range(1, parts) for j in range(1, parts - i)]
    return torch.tensor(shares, dtype=torch.float32) * _RIM_STEP


def _inside(tissues: int) -> Tensor:
    parts = round(1 / STEP)
    points = [
        (i, j, parts - i - j)
        for i in range(1, parts)
        for j in range(1, parts - i)
        if tissues == 3 and parts - i - j >= 1
    ]
    return torch.tensor(points, dtype=torch.float32) * STEP
