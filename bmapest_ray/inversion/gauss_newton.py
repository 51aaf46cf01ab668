"""Projected Gauss-Newton with Levenberg damping and exact voxel-wise constraints.

Every outer iteration linearises the objective, minimises the (damped) quadratic model over the
constraint set to a forcing tolerance, and accepts the step only if the objective falls enough.
The step is feasible because the model's minimiser is: nothing is clamped afterwards. A fixed point
fulfils the KKT conditions of the original problem. For complex data the model is exact, so one
outer iteration is a preconditioned, bound-constrained linear least-squares solve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bmapest_ray.inversion.coarse import POOR
from bmapest_ray.inversion.drive import drive
from bmapest_ray.inversion.problem import Linearisation, Metric, Point, Problem, merge_points
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.quadratic import Limits, Model, Product, minimise_model, scaled
from bmapest_ray.inversion.result import Status, Step
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.stopping import Evidence, converged

SUFFICIENT = 1e-4
"""Share of the promised decrease that a step must deliver (Armijo)."""
TRIALS = 3
"""Step lengths 1, 1/2, 1/4 are tried before the damping rises."""
DAMPING_FIRST, DAMPING_LAST = 1e-3, 1e8
MOST_GROWTH = 64
"""Of the inner problem's length, where the model is exact."""
FORCING_MOST, FORCING_LEAST = 0.1, 0.003


@dataclass
class _Cache:
    """What one iteration leaves for the next as long as the same items are open."""

    key: tuple[int, ...]
    problem: Problem
    point: Point | None = None
    metric: Metric | None = None


@dataclass
class GaussNewton:
    """The solver; `advance` does one outer iteration of all open batch items.

    Parameters
    ----------
    problem
        The whole batch.
    settings
        Tolerances and limits.
    noise_known
        Whether the fidelity is whitened by a measured noise level, so that the noise-floor rule
        applies.
    """

    problem: Problem
    settings: SolverSettings
    noise_known: bool
    _cache: _Cache | None = field(default=None, repr=False)

    def begin(self, x: Tensor) -> Progress:
        """Return the state at a feasible start."""
        progress = Progress.start(x)
        first = self.problem.point(x, tangent=True)
        self._cache = _Cache(tuple(range(len(x))), self.problem, first)
        silent = self.problem.fidelity.value(torch.zeros_like(first.s))
        progress.extra = {
            "damping": torch.full((len(x),), self.settings.damping, dtype=torch.float64),
            "residual": torch.zeros(len(x), dtype=torch.float64),
            "energy": silent,
            "stalls": torch.zeros(len(x), dtype=torch.int64),
            "products": 1.0,
        }
        return progress

    def advance(self, progress: Progress) -> None:
        """Take one outer iteration."""
        index = progress.index
        problem, point = self._at(progress, index)
        linearisation = problem.linearise(point)
        metric = self._metric(problem, point, linearisation)
        step, _ = metric.minimise(point.x, linearisation.gradient)
        residual = metric.squared_norm(step)
        self._record(progress, index, point, step)
        self._stop(progress, index, residual)
        going = progress.open[index]
        if bool(going.any()):
            forcing = self._forcing(progress, index, residual).masked_fill(~going, torch.inf)
            limits = Limits(forcing, self._patience(progress), self._floor(progress))
            damping = progress.extra["damping"][index]
            product = _damped(
                linearisation.cheap_product(self._exact(progress, index, residual)), metric, damping
            )
            model = minimise_model(point.x, linearisation.gradient, product, metric, limits)
            self._accept(progress, index, point, linearisation.gradient, model, metric)
            progress.extra["residual"][index] = residual
        progress.iteration += 1

    def point_of(self, progress: Progress, index: Tensor) -> Point:
        """Return the objective at the present unknowns of some of the items of the last step."""
        cache = self._cache
        if cache is None or cache.point is None:
            return self.problem.select(index).point(progress.x[index])
        return cache.point.rows(index.new_tensor([cache.key.index(i) for i in index.tolist()]))

    def relocate(self, progress: Progress, index: Tensor, point: Point) -> None:
        """Go on from elsewhere with some items of the last step."""
        progress.x[index] = point.x
        progress.extra["damping"][index] = self.settings.damping
        progress.extra["residual"][index] = 0.0
        progress.extra["stalls"][index] = 0
        cache = self._cache
        if cache is not None and cache.point is not None:
            rows = index.new_tensor([cache.key.index(i) for i in index.tolist()])
            cache.point = cache.point.put(rows, point)

    def _patience(self, progress: Progress) -> int:
        """Most products of the inner problem.

        A quadratic misfit is its own model: what the first iterations leave is ill-conditioned,
        and conjugate gradients that start anew lose what they learnt of it.
        """
        growth = 2**progress.iteration if self.problem.quadratic else 1
        return self.settings.inner_iterations * min(growth, MOST_GROWTH)

    def _floor(self, progress: Progress) -> float:
        """Squared residual at a third of the noise floor, below which inner work is wasted."""
        if not self.noise_known:
            return 0.0
        return float(0.1 * self.settings.noise_tolerance**2 * progress.x[0].numel())

    def _at(self, progress: Progress, index: Tensor) -> tuple[Problem, Point]:
        """Return the problem of the open items and the objective at their present unknowns."""
        key = tuple(index.tolist())
        if self._cache is None or self._cache.key != key:
            self._cache = _Cache(key, self.problem.select(index))
        point = self._cache.point
        if point is None:
            point = self._cache.problem.point(progress.x[index], tangent=True)
        return self._cache.problem, point

    def _metric(self, problem: Problem, point: Point, linearisation: Linearisation) -> Metric:
        cache = self._cache
        if cache is None or cache.metric is None or not problem.constant_metric:
            metric = problem.metric(point, linearisation)
            if cache is not None:
                cache.metric = metric
            return metric
        return cache.metric

    def _record(self, progress: Progress, index: Tensor, point: Point, step: Tensor) -> None:
        rms = step.double().square().flatten(1).mean(1).sqrt()
        for row, item in enumerate(index.tolist()):
            history, value = progress.history[item], float(point.value[row])
            before = history[-1].objective if history else value
            history.append(
                Step(
                    iteration=progress.iteration,
                    objective=value,
                    relative_decrease=(before - value) / max(abs(before), 1e-300),
                    projected_gradient=float(rms[row]),
                    damping=float(progress.extra["damping"][item]),
                    products=progress.extra["products"],
                    seconds=progress.elapsed,
                )
            )

    def _stop(self, progress: Progress, index: Tensor, residual: Tensor) -> None:
        unknowns = progress.x[0].numel()
        for row, item in enumerate(index.tolist()):
            history = progress.history[item]
            value = history[-1].objective
            shift = math.sqrt(float(residual[row]) / unknowns) if self.noise_known else None
            resolution = _resolution(value, float(progress.extra["energy"][item]))
            stalls = int(progress.extra["stalls"][item])
            evidence = Evidence(history, shift, resolution, stalls)
            reason = converged(evidence, self.settings)
            if not math.isfinite(value):
                progress.close(item, Status.DIVERGED, "The objective is not a finite number.")
            elif reason is not None:
                progress.close(item, Status.CONVERGED, reason)
            elif float(progress.extra["damping"][item]) > DAMPING_LAST:
                _give_up(progress, item)
            elif progress.iteration >= self.settings.iterations_limit:
                progress.close(item, Status.MAX_ITERATIONS, f"It is {progress.iteration}.")

    def _exact(self, progress: Progress, index: Tensor, residual: Tensor) -> Tensor:
        """Return which items need the full model: their last step was a poor one."""
        before: Tensor = progress.extra["residual"][index]
        return (before > 0) & (residual > POOR * before)

    def _forcing(self, progress: Progress, index: Tensor, residual: Tensor) -> Tensor:
        """Solve the model more accurately the faster the outer residual falls."""
        before: Tensor = progress.extra["residual"][index]
        ratio = (residual / before.clamp_min(1e-300)).where(before > 0, torch.ones_like(before))
        return (0.5 * ratio).clamp(FORCING_LEAST, FORCING_MOST)

    def _accept(
        self, progress: Progress, index: Tensor, point: Point, gradient: Tensor, model: Model,
        metric: Metric,
    ) -> None:  # fmt: skip
        """Try the step at length 1, 1/2, 1/4; adapt the damping to what it delivered."""
        cache = self._cache
        if cache is None:
            return
        promised = model.decrease(gradient)
        damping = progress.extra["damping"][index]
        energies = progress.extra["energy"][index].tolist()
        values = point.value.tolist()
        resolution = torch.tensor(
            [_resolution(v, e) for v, e in zip(values, energies, strict=True)], dtype=torch.float64
        )
        level = resolution * point.value
        length = torch.ones_like(promised)
        for _ in range(TRIALS):
            trial = cache.problem.point(
                metric.tidy(point.x + scaled(length, model.delta)), tangent=True
            )
            fallen = point.value - trial.value
            worthwhile = promised > torch.where(damping > 1.0, level, -level)
            good = worthwhile & (fallen >= SUFFICIENT * length * promised - level)
            if bool(good.all()):
                break
            length = torch.where(good, length, length / 2)
        self._damp(progress, index, good, fallen / promised.clamp_min(1e-300), length)
        least = resolution.clamp_min(self.settings.decrease_tolerance) * point.value
        stalls = progress.extra["stalls"][index]
        gentle = progress.extra["damping"][index] <= 1.0
        progress.extra["stalls"][index] = torch.where(
            good & gentle & (fallen < least), stalls + 1, 0
        )
        merged = trial if bool(good.all()) else merge_points(good, trial, point)
        progress.x[index] = merged.x
        progress.extra["products"] += 1.0 + model.products
        cache.point = merged

    def _damp(
        self, progress: Progress, index: Tensor, good: Tensor, ratio: Tensor, length: Tensor
    ) -> None:
        damping = progress.extra["damping"][index]
        raised = (10 * damping).clamp_min(DAMPING_FIRST)
        lowered = torch.where(damping > DAMPING_FIRST, damping / 5, torch.zeros_like(damping))
        smooth = good & (length == 1) & (ratio > 0.5)
        kept = torch.where(smooth, lowered, damping)
        progress.extra["damping"][index] = torch.where(good, kept, raised)


def iterated(
    problem: Problem, settings: SolverSettings, x: Tensor, noise_known: bool
) -> tuple[Point, float]:
    """Return the point that a solve from unknowns ``x`` ends at, and the operator pairs spent."""
    solver = GaussNewton(problem, settings, noise_known)
    progress = drive(solver, solver.begin(x))
    return problem.point(progress.x), float(progress.extra["products"])


def _give_up(progress: Progress, item: int) -> None:
    """End an item for which even tiny steps do not lower the objective.

    A solve that got anywhere has reached what rounding allows, also from a start close to its end.
    """
    history = progress.history[item]
    first, last = history[0], history[-1]
    steepest = max(step.projected_gradient for step in history)
    if last.objective < 0.99 * first.objective or last.projected_gradient < 0.1 * steepest:
        progress.close(item, Status.CONVERGED, "No step lowers the objective any further.")
    else:
        reason = "No step lowers the objective, however small: check the model's gradient."
        progress.close(item, Status.DIVERGED, reason)


def _damped(product: Product, metric: Metric, damping: Tensor) -> Product:
    if not bool((damping > 0).any()):
        return product
    return lambda d: product(d) + scaled(damping, metric.apply(d))


def _resolution(value: float, energy: float) -> float:
    """Relative change of a sum of squares that float32 rounding of the prediction can cause.

    ``energy`` is the value for a prediction of zero, so the data's own size.
    """
    return 2.4e-8 * math.sqrt(max(energy, 0.0) / max(value, 1e-300)) + 1e-14
