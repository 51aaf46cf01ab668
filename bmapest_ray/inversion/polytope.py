"""Voxel-wise constraint sets as lists of faces.

A voxel's fractions lie in a polytope: the simplex ``p >= 0, sum p <= capacity``, the box
``0 <= p <= capacity``, or all of space. With three tissues a simplex has 15 faces: interior, 4
facets, 6 edges, 4 vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Polytope:
    """``{p : normals p <= bounds * capacity}`` and its faces.

    Parameters
    ----------
    normals, bounds
        Shapes ``(inequality, tissue)`` and ``(inequality,)``.
    offsets
        The point of each face's plane closest to the origin, for capacity 1. ``(face, tissue)``.
    bases
        Orthonormal directions inside each face, one ``(tissue, k)`` array per face.
    """

    name: str
    normals: np.ndarray
    bounds: np.ndarray
    offsets: np.ndarray
    bases: tuple[np.ndarray, ...]

    @property
    def tissues(self) -> int:
        """Dimension."""
        return int(self.normals.shape[1])

    @property
    def origin(self) -> int:
        """Index of the face that is the point zero; of the interior where there is none."""
        at_zero = [
            index
            for index, (offset, basis) in enumerate(zip(self.offsets, self.bases, strict=True))
            if basis.shape[1] == 0 and not offset.any()
        ]
        return at_zero[0] if at_zero else 0


@lru_cache(maxsize=32)
def polytope(name: str, tissues: int) -> Polytope:
    """Return the constraint set ``"simplex"``, ``"box"`` or ``"none"``."""
    identity = np.eye(tissues)
    if name == "simplex":
        normals = np.vstack([-identity, np.ones((1, tissues))])
        bounds = np.r_[np.zeros(tissues), 1.0]
    elif name == "box":
        normals = np.vstack([-identity, identity])
        bounds = np.r_[np.zeros(tissues), np.ones(tissues)]
    else:
        normals, bounds = np.zeros((0, tissues)), np.zeros(0)
    offsets, bases = [], []
    for active in _independent_sets(normals):
        chosen = normals[list(active)]
        offsets.append(np.linalg.pinv(chosen) @ bounds[list(active)])
        _, _, right = np.linalg.svd(chosen, full_matrices=True)
        bases.append(right[len(active) :].T)
    return Polytope(name, normals, bounds, np.array(offsets), tuple(bases))


def _independent_sets(normals: np.ndarray) -> list[tuple[int, ...]]:
    """List the sets of inequalities that can be active together; interior first."""
    found: list[tuple[int, ...]] = []
    for size in range(normals.shape[1] + 1):
        for active in combinations(range(len(normals)), size):
            if np.linalg.matrix_rank(normals[list(active)]) == size:
                found += [active]
    return found
