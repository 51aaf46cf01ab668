"""What an inversion returns: maps, how it ended, and how it got there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from bmapest_ray.base.errors import SolveError


class Status(StrEnum):
    """How a solve ended; `sentence` says it to a person."""

    CONVERGED = "CONVERGED"
    MAX_ITERATIONS = "MAX_ITERATIONS"
    STOPPED = "STOPPED"
    DIVERGED = "DIVERGED"
    INVALID = "INVALID"
    UNDERDETERMINED = "UNDERDETERMINED"

    @property
    def sentence(self) -> str:
        """One sentence for a person."""
        return _SENTENCES[self]

    @property
    def has_maps(self) -> bool:
        """Whether the maps come from a fit (otherwise they are the start, untouched)."""
        return self not in (Status.INVALID, Status.DIVERGED)


_SENTENCES = {
    Status.CONVERGED: "The fit met its stopping rule.",
    Status.MAX_ITERATIONS: "The largest number of iterations came before the stopping rule; "
    "raise max_iterations or loosen the tolerances.",
    Status.STOPPED: "A callback stopped the fit.",
    Status.DIVERGED: "The objective stopped being finite or only grew; the maps are the last "
    "finite ones.",
    Status.INVALID: "The problem has no meaningful solution; the maps are the start.",
    Status.UNDERDETERMINED: "The data hold fewer equations than unknowns; the maps depend on the "
    "start.",
}


@dataclass(frozen=True)
class Step:
    """One outer iteration.

    Parameters
    ----------
    iteration
        Counts from 0, which is the start.
    objective
        Half the whitened sum of squares (or the negative log likelihood) plus the prior's term.
    relative_decrease
        Decrease since the previous step, divided by the previous objective.
    projected_gradient
        Root mean square, over all fractions, of the change that a projected gradient step
        (scaled by the diagonal blocks) would make; 0 exactly where the KKT conditions hold.
    damping
        Levenberg damping, or the learning rate of a first-order method.
    products
        Operator pairs (one forward and one adjoint) spent so far.
    seconds
        Time since the solve began.
    """

    iteration: int
    objective: float
    relative_decrease: float = 0.0
    projected_gradient: float = 0.0
    damping: float = 0.0
    products: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Inversion:
    """The outcome of one solve.

    Parameters
    ----------
    maps
        Estimated fractions, exactly those that were simulated last. Shape ``(tissue, y, x)``.
    status, message
        How it ended, and the reason in one or a few sentences.
    iterations, seconds, products
        Outer iterations, wall time of the solve, operator pairs spent.
    history
        One `Step` per outer iteration, the start first.
    solver
        Name of the solver.
    """

    maps: torch.Tensor
    status: Status
    message: str
    iterations: int
    seconds: float
    history: tuple[Step, ...]
    solver: str
    products: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.maps.ndim != 3:
            shape = tuple(self.maps.shape)
            msg = f"maps must have shape (tissue, y, x), got {shape}; pass one item of a batch"
            raise SolveError(msg)

    @property
    def converged(self) -> bool:
        """Whether the stopping rule was met."""
        return self.status is Status.CONVERGED

    @property
    def objective(self) -> float:
        """Objective at the end (NaN where nothing was evaluated)."""
        return self.history[-1].objective if self.history else float("nan")

    def followed_by(self, other: Inversion) -> Inversion:
        """Return the result of a second fit that started from this one, with both histories."""
        last = self.history[-1].iteration + 1 if self.history else 0
        later = (
            replace(
                step,
                iteration=step.iteration + last,
                products=step.products + self.products,
                seconds=step.seconds + self.seconds,
            )
            for step in other.history
        )
        return replace(
            other,
            message=f"{other.message} It is the second fit; the first: {self.message}",
            iterations=self.iterations + other.iterations,
            seconds=self.seconds + other.seconds,
            products=self.products + other.products,
            history=(*self.history, *later),
        )

    def with_message(self, extra: str) -> Inversion:
        """Return the same result with a sentence added to its message."""
        return replace(self, message=f"{self.message} {extra}".strip())
