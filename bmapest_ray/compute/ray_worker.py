"""What runs inside a Ray actor."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bmapest_ray.compute.execution import Worker
from bmapest_ray.compute.ray_metrics import WorkerMetrics
from bmapest_ray.study.ports import Outcome, Task

_REPORT_EVERY_S = 2.0


class RayWorker(Worker):
    """A worker that also reports its memory.

    Parameters
    ----------
    work, state
        See `Worker`.
    """

    def __init__(self, work: str, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(work, state)
        self._metrics = WorkerMetrics()
        self._reported = float("-inf")

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks in order; one that raises does not stop the others."""
        outcomes = super().run_all(tasks)
        if time.monotonic() - self._reported > _REPORT_EVERY_S:
            self._metrics.report()
            self._reported = time.monotonic()
        return outcomes
