"""Voxel-wise constraint sets as lists of faces, and exact small quadratic programs on them.

A voxel's fractions lie in a polytope: the simplex ``p >= 0, sum p <= capacity``, the box
``0 <= p <= capacity``, or all of space. With three tissues a simplex has 15 faces (interior, 4
facets, 6 edges, 4 vertices), so the minimiser of a strictly convex quadratic over it is found
exactly by trying all faces: the best feasible minimiser on a face's plane is the solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

FEASIBILITY = 8.0
"""How far a candidate may be outside, in units of the number type's rounding, to be feasible."""


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


@dataclass(frozen=True)
class FaceMetric:
    """A polytope per voxel with a metric per voxel: positive definite blocks ``B(v)``.

    Built by `face_metric`. Batch axes of size 1 broadcast.

    Parameters
    ----------
    blocks
        ``(batch or 1, tissue, tissue, y, x)``.
    steps
        ``Z (Z^T B Z)^-1 Z^T`` of each face, ``(face, batch or 1, tissue, tissue, y, x)``.
    normal_parts
        ``I - Z Z^T`` of each face, ``(face, tissue, tissue)``.
    offsets
        Closest points of the faces' planes, times the capacity: ``(face, b, tissue, y, x)``.
    """

    polytope: Polytope
    blocks: Tensor
    steps: Tensor
    normal_parts: Tensor
    offsets: Tensor
    limits: Tensor
    normals: Tensor

    def minimise(
        self, x: Tensor, gradient: Tensor, scale: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Minimise ``g.(q-x) + scale/2 (q-x)^T B (q-x)`` over ``q`` in the polytope, exactly.

        Returns
        -------
        tuple of Tensor
            The step ``q - x`` ``(batch, tissue, y, x)`` and the face of ``q`` ``(batch, y, x)``.
        """
        scaled = gradient / scale
        to_face = _apply(self.normal_parts[:, None, :, :, None, None], self.offsets - x)
        lifted = scaled + _apply(self.blocks, to_face)
        steps = to_face - _apply(self.steps, lifted)
        costs = (steps * (scaled + 0.5 * _apply(self.blocks, steps))).sum(2)
        face = costs.masked_fill(~self._feasible(x + steps), torch.inf).argmin(0)
        index = face[None, :, None].expand(1, *x.shape)
        return steps.gather(0, index)[0], face

    def _feasible(self, q: Tensor) -> Tensor:
        inside = torch.ones_like(q[..., 0, :, :], dtype=torch.bool)
        slack = FEASIBILITY * torch.finfo(q.dtype).eps
        for normal, limit in zip(self.normals, self.limits, strict=True):
            inside &= torch.einsum("t,...tyx->...yx", normal, q) <= limit + slack
        return inside

    def inside(self, face: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the preconditioner ``g -> Z (Z^T B Z)^-1 Z^T g`` of each voxel's face."""
        if len(self.steps) == 1:
            chosen = self.steps[0]
        else:
            shape = (1, *face.shape[:1], *self.steps.shape[2:])
            index = face[None, :, None, None].expand(shape)
            chosen = self.steps.expand(-1, face.shape[0], -1, -1, -1, -1).gather(0, index)[0]
        return lambda g: _apply(chosen, g)

    def off_face(self, x: Tensor, face: Tensor) -> Tensor:
        """Displacement from ``x`` to the plane of each voxel's face."""
        parts = self.normal_parts[face].movedim((-2, -1), (1, 2))
        index = face[None, :, None].expand(1, *x.shape)
        offsets = self.offsets.expand(-1, x.shape[0], -1, -1, -1).gather(0, index)[0]
        return _apply(parts, offsets - x)

    def outside(self, q: Tensor) -> Tensor:
        """Voxels that violate the constraints, ``(batch, y, x)``."""
        return ~self._feasible(q)

    def squared_norm(self, d: Tensor) -> Tensor:
        """``d^T B d`` of each batch item, float64."""
        return (d * _apply(self.blocks, d)).double().flatten(1).sum(1)

    def apply(self, d: Tensor) -> Tensor:
        """``B d``."""
        return _apply(self.blocks, d)

    def tidy(self, p: Tensor) -> Tensor:
        """Remove violations of rounding size, exactly: afterwards ``p`` is feasible."""
        if self.polytope.name == "none":
            return p
        p = p.clamp_min(0.0)
        capacity = self.limits[-1]
        if self.polytope.name == "box":
            return torch.minimum(p, capacity[:, None])
        total = p.sum(1, keepdim=True)
        return torch.where(total > capacity[:, None], p * (capacity[:, None] / total), p)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Multiply ``(..., t, u, y, x)`` by ``(..., u, y, x)`` voxel by voxel."""
    return (matrices * vectors.unsqueeze(-4)).sum(-3)


def face_metric(
    name: str, blocks: Tensor, capacity: Tensor | None = None, floor: float = 1e-4
) -> FaceMetric:
    """Build the faces of a constraint set with the metric of some blocks.

    Parameters
    ----------
    name
        ``"simplex"``, ``"box"`` or ``"none"``.
    blocks
        Positive semidefinite, ``(batch or 1, tissue, tissue, y, x)``.
    capacity
        Largest sum (simplex) or value (box), ``(batch or 1, 1, y, x)``; None is 1.
    floor
        Added to the diagonal of every block, relative to the mean trace over voxels, so that
        every block is positive definite.
    """
    tissues = blocks.shape[1]
    shape = polytope(name, tissues)
    kind: dict[str, Any] = {"dtype": blocks.dtype, "device": blocks.device}
    trace = blocks.diagonal(dim1=1, dim2=2).sum(-1).mean() / tissues
    identity = torch.eye(tissues, **kind)[None, :, :, None, None]
    blocks = blocks + identity * (floor * trace).clamp_min(torch.finfo(blocks.dtype).tiny)
    if capacity is None:
        capacity = torch.ones((1, 1, *blocks.shape[-2:]), **kind)
    offsets = torch.as_tensor(shape.offsets, **kind)[:, None, :, None, None] * capacity
    bases = [torch.as_tensor(basis, **kind) for basis in shape.bases]
    parts = torch.stack([torch.eye(tissues, **kind) - basis @ basis.T for basis in bases])
    limits = torch.as_tensor(shape.bounds, **kind)[:, None, None, None] * capacity[:, 0]
    normals = torch.as_tensor(shape.normals, **kind)
    steps = torch.stack([_face_step(blocks, basis) for basis in bases])
    return FaceMetric(shape, blocks, steps, parts, offsets, limits, normals)


def _face_step(blocks: Tensor, basis: Tensor) -> Tensor:
    """``Z (Z^T B Z)^-1 Z^T`` per voxel, zero on a vertex."""
    if basis.shape[1] == 0:
        return torch.zeros_like(blocks)
    reduced = torch.einsum("ti,btuyx,uj->byxij", basis, blocks, basis)
    return torch.einsum("ti,byxij,uj->btuyx", basis, torch.linalg.inv(reduced), basis)
