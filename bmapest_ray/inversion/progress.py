"""The state of a solve between two iterations: all that is needed to go on, bit for bit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bmapest_ray.inversion.result import Status, Step


@dataclass
class Progress:
    """State of a batched solve.

    Parameters
    ----------
    x
        Unknowns, ``(batch, ...)``.
    iteration
        Finished outer iterations.
    open
        Batch items still being solved. ``(batch,)``.
    status, message
        How each finished item ended.
    history
        The steps of each item.
    extra
        What the solver keeps of its own (damping, optimiser state, random state).
    seconds
        Wall time spent before the last resume.
    resumed
        Reading of the clock at the start or the last resume.
    """

    x: Tensor
    iteration: int
    open: Tensor
    status: list[Status | None]
    message: list[str]
    history: list[list[Step]]
    extra: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: float = field(default_factory=time.perf_counter)

    @classmethod
    def start(cls, x: Tensor) -> Progress:
        """Begin with all items open."""
        batch = len(x)
        return cls(
            x=x.clone(),
            iteration=0,
            open=torch.ones(batch, dtype=torch.bool),
            status=[None] * batch,
            message=[""] * batch,
            history=[[] for _ in range(batch)],
        )

    @property
    def index(self) -> Tensor:
        """Indices of the open items."""
        return self.open.nonzero()[:, 0]

    @property
    def elapsed(self) -> float:
        """Wall time of the solve so far, in seconds."""
        return self.seconds + time.perf_counter() - self.resumed

    def close(self, item: int, status: Status, reason: str) -> None:
        """End one item, unless it has ended."""
        if bool(self.open[item]):
            self.open[item] = False
            self.status[item] = status
            self.message[item] = f"{status.sentence} {reason}".strip()

    def close_all(self, status: Status, reason: str) -> None:
        """End every open item."""
        for item in self.index.tolist():
            self.close(item, status, reason)
