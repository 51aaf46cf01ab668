"""One solve from start to result: sign start, iterations, refinement, outcome."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.checks import hopeless, underdetermined
from bmapest_ray.inversion.drive import Callback, Solver, drive, outcomes
from bmapest_ray.inversion.first_order import FirstOrder
from bmapest_ray.inversion.gauss_newton import GaussNewton
from bmapest_ray.inversion.leap import LeapingGaussNewton
from bmapest_ray.inversion.parametrisation import Direct
from bmapest_ray.inversion.ports import LinearModel
from bmapest_ray.inversion.problem import Problem, feasible
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.refine import Refinement
from bmapest_ray.inversion.result import Inversion, Status, Step
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.shifts import recentred
from bmapest_ray.inversion.signs import sign_images, sign_start

if TYPE_CHECKING:
    from bmapest_ray.inversion.checkpoint import Checkpoint
    from bmapest_ray.inversion.ports import MeasurementLike


@dataclass(frozen=True)
class Session:
    """A batch of measurements, its composed problem and the settings.

    Parameters
    ----------
    noise_known
        Whether the fidelity is whitened by a measured noise level.
    polish
        Whether noise-free magnitude fits are refined at the end.
    """

    measurement: MeasurementLike
    problem: Problem
    settings: SolverSettings
    noise_known: bool
    polish: bool = True

    def run(
        self, start: Tensor, callback: Callback | None, checkpoint: Checkpoint | None
    ) -> tuple[Inversion, ...]:
        """Solve from maps ``(batch, tissue, y, x)``, or go on from a checkpoint."""
        refinement = self._refinement(start)
        solver = self._solver(refinement)
        key = "" if checkpoint is None else self._digest(start)
        progress = checkpoint.read(key) if checkpoint is not None else None
        if progress is None:
            progress = self._begin(solver, start)
        drive(solver, progress, callback, checkpoint, key)
        if refinement is not None:
            self._refine(progress, refinement)
        if self._may_be_shifted:
            self._recentre(progress)
        maps = self.problem.parametrisation.forward(progress.x)
        return tuple(map(self._described, outcomes(progress, maps, self.settings.name)))

    def _solver(self, refinement: Refinement | None) -> Solver:
        if self.settings.first_order:
            return FirstOrder(self.problem, self.settings)
        if self.problem.fidelity.name == "ssim":
            msg = "gauss-newton needs a loss with a linearisation, got 'ssim'; use adam or lbfgs"
            raise InvalidInput(msg)
        solver = GaussNewton(self.problem, self.settings, self.noise_known)
        return solver if refinement is None else LeapingGaussNewton(solver, refinement)

    def _begin(self, solver: Solver, start: Tensor) -> Progress:
        began = time.perf_counter()
        reasons = hopeless(self.measurement)
        usable = torch.tensor([reason is None for reason in reasons]).nonzero()[:, 0]
        x = feasible(self.problem.parametrisation.inverse(start), self.problem)
        note, spent = "", 0.0
        if len(usable) and self._linear_first is not None:
            x, note = self._from_linear_model(self._linear_first, start, x)
        elif len(usable) and self._has_free_signs:
            problem = self.problem.select(usable)
            signs = sign_images(self.problem.model, start)
            found = sign_start(
                problem, self.settings, x[usable], signs, noise_known=self.noise_known
            )
            x[usable], note, spent = found.x, found.message, found.products
        progress = solver.begin(x) if len(usable) else Progress.start(x)
        progress.extra["note"] = note
        progress.extra["products"] = progress.extra.get("products", 0.0) + spent
        progress.resumed = began
        for item, reason in enumerate(reasons):
            if reason is not None:
                progress.close(item, Status.INVALID, reason)
        return progress

    @property
    def _linear_first(self) -> LinearModel | None:
        """The linear model to start from where the model itself is not linear."""
        fits = isinstance(self.problem.parametrisation, Direct) and not self.settings.first_order
        linear = isinstance(self.problem.model, LinearModel)
        return self.problem.preconditioner if fits and not linear else None

    def _from_linear_model(
        self, model: LinearModel, start: Tensor, x: Tensor
    ) -> tuple[Tensor, str]:
        """Fit the linear model first: cheap, and closer than any other start."""
        problem = replace(self.problem, model=model, preconditioner=None)
        first = replace(self, problem=problem, polish=False).run(start, None, None)
        maps = torch.stack([result.maps for result in first])
        done = torch.tensor([result.status.has_maps for result in first])
        note = f"Started from a fit of the linear model ({first[0].iterations} iterations)."
        return torch.where(done[:, None, None, None], feasible(maps, self.problem), x), note

    @property
    def _has_free_signs(self) -> bool:
        """Whether sign start and sign search apply: magnitudes, non-negative voxel-wise maps."""
        return (
            self.settings.signs != "none"
            and not self.settings.first_order
            and self.problem.fidelity.name in ("magnitude", "rician")
            and isinstance(self.problem.parametrisation, Direct)
            and isinstance(self.problem.model, LinearModel)
            and self.problem.constraint != "none"
        )

    def _refinement(self, start: Tensor) -> Refinement | None:
        """Make what leaves local minima: of noise-free fits, or of all where asked for."""
        wanted = self.polish and (self.settings.signs == "search" or not self.noise_known)
        if not (wanted and self._has_free_signs) or underdetermined(self.problem):
            return None
        signs = sign_images(self.problem.model, start)
        return Refinement(self.problem, self.settings, signs, self.noise_known)

    def _refine(self, progress: Progress, refinement: Refinement) -> None:
        """Refine the finished fits."""
        items = _finished(progress)
        for item in items:
            share = float(progress.extra["leapt"][item])
            if 0 < share < 1:
                progress.message[item] += _lowered(share)
        index = torch.tensor(items, dtype=torch.int64)
        spent = refinement.products
        point = refinement.run(index, progress.x[index])
        progress.x[index] = point.x
        for row, item in enumerate(items):
            before = progress.history[item][-1].objective
            value, products = float(point.value[row]), refinement.products - spent
            if refinement.moves and self._note(progress, item, value, products):
                progress.message[item] += _lowered(value / max(before, 1e-300))

    @property
    def _may_be_shifted(self) -> bool:
        """Whether the data hardly tell where the object lies."""
        return (
            self.problem.fidelity.name == "kspace-magnitude"
            and isinstance(self.problem.parametrisation, Direct)
            and not self.settings.first_order
        )

    def _recentre(self, progress: Progress) -> None:
        """Move finished fits that explain the data better elsewhere."""
        items = _finished(progress)
        if not items:
            return
        index = torch.tensor(items)
        point, spent = recentred(
            self.problem.select(index), self.settings, progress.x[index],
            noise_known=self.noise_known,
        )  # fmt: skip
        for row, item in enumerate(items):
            if self._note(progress, item, float(point.value[row]), spent):
                progress.x[item] = point.x[row]
                progress.message[item] += " The maps were moved by a pixel and fitted on."

    def _note(self, progress: Progress, item: int, value: float, products: float) -> bool:
        """Add a step to the history of an item if its objective fell; return whether it did."""
        last = progress.history[item][-1]
        if value >= last.objective:
            return False
        progress.history[item].append(
            Step(
                iteration=last.iteration + 1,
                objective=value,
                relative_decrease=(last.objective - value) / max(last.objective, 1e-300),
                products=last.products + products,
                seconds=progress.elapsed,
            )
        )
        return True

    def _described(self, result: Inversion) -> Inversion:
        """Add what a person must know beside how the solve ended."""
        if result.status.has_maps and underdetermined(self.problem):
            result = _undetermined(result, self.problem)
        if self.settings.clamp_result and bool(((result.maps < 0) | (result.maps > 1)).any()):
            clamped = replace(result, maps=result.maps.clamp(0.0, 1.0))
            result = clamped.with_message(
                "The maps were clamped to [0, 1] after the fit, as in the paper."
            )
        return result

    def _first_maps(self, start: Tensor) -> Tensor:
        return self.problem.parametrisation.forward(self.problem.parametrisation.inverse(start))

    def _digest(self, start: Tensor) -> str:
        problem = self.problem
        return digest(
            {
                "images": torch.nan_to_num(torch.view_as_real(self.measurement.images + 0j)),
                "sigma": self.measurement.sigma,
                "start": start,
                "settings": self.settings,
                "constraint": problem.constraint,
                "parametrisation": problem.parametrisation.name,
                "first maps": self._first_maps(start),
                "prior": None if problem.prior is None else problem.prior.gradient(start),
                "channels": [channel.image for channel in problem.model.channels],
            }
        )


def _finished(progress: Progress) -> list[int]:
    """Return the items whose fit ended by itself."""
    done = (Status.CONVERGED, Status.MAX_ITERATIONS)
    return [item for item, status in enumerate(progress.status) if status in done]


def _lowered(share: float) -> str:
    return f" A two-way sign search lowered the objective {share:.1e}-fold."


def _undetermined(result: Inversion, problem: Problem) -> Inversion:
    images = len({channel.image for channel in problem.model.channels})
    reason = (
        f"{Status.UNDERDETERMINED.sentence} {images} contrast(s) stand against "
        f"{problem.parametrisation.per_voxel(result.maps.shape[0]):g} unknowns per voxel: "
        "add contrasts, or a prior "
        "(prior 'cohort')."
    )
    return replace(result, status=Status.UNDERDETERMINED, message=f"{reason} {result.message}")
