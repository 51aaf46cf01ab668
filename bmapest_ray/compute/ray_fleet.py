"""A pretended cluster: the runner and the driver are the real ones, the actors are not.

Time is that of a clock which counts what this process does, jumps over what it would only wait
for, and adds what Ray's own calls cost as they were measured on a real cluster. So a study on
thousands of actors can be driven on one machine, to see how many of them its driver keeps busy.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from bmapest_ray.compute.probe import pretend
from bmapest_ray.compute.ray_session import import_ray
from bmapest_ray.study.ports import Outcome, Task

_SPREAD = 0.2
"""Jobs take their mean time, 20 % more or less."""
_JOBS_PER_ACTOR = 2


@dataclass(frozen=True)
class RayCosts:
    """What Ray's calls cost the process that makes them, in seconds.

    Parameters
    ----------
    call_s
        Sending one call to an actor, and fetching what it returns.
    wait_s, wait_per_ref_s
        Asking which of some references are ready, and the same for each of them.
    """

    call_s: float
    wait_s: float
    wait_per_ref_s: float


class Clock:
    """Seconds since it was made; see the module."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()

    @property
    def now_s(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._zero

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        self._zero -= max(0.0, seconds)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Do not count what is done inside."""
        now = self.now_s
        yield
        self._zero = time.perf_counter() - now


@dataclass(eq=False)
class _Ref:
    """What will be there at a time."""

    end_s: float
    value: Any


@dataclass
class _Method:
    """``actor.method.remote(...)``."""

    fleet: "Fleet"
    starts: bool = False
    free_s: float | None = None
    """When what it was sent so far is done."""

    def remote(self, tasks: Sequence[Task] = ()) -> _Ref:
        clock = self.fleet.clock
        clock.skip(self.fleet.costs.call_s / 2)
        with clock.stopped():
            if self.starts:
                return _Ref(clock.now_s, "pretended:0")
            begin_s = max(clock.now_s, self.free_s or 0.0)
            outcomes = [self.fleet.outcome_of(task) for task in tasks]
            if self.free_s is not None:
                self.fleet.idle_s += begin_s - self.free_s
                self.fleet.busy_s += sum(outcome.seconds for outcome in outcomes)
            self.free_s = begin_s + sum(outcome.seconds for outcome in outcomes)
            return _Ref(self.free_s, outcomes)


class _Actor:
    def __init__(self, fleet: "Fleet") -> None:
        self.ping = _Method(fleet, starts=True)
        self.run_all = _Method(fleet)


@dataclass
class Fleet:
    """An `ActorPool` of pretended actors.

    Parameters
    ----------
    count
        Number of actors.
    job_s
        Mean time of a job.
    costs
        What Ray's calls cost.
    """

    count: int
    job_s: float
    costs: RayCosts
    address: str = "pretended"
    is_lost: bool = False
    clock: Clock = field(default_factory=Clock)
    busy_s: float = 0.0
    idle_s: float = 0.0
    """What actors worked and waited between jobs, the first of each not counted."""
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311

    @property
    def ray(self) -> "Fleet":
        """What answers for actors: itself."""
        return self

    @property
    def exceptions(self) -> ModuleType:
        """Those of Ray, none of which it raises."""
        found: ModuleType = import_ray().exceptions
        return found

    @property
    def busy_share(self) -> float:
        """Share of the time, once they had begun, that actors worked."""
        return self.busy_s / (self.busy_s + self.idle_s)

    def make_actor(self) -> Any:  # noqa: ANN401
        """Make one actor."""
        return _Actor(self)

    def outcome_of(self, task: Task) -> Outcome:
        """Return what a worker would send back for a task."""
        seconds = self.job_s * self._random.uniform(1.0 - _SPREAD, 1.0 + _SPREAD)
        return Outcome(task.id, pretend(task.payload, {}), seconds=seconds, worker="pretended:0")

    def wait(
        self, refs: Sequence[_Ref], num_returns: int, timeout: float
    ) -> tuple[list[_Ref], list[_Ref]]:
        """Return up to `num_returns` that are ready, and the others; wait for the first."""
        self.clock.skip(self.costs.wait_s + len(refs) * self.costs.wait_per_ref_s)
        with self.clock.stopped():
            now = self.clock.now_s
            if timeout > 0:
                now = max(now, min(ref.end_s for ref in refs))
            ready = [ref for ref in refs if ref.end_s <= now][:num_returns]
            taken = set(map(id, ready))
            rest = [ref for ref in refs if id(ref) not in taken]
        self.clock.skip(now - self.clock.now_s)
        return ready, rest

    def get(self, ref: _Ref) -> Any:  # noqa: ANN401
        """Return what is there."""
        self.clock.skip(self.costs.call_s / 2)
        return ref.value

    def kill(self, actor: Any, no_restart: bool = False) -> None:  # noqa: ANN401
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def jobs_for(actors: int) -> int:
    """Return how many jobs show the steady state of so many actors."""
    return max(200, _JOBS_PER_ACTOR * actors)
