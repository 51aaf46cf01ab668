"""A runner in this process: for laptops, debugging and tests."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from bmapest_ray.compute.execution import Worker
from bmapest_ray.study.ports import Outcome, Task


class LocalRunner:
    """Runs one task at a time, inside `next_done`.

    Nothing protects this process from a task that hangs or dies: there are no time limits and no
    retries here.
    """

    def __init__(self, work: str, state: Mapping[str, Any] | None = None) -> None:
        self._worker = Worker(work, state)
        self._queue: deque[Task] = deque()
        self._closed = False

    @property
    def free(self) -> int:
        """One task at a time, so that a search learns from each result before it proposes."""
        return 0 if self._closed else 1 - len(self._queue)

    @property
    def pending(self) -> int:
        """Tasks that have not come back."""
        return len(self._queue)

    def submit(self, task: Task) -> None:
        """Keep a task for the next `next_done`."""
        if self.free < 1:
            raise RuntimeError("a runner takes a task only while it is open and free")
        self._queue.append(task)

    def next_done(self, timeout_s: float | None = None) -> Outcome | None:  # noqa: ARG002
        """Run the waiting task here and now; the timeout cannot interrupt it."""
        if not self._queue:
            return None
        outcome = self._worker.run(self._queue[0])
        self._queue.popleft()
        return outcome

    def describe(self) -> Mapping[str, Any]:
        """Say that tasks run here."""
        return {"kind": "local", "workers": 1, "worker": self._worker.ping()}

    def shutdown(self) -> None:
        """Drop what is waiting."""
        self._queue.clear()
        self._closed = True
