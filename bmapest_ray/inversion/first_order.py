"""Gradient-only solvers over any parametrisation: Adam, AdamW, SGD and L-BFGS of torch.

One torch optimiser per batch item keeps the items independent and the state serialisable. The
paper's fit is `settings.PAPER_SOLVER`: Adam without constraints, clamped only when it is scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.problem import Point, Problem, feasible
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.result import Status, Step
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.stopping import stalled_over_window


def make_optimiser(x: Tensor, settings: SolverSettings) -> torch.optim.Optimizer:
    """Return the torch optimiser of the settings over one tensor."""
    if settings.name == "adam":
        return torch.optim.Adam([x], lr=settings.learning_rate)
    if settings.name == "adamw":
        return torch.optim.AdamW([x], settings.learning_rate, weight_decay=settings.weight_decay)
    if settings.name == "sgd":
        return torch.optim.SGD([x], lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.LBFGS(
        [x], lr=1.0, max_iter=1, max_eval=25, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip


@dataclass
class FirstOrder:
    """The solver; `advance` takes one optimiser step of every open batch item."""

    problem: Problem
    settings: SolverSettings
    _items: dict[int, _Item] = field(default_factory=dict, repr=False)

    def begin(self, x: Tensor) -> Progress:
        """Return the state at a start."""
        progress = Progress.start(x)
        progress.extra = {"items": [{} for _ in x]}
        return progress

    def advance(self, progress: Progress) -> None:
        """Take one iteration."""
        for number in progress.index.tolist():
            item = self._item(progress, number)
            before = item.x.detach().clone()
            value, spent = item.step(progress.iteration)
            self._record(progress, number, item, before, value, spent)
            if bool(progress.open[number]):
                progress.x[number] = item.x.detach()[0]
            progress.extra["items"][number] = item.state()
        progress.iteration += 1

    def _item(self, progress: Progress, number: int) -> _Item:
        if number not in self._items:
            index = torch.tensor([number])
            stored = progress.extra["items"][number]
            x = progress.x[index].clone()
            self._items[number] = _Item(self.problem.select(index), self.settings, x, stored)
        return self._items[number]

    def _record(
        self, progress: Progress, number: int, item: _Item, before: Tensor, value: float,
        spent: float,
    ) -> None:  # fmt: skip
        history = progress.history[number]
        last = history[-1].objective if history else value
        moved = float((item.x.detach() - before).double().square().mean().sqrt())
        history.append(
            Step(
                iteration=progress.iteration,
                objective=value,
                relative_decrease=(last - value) / max(abs(last), 1e-300),
                projected_gradient=moved,
                damping=self.settings.learning_rate,
                products=(history[-1].products if history else 0.0) + spent,
                seconds=progress.elapsed,
            )
        )
        self._stop(progress, number, moved, before)

    def _stop(self, progress: Progress, number: int, moved: float, before: Tensor) -> None:
        history, settings = progress.history[number], self.settings
        stalled = stalled_over_window(history, settings.decrease_tolerance)
        if not math.isfinite(history[-1].objective) or not math.isfinite(moved):
            progress.close(number, Status.DIVERGED, "The objective is not a finite number.")
        elif history[-1].objective > 1e6 * max(history[0].objective, 1e-300):
            progress.close(number, Status.DIVERGED, "It grew a millionfold; lower learning_rate.")
        elif moved <= settings.gradient_tolerance:
            reason = f"The last update moved the unknowns by {moved:.1e} (rms)."
            progress.close(number, Status.CONVERGED, reason)
        elif stalled is not None:
            progress.close(number, Status.CONVERGED, stalled)
        elif progress.iteration >= settings.iterations_limit:
            progress.close(number, Status.MAX_ITERATIONS, f"It is {progress.iteration}.")
        if not bool(progress.open[number]) and torch.isfinite(before).all():
            progress.x[number] = before[0]


class _Item:
    """One batch item: its problem, its optimiser and its own random numbers."""

    def __init__(
        self, problem: Problem, settings: SolverSettings, x: Tensor, stored: dict[str, Any]
    ) -> None:
        self.problem, self.settings = problem, settings
        self.x = x.requires_grad_()
        self.optimiser = make_optimiser(self.x, settings)
        self.noise = generator("gradient noise", settings.seed)
        self.evaluations = 0
        if stored:
            self.optimiser.load_state_dict(stored["optimiser"])
            self.noise.set_state(stored["noise"])

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, apart from the unknowns."""
        return {"optimiser": self.optimiser.state_dict(), "noise": self.noise.get_state()}

    def step(self, iteration: int) -> tuple[float, float]:
        """Take one optimiser step; return the objective before it and the operator pairs spent."""
        values: list[float] = []
        before = self.x.detach().clone()

        def closure() -> float:
            with torch.no_grad():
                point = self.problem.point(self.x.detach())
                self.x.grad = self._gradient(point, iteration)
            values.append(float(point.value[0]))
            return values[-1]

        self.optimiser.step(closure)
        with torch.no_grad():
            self._restrict(before, iteration)
        return values[0], float(len(values))

    def _gradient(self, point: Point, iteration: int) -> Tensor:
        gradient = self.problem.gradient(point)
        if self.settings.gradient_noise > 0:
            size = self.settings.gradient_noise * gradient.square().mean().sqrt()
            noise = torch.randn(gradient.shape, generator=self.noise, dtype=gradient.dtype)
            gradient = gradient + size * noise.to(gradient.device)
        if self.settings.alternate:
            gradient = gradient * self._turn(gradient, iteration)
        return gradient

    def _turn(self, x: Tensor, iteration: int) -> Tensor:
        """One for the tissue whose turn it is, zero for the others."""
        turn = torch.zeros(x.shape[1], dtype=x.dtype, device=x.device)
        turn[iteration % x.shape[1]] = 1.0
        return turn.reshape(1, -1, *[1] * (x.ndim - 2))

    def _restrict(self, before: Tensor, iteration: int) -> None:
        """Keep the tissues whose turn it is not, and project onto the constraints."""
        if self.settings.alternate:
            turn = self._turn(self.x, iteration)
            self.x.copy_(turn * self.x + (1 - turn) * before)
        if self.problem.constraint != "none":
            self.x.copy_(feasible(self.x, self.problem))
