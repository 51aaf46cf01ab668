"""Running one task inside a worker process, whatever hosts the process."""

import importlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.memory import free_memory, is_out_of_memory
from bmapest_ray.base.threads import limit_threads
from bmapest_ray.study.ports import Failure, Outcome, Task
from bmapest_ray.study.status import JobStatus

Work = Callable[[Any, dict[str, Any]], Any]


def resolve_work(name: str) -> Work:
    """Import the work function ``"package.module:function"``.

    Raises
    ------
    InvalidInput
        If there is no such function.
    """
    module_name, _, function = name.partition(":")
    try:
        work = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"a work function must be an importable 'package.module:function', got '{name}' "
            f"({error}); install its package where the workers run"
        ) from None
    if not callable(work):
        raise InvalidInput(f"a work function must be callable, got '{name}'; name a function")
    return work  # type: ignore[no-any-return]


class Worker:
    """Runs tasks one after the other, keeping `state` between them.

    Parameters
    ----------
    work
        ``"package.module:function"``, called as ``function(payload, state)``.
    state
        Initial state; the work function keeps its caches there.
    """

    def __init__(self, work: str, state: Mapping[str, Any] | None = None) -> None:
        limit_threads(1)
        self._work = resolve_work(work)
        self._initial = dict(state or {})
        self._state = dict(self._initial)
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def ping(self) -> str:
        """Return the worker's name, ``host:pid``, once it is up."""
        return self._name

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks in order; one that raises does not stop the others."""
        return [self.run(task) for task in tasks]

    def run(self, task: Task) -> Outcome:
        """Run a task and return its value, or the failure with its traceback.

        Where memory runs out, what earlier tasks left in the state is dropped for a second try.
        """
        started = time.perf_counter()
        value, failure = self._try(task)
        if failure is not None and failure.out_of_memory:
            kept = self._state.keys() - self._initial.keys()
            self._state = dict(self._initial)
            free_memory()
            if kept:
                value, failure = self._try(task)
        seconds = time.perf_counter() - started
        return Outcome(task.id, value, failure, seconds=seconds, worker=self._name)

    def _try(self, task: Task) -> tuple[Any, Failure | None]:
        try:
            return self._work(task.payload, self._state), None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any failure is the task's outcome
            return None, failure_of(error)


def failure_of(error: BaseException) -> Failure:
    """Describe an exception that a work function raised."""
    return Failure(
        status=JobStatus.FAILED,
        error=type(error).__name__,
        message=str(error) or type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
        invalid_input=isinstance(error, InvalidInput | MissingInput),
        out_of_memory=is_out_of_memory(error),
    )
