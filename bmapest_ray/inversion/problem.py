"""The inverse problem as one composed objective.

    objective = fidelity @ simulate @ parametrisation (+ prior)

A solver sees only an `Objective`: values, gradients and Gauss-Newton products. Everything has a
batch axis in front; values have shape ``(batch,)`` in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from bmapest_ray.inversion.blocks import weighted_blocks
from bmapest_ray.inversion.coarse import Blend, Jacobian, stand_in
from bmapest_ray.inversion.face_metric import FaceMetric, face_metric
from bmapest_ray.inversion.loss import Fidelity, Local
from bmapest_ray.inversion.metric import ScalarMetric
from bmapest_ray.inversion.parametrisation import Direct, Parametrisation
from bmapest_ray.inversion.ports import ForwardModel, LinearModel
from bmapest_ray.inversion.quadratic import dot
from bmapest_ray.inversion.tangent import StackedModel, linearised, needs_tangent, tangent_of


@runtime_checkable
class Prior(Protocol):
    """A penalty on maps, minus the log of a prior density up to a constant."""

    @property
    def name(self) -> str:
        """Short name."""
        ...

    def value(self, p: Tensor) -> Tensor:
        """Penalty of each batch item, float64 ``(batch,)``."""
        ...

    def gradient(self, p: Tensor) -> Tensor:
        """Gradient of `value`."""
        ...

    def curvature(self, p: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``dp -> L dp`` with a positive semidefinite curvature (the precision)."""
        ...

    def blocks(self, p: Tensor) -> Tensor:
        """Diagonal blocks of the curvature, ``(batch or 1, tissue, tissue, y, x)``."""
        ...

    def select(self, index: Tensor) -> Self:
        """Return the prior of some batch items."""
        ...


@dataclass(frozen=True)
class Point:
    """The objective at ``x``: maps ``p``, images ``s`` and the value ``(batch,)``.

    ``tangent`` is the derivative of a non-linear model there, where it came with the images.
    """

    x: Tensor
    p: Tensor
    s: Tensor
    value: Tensor
    tangent: ForwardModel | None = None

    def rows(self, index: Tensor) -> Point:
        """Return the point of some batch items, without its tangent."""
        return Point(self.x[index], self.p[index], self.s[index], self.value[index])

    def put(self, index: Tensor, rows: Point) -> Point:
        """Return the point with other rows for some batch items, without its tangent."""
        return Point(
            x=self.x.index_copy(0, index, rows.x),
            p=self.p.index_copy(0, index, rows.p),
            s=self.s.index_copy(0, index, rows.s),
            value=self.value.index_copy(0, index, rows.value),
        )


def merge_points(good: Tensor, new: Point, old: Point) -> Point:
    """Take the new point where it is good, item by item."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(good.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    tangent: ForwardModel | None = None
    if isinstance(new.tangent, StackedModel) and isinstance(old.tangent, StackedModel):
        tangent = new.tangent.choose(good, old.tangent)
    return Point(
        x=pick(new.x, old.x),
        p=pick(new.p, old.p),
        s=pick(new.s, old.s),
        value=pick(new.value, old.value),
        tangent=tangent,
    )


@dataclass(frozen=True)
class Linearisation:
    """First and (Gauss-Newton) second order information at a point, and the tangent model.

    Parameters
    ----------
    gradient
        With respect to the unknowns.
    product
        Gauss-Newton product; each costs one jvp and one vjp.
    tangent
        The full tangent model.
    cheap_product
        Returns the product in which the items not marked, bool ``(batch,)``, use a stand-in.
    """

    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    tangent: ForwardModel
    cheap_product: Callable[[Tensor], Callable[[Tensor], Tensor]]


Metric = FaceMetric | ScalarMetric

QUADRATIC = ("complex", "kspace-complex", "raw", "kspace-smoothed")
"""Fidelities that are quadratic in the images."""


@dataclass(frozen=True)
class Problem:
    """Composition of a fidelity, a forward model, a parametrisation and an optional prior.

    Parameters
    ----------
    constraint
        Voxel-wise set that the unknowns stay in: ``"simplex"``, ``"box"`` or ``"none"``.
    preconditioner
        Linear model whose diagonal blocks serve as preconditioner where neither the model nor
        its tangent has blocks of its own.
    """

    fidelity: Fidelity
    model: ForwardModel
    parametrisation: Parametrisation = field(default_factory=Direct)
    prior: Prior | None = None
    constraint: str = "simplex"
    preconditioner: LinearModel | None = None

    def point(self, x: Tensor, *, tangent: bool = False) -> Point:
        """Evaluate the objective: one forward.

        With ``tangent`` a model that has one gives it along, in one go with the images.
        """
        p = self.parametrisation.forward(x)
        derivative: ForwardModel | None = None
        if tangent and needs_tangent(self.model):
            s, derivative = linearised(self.model, p)
        else:
            s = self.model.forward(p)
        value = self.fidelity.value(s)
        if self.prior is not None:
            value = value + self.prior.value(p)
        return Point(x, p, s, value, derivative)

    def gradient(
        self, point: Point, local: Local | None = None, tangent: ForwardModel | None = None
    ) -> Tensor:
        """Gradient with respect to the unknowns: one adjoint."""
        local = self.fidelity.local(point.s) if local is None else local
        dp = (tangent or self.model).vjp(point.p, local.gradient)
        if self.prior is not None:
            dp = dp + self.prior.gradient(point.p)
        return self.parametrisation.vjp(point.x, dp)

    def linearise(self, point: Point) -> Linearisation:
        """Gradient and Gauss-Newton products."""
        local = self.fidelity.local(point.s)
        curvature = local.curvature
        if curvature is None:
            msg = f"the loss '{self.fidelity.name}' has no Gauss-Newton linearisation"
            raise NotImplementedError(msg)
        bend = self.prior.curvature(point.p) if self.prior is not None else None
        tangent = point.tangent
        if tangent is None:
            tangent = tangent_of(self.model, point.p)

        def product(model: Jacobian, dx: Tensor) -> Tensor:
            dp = self.parametrisation.jvp(point.x, dx)
            out = model.vjp(point.p, curvature(model.jvp(point.p, dp)))
            return self.parametrisation.vjp(point.x, out if bend is None else out + bend(dp))

        def cheap_product(exact: Tensor) -> Callable[[Tensor], Tensor]:
            cheap = stand_in(tangent)
            return partial(product, tangent if cheap is None else Blend(tangent, cheap, exact))

        gradient = self.gradient(point, local, tangent)
        return Linearisation(gradient, partial(product, tangent), tangent, cheap_product)

    def metric(self, point: Point, linearisation: Linearisation) -> Metric:
        """Constraints and block metric at a point."""
        blocks = self._data_blocks(linearisation.tangent)
        if blocks is not None and self.prior is not None:
            blocks = blocks + self.prior.blocks(point.p).to(blocks.dtype)
        if blocks is not None:
            blocks = self.parametrisation.blocks(point.x, blocks)
        if blocks is not None:
            return face_metric(self.constraint, blocks, self.parametrisation.capacity())
        gradient = linearisation.gradient
        bend = dot(gradient, linearisation.product(gradient))
        return ScalarMetric((bend / dot(gradient, gradient).clamp_min(1e-300)).clamp_min(1e-300))

    def evidence(self, point: Point) -> tuple[Tensor, Tensor] | None:
        """Slope and voxel-wise curvature of the misfit alone, by the maps.

        ``(batch, tissue, y, x)`` and ``(batch or 1, tissue, tissue, y, x)``; None where neither the
        model nor a preconditioner has blocks.
        """
        tangent = point.tangent or tangent_of(self.model, point.p)
        blocks = self._data_blocks(tangent)
        if blocks is None:
            return None
        return tangent.vjp(point.p, self.fidelity.local(point.s).gradient), blocks

    @property
    def constant_metric(self) -> bool:
        """Whether `metric` is the same at every point."""
        pointwise = self.prior is None and isinstance(self.parametrisation, Direct)
        return pointwise and isinstance(self.model, LinearModel)

    @property
    def quadratic(self) -> bool:
        """Whether the misfit of the maps is the same quadratic at every point."""
        phases_known = self.fidelity.name in QUADRATIC
        return phases_known and isinstance(self.model, LinearModel)

    def _data_blocks(self, tangent: ForwardModel) -> Tensor | None:
        """Whitened diagonal blocks ``(batch or 1, tissue, tissue, y, x)``."""
        model = tangent if isinstance(tangent, LinearModel) else self.preconditioner
        if model is None:
            return None
        weights = self.fidelity.weights
        if weights.ndim == 4:
            weights = weights.mean((0, 2, 3))
        blocks = weighted_blocks(model, weights)
        return blocks if blocks.ndim == 5 else blocks[None]

    def select(self, index: Tensor) -> Problem:
        """Return the problem of some batch items."""
        prior = None if self.prior is None else self.prior.select(index)
        return replace(
            self,
            fidelity=self.fidelity.select(index),
            parametrisation=self.parametrisation.select(index),
            prior=prior,
        )


def feasible(x: Tensor, problem: Problem) -> Tensor:
    """Euclidean projection of voxel-wise unknowns onto the problem's constraint set."""
    if problem.constraint == "none":
        return x
    metric = identity_metric(x, problem.constraint, problem.parametrisation.capacity())
    step, _ = metric.minimise(x, torch.zeros_like(x))
    return metric.tidy(x + step)


def identity_metric(x: Tensor, constraint: str, capacity: Tensor | None) -> FaceMetric:
    """Return the constraint set with the Euclidean metric in every voxel."""
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[None, :, :, None, None]
    blocks = identity.expand(1, -1, -1, *x.shape[-2:])
    return face_metric(constraint, blocks, capacity, floor=0.0)
