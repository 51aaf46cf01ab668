"""Runs a solver to its end: callbacks may stop it, checkpoints make it resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from bmapest_ray.inversion.checkpoint import Checkpoint
from bmapest_ray.inversion.problem import Problem
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.result import Inversion, Status, Step


class Solver(Protocol):
    """A state machine over `Progress`."""

    problem: Problem

    def begin(self, x: Tensor) -> Progress:
        """Return the state at a start."""
        ...

    def advance(self, progress: Progress) -> None:
        """Record the present point of every open item, ask the stopping rules, take a step."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """What a callback sees of one batch item.

    Parameters
    ----------
    item
        Index in the batch (0 for a single solve).
    step
        The last recorded step.
    maps
        Returns the maps of that step, ``(tissue, y, x)``.
    """

    item: int
    step: Step
    maps: Callable[[], Tensor]


Callback = Callable[[Snapshot], bool | None]
"""Called after every iteration for every open item; False stops that item (or raise to abort)."""


def drive(
    solver: Solver,
    progress: Progress,
    callback: Callback | None = None,
    checkpoint: Checkpoint | None = None,
    problem_digest: str = "",
) -> Progress:
    """Advance until every batch item has ended."""
    while bool(progress.open.any()):
        before = progress.x.clone()
        items = progress.index.tolist()
        solver.advance(progress)
        if callback is not None:
            _call(callback, solver, progress, before, items)
        if checkpoint is not None and checkpoint.due(progress):
            checkpoint.write(progress, problem_digest)
    return progress


def _call(
    callback: Callback, solver: Solver, progress: Progress, before: Tensor, items: list[int]
) -> None:
    for item in items:

        def maps(item: int = item) -> Tensor:
            index = progress.open.new_tensor([item]).long()
            return solver.problem.select(index).parametrisation.forward(before[index])[0]

        goes_on = callback(Snapshot(item, progress.history[item][-1], maps))
        if goes_on is False and bool(progress.open[item]):
            progress.x[item] = before[item]
            progress.close(item, Status.STOPPED, f"It was iteration {progress.iteration - 1}.")


def outcomes(progress: Progress, maps: Tensor, name: str) -> tuple[Inversion, ...]:
    """Turn a finished state into one result per batch item."""
    results = []
    for item, status in enumerate(progress.status):
        history = tuple(progress.history[item])
        last = history[-1] if history else Step(0, float("nan"))
        results.append(
            Inversion(
                maps=maps[item],
                status=status if status is not None else Status.STOPPED,
                message=f"{progress.message[item]} {progress.extra.get('note', '')}".strip(),
                iterations=last.iteration,
                seconds=last.seconds,
                history=history,
                solver=name,
                products=last.products,
            )
        )
    return tuple(results)
