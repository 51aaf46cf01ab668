"""One place in the pool of Ray actors: its actor, what it works on, and bringing it back."""

import contextlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.study.ports import Failure, Outcome, Task
from bmapest_ray.study.status import JobStatus

_REMEMBERED_AFFINITIES = 8
_FAILED_STARTS = 5


@dataclass(frozen=True)
class RaySettings:
    """Size of the pool and its failure policy.

    Parameters
    ----------
    actors
        Number of actors; None is as many as the cluster has room for.
    num_cpus, num_gpus
        What each actor holds; fractions of a GPU share its memory.
    address
        Cluster to join; None starts one on this machine.
    time_limit_s
        Longest time for one task; None is no limit.
    retries
        How often a task runs again after its actor died or it passed the limit.
    study
        Label of the metrics, see `bmapest_ray.compute.ray_metrics`.
    """

    actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    address: str | None = None
    time_limit_s: float | None = None
    retries: int = 2
    study: str = ""


@dataclass(frozen=True)
class Queued:
    """A task that waits, and what it has been through."""

    task: Task
    attempts: int = 0
    alone: bool = False
    """Once its worker was lost it travels alone, so that it cannot take others down."""


@dataclass
class Call:
    """Tasks that were sent to an actor together."""

    tasks: list[Queued]
    ref: Any
    limit_s: float | None
    started: float | None = None
    was_waiting: bool = False
    """It waited behind a call that took the actor down: its tasks are not to blame."""
    stopped: bool = False

    @property
    def seconds_left(self) -> float | None:
        """Time until the limit; None without a limit or before it has started."""
        if self.limit_s is None or self.started is None or self.stopped:
            return None
        return max(0.0, self.started + self.limit_s - time.monotonic())


@dataclass(frozen=True)
class Lost:
    """A call whose actor went down before it answered."""

    call: Call
    status: JobStatus
    error: str


class Slot:
    """An actor and the calls it holds, in the order in which it runs them.

    A slot is *starting* until its actor answers a ping, and again after a loss: calls that are sent
    to an actor on its way down would be lost without having run.

    Parameters
    ----------
    make_actor
        Makes its actor, and another where that one cannot start.
    ray
        What answers for actors: Ray's module, see `ActorPool`.
    served
        How many slots remember an affinity; kept by all slots of a pool together.
    """

    def __init__(
        self,
        make_actor: Callable[[], Any],
        ray: Any,  # noqa: ANN401
        served: "Counter[str] | None" = None,
    ) -> None:
        self._ray = ray
        self._served = Counter() if served is None else served
        self._make_actor = make_actor
        self._calls: deque[Call] = deque()
        self._failed_starts = 0
        self.affinities: OrderedDict[str, None] = OrderedDict()
        self.host = ""
        """Machine of the actor, once it is up."""
        self.is_leaving = False
        """No more calls are sent, because its machine has not the memory for so many actors."""
        self._actor = make_actor()
        self._ping = self._actor.ping.remote()

    @property
    def is_starting(self) -> bool:
        """Whether the next thing to come back is an answer to a ping."""
        return not self._calls and self._ping is not None

    @property
    def is_up(self) -> bool:
        """Whether calls may be sent."""
        if self._ping is not None or self.is_leaving:
            return False
        return not any(call.was_waiting or call.stopped for call in self._calls)

    @property
    def n_calls(self) -> int:
        """Calls that the actor holds."""
        return len(self._calls)

    @property
    def awaited(self) -> Any:  # noqa: ANN401 - an ObjectRef, or None
        """The reference that becomes ready next."""
        return self._calls[0].ref if self._calls else self._ping

    @property
    def seconds_left(self) -> float | None:
        """Time until the running call passes its limit."""
        return self._calls[0].seconds_left if self._calls else None

    def send(self, tasks: list[Queued], time_limit_s: float | None) -> None:
        """Send tasks as one call."""
        ref = self._actor.run_all.remote([queued.task for queued in tasks])
        limit_s = None if time_limit_s is None else time_limit_s * len(tasks)
        self._calls.append(Call(tasks, ref, limit_s))
        self._start_clock()
        for queued in tasks:
            self._remember(queued.task.affinity)

    def take_head(self) -> list[tuple[Queued, Outcome]] | Lost:
        """Take the first call, which is ready: its outcomes, or how it was lost."""
        call = self._calls.popleft()
        try:
            outcomes: list[Outcome] = self._ray.get(call.ref)
        except self._ray.exceptions.RayTaskError as error:
            self._start_clock()
            return [(queued, _not_delivered(queued, error)) for queued in call.tasks]
        except self._ray.exceptions.RayError as error:
            self._recover()
            status = JobStatus.TIMED_OUT if call.stopped else JobStatus.LOST
            return Lost(call, status, f"{type(error).__name__}: {_first_line(error)}")
        self._start_clock()
        return [
            (queued, replace(outcome, attempts=queued.attempts + 1))
            for queued, outcome in zip(call.tasks, outcomes, strict=True)
        ]

    def stop_if_late(self) -> None:
        """Kill the actor when its running call has passed its limit; Ray starts it again."""
        if self._calls and self._calls[0].seconds_left == 0.0:
            self._calls[0].stopped = True
            self.kill(restart=True)

    def finish_start(self) -> None:
        """Read the answer to the ping: up, or try again.

        Raises
        ------
        InvalidInput
            If the actor cannot be made at all.
        """
        try:
            name: str = self._ray.get(self._ping)
        except self._ray.exceptions.RayError as error:
            self._retry_start(error)
        else:
            self._ping = None
            self._failed_starts = 0
            self.host = name.partition(":")[0]

    def _remember(self, affinity: str) -> None:
        self._served[affinity] += affinity not in self.affinities
        self.affinities[affinity] = None
        self.affinities.move_to_end(affinity)
        if len(self.affinities) > _REMEMBERED_AFFINITIES:
            self._served[self.affinities.popitem(last=False)[0]] -= 1

    def forget(self) -> None:
        """Forget which affinities were served, as its process has."""
        self._served.subtract(list(self.affinities))
        self.affinities.clear()

    def kill(self, *, restart: bool) -> None:
        """Kill the actor's process."""
        with contextlib.suppress(Exception):  # it may be gone already
            self._ray.kill(self._actor, no_restart=not restart)

    def _retry_start(self, error: Exception) -> None:
        gone = isinstance(error, self._ray.exceptions.ActorDiedError)
        self._failed_starts += gone
        if self._failed_starts > _FAILED_STARTS:
            raise InvalidInput(
                f"a worker must start on the cluster, got {_first_line(error)} "
                f"{self._failed_starts} times; install the same package on every node"
            ) from None
        if gone:
            self._actor = self._make_actor()
        time.sleep(0.1)
        self._ping = self._actor.ping.remote()

    def _recover(self) -> None:
        self.forget()
        for waiting in self._calls:
            waiting.was_waiting = True
        self._start_clock()
        self._ping = self._actor.ping.remote()

    def _start_clock(self) -> None:
        if self._calls and self._calls[0].started is None:
            self._calls[0].started = time.monotonic()


def _not_delivered(queued: Queued, error: Exception) -> Outcome:
    failure = Failure(
        JobStatus.FAILED,
        type(error).__name__,
        f"the result could not be sent back: {_first_line(error)}",
        traceback=str(error),
    )
    return Outcome(queued.task.id, None, failure, attempts=queued.attempts + 1)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
