"""A runner on Ray actors: placement, back-pressure, retries and time limits."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from bmapest_ray.compute.ray_metrics import DriverMetrics
from bmapest_ray.compute.ray_pool import ActorPool, RayPool
from bmapest_ray.compute.ray_slot import Lost, Queued, RaySettings, Slot
from bmapest_ray.study.ports import Failure, Outcome, Task
from bmapest_ray.study.status import JobStatus

_POLL_S = 1.0
_CALL_TARGET_S = 0.05
"""Tasks much shorter than this are sent several per call, so that the call is not the cost."""
_MAX_BATCH = 64
_SHORT_S = 1.0
"""Below this the way to and from an actor is worth hiding behind work."""
_LOOK_AHEAD = 256
"""Waiting tasks among which an actor's next one is chosen."""
_TELL_S = 0.5
"""Time between two reports of how much waits and runs."""


class RayRunner:
    """Runs tasks on a pool of Ray actors.

    Where tasks are short, every actor holds the next call while it works on one, so that it never
    waits for this process; other tasks wait here. An actor gets first those whose `affinity` it
    has served before. A task whose actor dies or passes the time limit runs again, `retries` times
    at most; tasks that were only waiting on that actor do not lose an attempt. Where a task runs
    out of memory, half of the actors on its machine are let go and it runs again. With every actor
    down the runner keeps trying to bring them up: nodes may come back.

    Parameters
    ----------
    work
        ``"package.module:function"``, importable on every node.
    settings
        Size of the pool and the failure policy.
    state
        Initial state of every worker.
    pool
        Where actors come from; None is Ray.

    Raises
    ------
    InvalidInput
        If no cluster answers or it has no room for one actor.
    """

    def __init__(
        self,
        work: str,
        settings: RaySettings | None = None,
        state: Mapping[str, Any] | None = None,
        pool: ActorPool | None = None,
    ) -> None:
        self.settings = settings or RaySettings()
        opened = pool or RayPool(work, self.settings, state)
        self._pool: ActorPool | None = opened
        self._ray = opened.ray
        self._served: Counter[str] = Counter()
        made = [Slot(opened.make_actor, opened.ray, self._served) for _ in range(opened.count)]
        self._slots = dict.fromkeys(made)
        self._roomy: dict[Slot, None] = {}
        self._told = 0.0
        self._queue: deque[Queued] = deque()
        self._done: deque[Outcome] = deque()
        self._pending = 0
        self._task_seconds: float | None = None
        self._metrics = DriverMetrics(self.settings.study)
        self._protocols: dict[str, str] = {}

    @property
    def free(self) -> int:
        """Room before as many tasks wait here as the actors hold."""
        if self._pool is None:
            return 0
        return max(0, 2 * self._depth * len(self._slots) * self._batch - self._pending)

    @property
    def pending(self) -> int:
        """Tasks that have not come back."""
        return self._pending

    def submit(self, task: Task) -> None:
        """Queue a task and hand out what actors have room for."""
        if self.free < 1:
            raise RuntimeError("a runner takes a task only while it is open and free")
        self._pending += 1
        self._protocols[task.id] = _protocol_of(task)
        self._queue.append(Queued(task))
        self._dispatch()

    def next_done(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for a task, bringing dead actors back and stopping those that hang.

        Raises `ClusterLost` where the cluster's head is gone.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done and self._pending:
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            self._step(max(0.0, left))
            if deadline is not None and time.monotonic() >= deadline:
                break
        if not self._done:
            return None
        self._pending -= 1
        return self._done.popleft()

    def describe(self) -> Mapping[str, Any]:
        """Say how many actors there are and what each holds."""
        return {
            "kind": "ray",
            "workers": len(self._slots),
            "num_cpus": self.settings.num_cpus,
            "num_gpus": self.settings.num_gpus,
            "address": self._pool.address if self._pool else "",
            "time_limit_s": self.settings.time_limit_s,
        }

    def shutdown(self) -> None:
        """Kill the actors, and stop the cluster if it was started here."""
        if self._pool is None:
            return
        if not self._pool.is_lost:
            for slot in self._slots:
                slot.kill(restart=False)
        self._pool.close()
        self._pool = None
        self._queue.clear()
        self._done.clear()
        self._pending = 0

    # -- one step of the loop ------------------------------------------------------------------

    def _step(self, timeout_s: float) -> None:
        if self._pool is not None:
            self._pool.check()
        self._dispatch()
        refs = {slot.awaited: slot for slot in self._slots if slot.awaited is not None}
        waits = [slot.seconds_left for slot in self._slots]
        timeout_s = min([timeout_s, *(w for w in waits if w is not None)])
        for ref in self._ready(list(refs), timeout_s):
            self._collect(refs[ref])
        for slot in self._slots:
            slot.stop_if_late()
        self._let_go()
        self._dispatch()
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told > _TELL_S:
            self._told = now
            self._metrics.queues(
                waiting=len(self._queue),
                running=self._pending - len(self._queue) - len(self._done),
                workers=sum(slot.is_up for slot in self._slots),
            )

    def _ready(self, refs: list[Any], timeout_s: float) -> list[Any]:
        """Wait for one reference, then take every other that is ready too."""
        if not refs:
            time.sleep(min(timeout_s, 0.05))
            return []
        first, rest = self._ray.wait(refs, num_returns=1, timeout=timeout_s)
        if not first or not rest:
            return list(first)
        more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
        return [*first, *more]

    def _collect(self, slot: Slot) -> None:
        self._roomy[slot] = None
        if slot.is_starting:
            slot.finish_start()
            return
        result = slot.take_head()
        if isinstance(result, Lost):
            self._again(result)
            return
        for queued, outcome in result:
            short = outcome.failure is not None and outcome.failure.out_of_memory
            if short and outcome.attempts <= self.settings.retries and self._make_room(slot):
                self._metrics.retried()
                self._queue.appendleft(replace(queued, attempts=outcome.attempts, alone=True))
            else:
                self._finish(outcome)

    def _make_room(self, slot: Slot) -> bool:
        """Let half of the actors on a machine go; returns whether a job may fit with the others.

        Actors that share a GPU compete for its memory: fewer of them, fewer jobs at once.
        """
        if slot.is_leaving:
            return True
        others = [s for s in self._slots if s.host == slot.host and not s.is_leaving and s != slot]
        for leaving in [slot, *others][: (1 + len(others)) // 2]:
            leaving.is_leaving = True
        return slot.is_leaving

    def _let_go(self) -> None:
        """End the actors that were told to leave and have nothing more to do."""
        for slot in [s for s in self._slots if s.is_leaving and not s.n_calls]:
            slot.kill(restart=False)
            slot.forget()
            del self._slots[slot]

    def _finish(self, outcome: Outcome) -> None:
        self._done.append(outcome)
        self._metrics.finished(outcome, self._protocols.pop(outcome.task_id, ""))
        seen, depth = self._task_seconds, self._depth
        self._task_seconds = outcome.seconds if seen is None else 0.8 * seen + 0.2 * outcome.seconds
        if self._depth > depth:
            self._roomy = dict(self._slots)

    def _again(self, lost: Lost) -> None:
        """Queue the tasks of a lost call again, or give up on the one that keeps losing workers."""
        counts = len(lost.call.tasks) == 1 and not lost.call.was_waiting
        for queued in lost.call.tasks:
            used = queued.attempts + 1 if counts else queued.attempts
            if used <= self.settings.retries:
                self._metrics.retried()
                self._queue.appendleft(replace(queued, attempts=used, alone=True))
                continue
            message = _gave_up(lost, used, self.settings)
            name = lost.error.partition(":")[0]
            failure = Failure(lost.status, name, message, traceback=lost.error)
            outcome = Outcome(queued.task.id, None, failure, attempts=used)
            self._metrics.finished(outcome, self._protocols.pop(queued.task.id, ""))
            self._done.append(outcome)

    # -- handing out ---------------------------------------------------------------------------

    @property
    def _depth(self) -> int:
        """Calls that an actor holds; a long task should not wait behind another one."""
        return 2 if self._task_seconds is not None and self._task_seconds < _SHORT_S else 1

    @property
    def _batch(self) -> int:
        if self._task_seconds is None:
            return 1
        return max(1, min(_MAX_BATCH, int(_CALL_TARGET_S / max(self._task_seconds, 1e-6))))

    def _dispatch(self) -> None:
        """Send to actors that may have room; the others are not asked, there may be thousands."""
        for room in range(self._depth):  # idle actors first, then a second call for the busy ones
            for slot in tuple(self._roomy) if self._queue else ():
                if not self._queue:
                    return
                if slot.is_up and slot.n_calls == room:
                    slot.send(self._choose(slot), self.settings.time_limit_s)
                if not slot.is_up or slot.n_calls >= self._depth:
                    del self._roomy[slot]

    def _choose(self, slot: Slot) -> list[Queued]:
        first = self._first_for(slot)
        self._queue.remove(first)
        chosen = [first]
        if first.alone:
            return chosen
        share = -(-len(self._queue) // (2 * len(self._slots)))
        for queued in list(islice(self._queue, 4 * _MAX_BATCH)):
            if len(chosen) >= min(self._batch, share):
                break
            if queued.task.affinity == first.task.affinity and not queued.alone:
                self._queue.remove(queued)
                chosen.append(queued)
        return chosen

    def _first_for(self, slot: Slot) -> Queued:
        window = list(islice(self._queue, min(8 * len(self._slots), _LOOK_AHEAD)))
        for queued in window:
            if queued.task.affinity in slot.affinities:
                return queued
        for queued in window:
            if not self._served[queued.task.affinity]:
                return queued
        return window[0]


def _protocol_of(task: Task) -> str:
    """Return the name of the protocol that a task inverts; empty where it inverts none."""
    return str(getattr(getattr(task.payload, "protocol", None), "name", ""))


def _gave_up(lost: Lost, used: int, settings: RaySettings) -> str:
    times = "once" if used == 1 else f"{used} times"
    if lost.status is JobStatus.TIMED_OUT:
        return (
            f"a job must end within {settings.time_limit_s:g} s, it was stopped {times}; "
            "raise compute.time_limit_s or make it cheaper"
        )
    return f"the job's worker died {times} ({lost.error}); look for memory or for a crash"
