"""Exact small quadratic programs: the minimiser of a block quadratic over each voxel's polytope.

The minimiser of a strictly convex quadratic over a polytope is the best feasible one of the
minimisers on the planes of its faces. Voxels whose unconstrained minimiser is feasible are done at
once; for the others all faces are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bmapest_ray.inversion.polytope import Polytope, polytope

FEASIBILITY = 8.0
"""How far a candidate may be outside, in units of the number type's rounding, to be feasible."""


@dataclass(frozen=True, eq=False)
class FaceMetric:
    """A polytope per voxel with a metric per voxel: positive definite blocks ``B(v)``.

    Built by `face_metric`. Batch axes of size 1 broadcast.

    Parameters
    ----------
    blocks
        ``(batch or 1, tissue, tissue, y, x)``.
    table
        ``Z (Z^T B Z)^-1 Z^T`` of each face, voxel-major: ``(batch or 1, y, x, face, t, t)``.
    normal_parts
        ``I - Z Z^T`` of each face, ``(face, tissue, tissue)``.
    offsets
        Closest points of the faces' planes for capacity 1, ``(face, tissue)``.
    capacity
        Largest sum (simplex) or value (box), ``(batch or 1, 1, y, x)``.
    """

    polytope: Polytope
    blocks: Tensor
    table: Tensor
    normal_parts: Tensor
    offsets: Tensor
    capacity: Tensor

    def minimise(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Minimise ``g.(q-x) + 1/2 (q-x)^T B (q-x)`` over ``q`` in the polytope, exactly.

        Returns
        -------
        tuple of Tensor
            The step ``q - x`` ``(batch, tissue, y, x)`` and the face of ``q`` ``(batch, y, x)``.
        """
        step = -_apply(_voxel_last(self.table[..., 0, :, :]), gradient)
        face = torch.zeros(x.shape[:1] + x.shape[2:], dtype=torch.int64, device=x.device)
        if self.polytope.name == "none":
            return step, face
        empty = (self.capacity[:, 0] <= 0).expand(face.shape)
        step = torch.where(empty.unsqueeze(1), -x, step)
        face = torch.where(empty, self.polytope.origin, face)
        blocked = (~self._feasible(x + step)).nonzero(as_tuple=True)
        if len(blocked[0]):
            item, rows, columns = blocked
            constrained, face[item, rows, columns] = self._on_faces(x, gradient, blocked)
            step[item, :, rows, columns] = constrained
        return step, face

    def _on_faces(
        self, x: Tensor, gradient: Tensor, where: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Try all faces for some voxels; steps ``(n, tissue)`` and faces ``(n,)``."""
        item, rows, columns = where
        own = item if len(self.blocks) > 1 else torch.zeros_like(item)
        blocks = self.blocks[own, :, :, rows, columns].permute(1, 2, 0).contiguous()
        table = self.table[own, rows, columns].permute(1, 2, 3, 0).contiguous()
        whose = item if len(self.capacity) > 1 else torch.zeros_like(item)
        capacity = self.capacity[whose, 0, rows, columns]
        start = x[item, :, rows, columns].T.contiguous()
        slope = gradient[item, :, rows, columns].T.contiguous()
        away = self.offsets[:, :, None] * capacity - start
        to_face = _times(self.normal_parts.unsqueeze(-1), away)
        steps = to_face - _times(table, slope + _times(blocks, to_face))
        costs = (steps * (slope + 0.5 * _times(blocks, steps))).sum(1)
        costs = costs.masked_fill(~self._within(start + steps, capacity), torch.inf)
        face = costs.argmin(0)
        return steps[face, :, torch.arange(len(face), device=face.device)], face

    def _within(self, q: Tensor, capacity: Tensor, dim: int = -2) -> Tensor:
        """Feasibility, up to rounding, of fractions along ``dim``."""
        slack = FEASIBILITY * torch.finfo(q.dtype).eps
        total = q.sum(dim) if self.polytope.name == "simplex" else q.amax(dim)
        return (q.amin(dim) >= -slack) & (total <= capacity + slack)

    def _feasible(self, q: Tensor) -> Tensor:
        if self.polytope.name == "none":
            return torch.ones_like(q[:, 0], dtype=torch.bool)
        return self._within(q, self.capacity[:, 0], dim=1)

    def inside(self, face: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the preconditioner ``g -> Z (Z^T B Z)^-1 Z^T g`` of each voxel's face."""
        if self.table.shape[3] == 1:
            chosen = _voxel_last(self.table[..., 0, :, :])
        else:
            table = self.table.expand(len(face), -1, -1, -1, -1, -1)
            index = face[..., None, None, None].expand(*face.shape, 1, *table.shape[-2:])
            chosen = _voxel_last(table.gather(3, index)[..., 0, :, :])
        return lambda g: _apply(chosen, g)

    def off_face(self, x: Tensor, face: Tensor) -> Tensor:
        """Displacement from ``x`` to the plane of each voxel's face."""
        if self.polytope.name == "none":
            return torch.zeros_like(x)
        parts = _voxel_last(self.normal_parts[face])
        return _apply(parts, self.offsets[face].movedim(-1, 1) * self.capacity - x)

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
        if self.polytope.name == "box":
            return torch.minimum(p, self.capacity)
        total = p.sum(1, keepdim=True)
        return torch.where(total > self.capacity, p * (self.capacity / total), p)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Multiply ``(..., t, u, y, x)`` by ``(..., u, y, x)`` voxel by voxel."""
    return (matrices * vectors.unsqueeze(-4)).sum(-3)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Multiply ``(..., t, u, n)`` by ``(..., u, n)``."""
    return (matrices * vectors.unsqueeze(-3)).sum(-2)


def _voxel_last(matrices: Tensor) -> Tensor:
    """Turn ``(b, y, x, t, u)`` into ``(b, t, u, y, x)``."""
    return matrices.permute(0, 3, 4, 1, 2).contiguous()


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
    identity = torch.eye(tissues, **kind)
    lift = (floor * trace).clamp_min(torch.finfo(blocks.dtype).tiny)
    blocks = blocks + (identity * lift)[None, :, :, None, None]
    if capacity is None:
        capacity = torch.ones((1, 1, *blocks.shape[-2:]), **kind)
    bases = [torch.as_tensor(basis, **kind) for basis in shape.bases]
    voxels = blocks.permute(0, 3, 4, 1, 2)
    return FaceMetric(
        polytope=shape,
        blocks=blocks,
        table=torch.stack([_face_step(voxels, basis) for basis in bases], dim=3),
        normal_parts=torch.stack([identity - basis @ basis.T for basis in bases]),
        offsets=torch.as_tensor(shape.offsets, **kind),
        capacity=capacity.to(**kind),
    )


def _face_step(voxels: Tensor, basis: Tensor) -> Tensor:
    """``Z (Z^T B Z)^-1 Z^T`` of blocks ``(b, y, x, t, t)``, zero on a vertex."""
    if basis.shape[1] == 0:
        return torch.zeros_like(voxels)
    inverse: Tensor = torch.linalg.inv(basis.T @ voxels @ basis)
    return basis @ inverse @ basis.T
