"""The inner problem: minimise a convex quadratic over voxel-wise polytopes.

    m(d) = g.d + 1/2 d^T H d   over   x + d in the polytopes

H is known by its products only, each of which costs one forward and one adjoint. The method
alternates two exact steps: an active-set guess (the minimiser of the model in which H is replaced
by its diagonal blocks, found face by face) and preconditioned conjugate gradients inside the
guessed faces, followed by a projection in the block metric and an exact line search, so the model
never rises [compare More & Toraldo, SIAM J. Optim. 1, 93 (1991)]. At a fixed point of the guess
the KKT conditions hold exactly. Every batch item has its own steps and stops on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

_TINY = 1e-300

Product = Callable[[Tensor], Tensor]


class Metric(Protocol):
    """Constraint sets with a positive definite block metric; see `face_metric.FaceMetric`."""

    def minimise(self, x: Tensor, gradient: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the step of the block model from ``x``, and the faces of its end."""
        ...

    def inside(self, face: Tensor, /) -> Product:
        """Preconditioner inside the faces."""
        ...

    def off_face(self, x: Tensor, face: Tensor, /) -> Tensor:
        """Displacement from ``x`` to the planes of the faces."""
        ...

    def outside(self, q: Tensor, /) -> Tensor:
        """Voxels that violate the constraints."""
        ...

    def squared_norm(self, d: Tensor, /) -> Tensor:
        """``d^T B d`` per batch item."""
        ...

    def apply(self, d: Tensor, /) -> Tensor:
        """``B d``."""
        ...


@dataclass(frozen=True)
class Limits:
    """When the inner problem is solved well enough.

    Parameters
    ----------
    forcing
        Reduction of the natural residual (block norm) to reach, per batch item ``(batch,)``.
    products
        Most products with H.
    floor
        Residual (squared block norm) below which nothing is gained.
    face_reduction
        Reduction of the residual inside a face before faces are guessed again.
    """

    forcing: Tensor
    products: int
    floor: float = 0.0
    face_reduction: float = 0.1


@dataclass
class Model:
    """State of the inner iteration: the step so far and the model's gradient there."""

    delta: Tensor
    gradient: Tensor
    products: int = 0

    def decrease(self, start_gradient: Tensor) -> Tensor:
        """``-m(delta)`` per batch item: m = 1/2 delta.(g + (g + H delta))."""
        return -0.5 * dot(self.delta, start_gradient + self.gradient)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per batch item, summed in float64."""
    return (a * b).double().flatten(1).sum(1)


def scaled(t: Tensor, d: Tensor) -> Tensor:
    """Scale each batch item of ``d`` by its own factor."""
    return t.to(d.dtype).reshape(-1, *[1] * (d.ndim - 1)) * d


def minimise_model(
    x: Tensor, gradient: Tensor, product: Product, metric: Metric, limits: Limits
) -> Model:
    """Minimise the quadratic model from ``x``; ``x`` plus the result's step is feasible.

    Parameters
    ----------
    x, gradient
        Feasible point and gradient of the model there. ``(batch, ...)``.
    product
        ``d -> H d``.
    metric
        Constraints and block metric.
    limits
        Accuracy and cost allowed.

    Returns
    -------
    Model
        Step, model gradient at its end, and products spent.
    """
    inner = _Inner(x, product, metric, limits, Model(torch.zeros_like(x), gradient))
    step, face = metric.minimise(x, gradient)
    residual = metric.squared_norm(step)
    inner.goal = (limits.forcing.square() * residual).clamp_min(limits.floor)
    while inner.model.products < limits.products:
        open_ = residual > inner.goal
        if not bool(open_.any()):
            break
        inner.round(scaled(open_, step), face, open_, residual)
        step, face = metric.minimise(x + inner.model.delta, inner.model.gradient)
        residual = metric.squared_norm(step)
    return inner.model


@dataclass
class _Inner:
    """One inner solve: go to guessed faces, run conjugate gradients, project, search the line."""

    x: Tensor
    product: Product
    metric: Metric
    limits: Limits
    model: Model
    goal: Tensor = field(default_factory=lambda: torch.zeros(()))

    def round(self, step: Tensor, face: Tensor, open_: Tensor, residual: Tensor) -> None:
        """Improve the model's step for the open batch items; the model never rises."""
        delta, gradient = self.model.delta, self.model.gradient
        away = scaled(open_, self.metric.off_face(self.x + delta, face))
        moves = dot(away, away) > 0
        if bool(moves.any()):
            delta, gradient = self._move(delta, gradient, scaled(moves, step))
        delta, gradient = self._conjugate_gradients(delta, gradient, face, open_)
        outside = self.metric.outside(self.x + delta)
        if bool(outside.any()):
            back, _ = self.metric.minimise(self.x + delta, torch.zeros_like(delta))
            delta, gradient = self._move(delta, gradient, back * outside.unsqueeze(1))
        decrease = self._line_search(delta, gradient)
        stuck = open_ & (decrease < 0.005 * residual)
        if bool(stuck.any()):
            self._line_search(
                *self._move(self.model.delta, self.model.gradient, scaled(stuck, step))
            )

    def _move(self, delta: Tensor, gradient: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        self.model.products += 1
        return delta + change, gradient + self.product(change)

    def _conjugate_gradients(
        self, delta: Tensor, gradient: Tensor, face: Tensor, open_: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Minimise inside the faces until the residual there has fallen enough."""
        precondition = self.metric.inside(face)
        z = scaled(open_, precondition(gradient))
        descent, size = -z, dot(gradient, z)
        goal = torch.maximum(self.limits.face_reduction**2 * size, 0.5 * self.goal)
        running = open_ & (size > goal)
        while bool(running.any()) and self.model.products < self.limits.products:
            image = self.product(descent)
            self.model.products += 1
            t = running * size / dot(descent, image).clamp_min(_TINY)
            delta, gradient = delta + scaled(t, descent), gradient + scaled(t, image)
            z = scaled(running, precondition(gradient))
            previous, size = size, torch.where(running, dot(gradient, z), size)
            running = running & (size > goal)
            descent = scaled(running, scaled(size / previous.clamp_min(_TINY), descent) - z)
        return delta, gradient

    def _line_search(self, delta: Tensor, gradient: Tensor) -> Tensor:
        """Go to the model's lowest point on the way to ``delta``; return the decrease."""
        change, curvature = delta - self.model.delta, gradient - self.model.gradient
        slope, bend = dot(self.model.gradient, change), dot(change, curvature)
        t = (-slope / bend.clamp_min(_TINY)).clamp(0.0, 1.0) * (slope < 0)
        self.model.delta = self.model.delta + scaled(t, change)
        self.model.gradient = self.model.gradient + scaled(t, curvature)
        return -t * slope - 0.5 * t.square() * bend
