"""One thread that writes what a study tells a tracker, in order, off the study's critical path."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

LIMIT = 20_000
PATIENCE = 3
PAUSE_S = 30.0


@dataclass(frozen=True)
class WriterState:
    """What a writer has done so far.

    Parameters
    ----------
    written, failed, left_out
        Calls that worked, that raised, and that were dropped while the store was given a rest or
        because too many were waiting.
    waiting
        Calls not yet written.
    lag_s
        How long the call written last had waited.
    last_error
        What the last failure said.
    """

    written: int = 0
    failed: int = 0
    left_out: int = 0
    waiting: int = 0
    lag_s: float = 0.0
    last_error: str = ""

    @property
    def complete(self) -> bool:
        """Whether all that was told is written."""
        return self.failed + self.left_out + self.waiting == 0


class Writer:
    """Runs calls one after the other in its own thread; `put` never waits and never raises.

    After `patience` failures in a row calls are dropped for `pause_s`, so that a dead server costs
    a study nothing but its tracking.
    """

    def __init__(
        self, *, limit: int = LIMIT, patience: int = PATIENCE, pause_s: float = PAUSE_S
    ) -> None:
        self._queue: queue.Queue[tuple[float, Callable[[], None]] | None] = queue.Queue(limit)
        self._patience = patience
        self._pause_s = pause_s
        self._written = self._failed = self._left_out = self._failures_in_a_row = 0
        self._lag_s = self._muted_until = 0.0
        self._last_error = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracking-writer", daemon=True)
        self._thread.start()

    @property
    def state(self) -> WriterState:
        """What was written, what was not, and how far writing lags behind."""
        return WriterState(
            written=self._written,
            failed=self._failed,
            left_out=self._left_out,
            waiting=self._queue.unfinished_tasks,
            lag_s=self._lag_s,
            last_error=self._last_error,
        )

    def put(self, call: Callable[[], None]) -> None:
        """Have a call made soon, after all those before it."""
        try:
            self._queue.put_nowait((time.monotonic(), call))
        except queue.Full:
            self._left_out += 1

    def drain(
        self, timeout_s: float | None = None, on_wait: Callable[[WriterState], None] | None = None
    ) -> bool:
        """Wait until all calls are made; returns whether they are.

        Parameters
        ----------
        timeout_s
            Longest wait; None waits for as long as it takes.
        on_wait
            Called about once per second while calls are waiting.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        told = time.monotonic()
        while self._queue.unfinished_tasks and self._thread.is_alive():
            if end is not None and time.monotonic() >= end:
                return False
            if on_wait is not None and time.monotonic() - told > 1.0:
                told = time.monotonic()
                on_wait(self.state)
            time.sleep(0.01)
        return self._queue.unfinished_tasks == 0

    def close(self, timeout_s: float | None = None) -> None:
        """Drain and stop; what is not written by then is dropped and counted."""
        self.drain(timeout_s)
        self._stopped.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._left_out += 1
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                self._queue.task_done()
                return
            try:
                self._make(*item)
            finally:
                self._queue.task_done()

    def _make(self, since: float, call: Callable[[], None]) -> None:
        if self._stopped.is_set() or time.monotonic() < self._muted_until:
            self._left_out += 1
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a store raises must not stop a study
            self._note_failure(error)
        else:
            self._written += 1
            self._failures_in_a_row = 0
            self._lag_s = time.monotonic() - since

    def _note_failure(self, error: Exception) -> None:
        self._failed += 1
        self._failures_in_a_row += 1
        lines = str(error).strip().splitlines() or [""]
        self._last_error = f"{type(error).__name__}: {lines[0][:300]}"
        if self._failures_in_a_row >= self._patience:
            self._muted_until = time.monotonic() + self._pause_s
