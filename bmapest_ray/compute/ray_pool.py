"""Where a runner's actors come from."""

from collections.abc import Mapping
from typing import Any, Protocol

from bmapest_ray.compute.execution import resolve_work
from bmapest_ray.compute.ray_head import HeadWatch, host_and_port
from bmapest_ray.compute.ray_session import abandon, actor_count, connect, import_ray
from bmapest_ray.compute.ray_slot import RaySettings
from bmapest_ray.compute.ray_worker import RayWorker


class ActorPool(Protocol):
    """What a runner needs of a cluster."""

    address: str
    count: int
    """Number of actors to make."""

    @property
    def is_lost(self) -> bool:
        """Whether the cluster is gone: nothing can be asked of it."""

    @property
    def ray(self) -> Any:  # noqa: ANN401
        """Answers for actors: ``wait``, ``get``, ``kill`` and ``exceptions`` of Ray's module."""

    def make_actor(self) -> Any:  # noqa: ANN401 - Ray's handle of an actor
        """Make one actor."""

    def check(self) -> None:
        """Do nothing while the cluster is there; raise what ends the study where it is not."""

    def close(self) -> None:
        """Leave the cluster."""


class RayPool:
    """Actors of a Ray cluster, spread over its nodes.

    Parameters
    ----------
    work, state
        What actors run, see `bmapest_ray.compute.execution.Worker`.
    settings
        How many there are and what each holds.

    Raises
    ------
    InvalidInput
        If there is no such work function, no cluster answers or it has no room for one actor.
    """

    def __init__(
        self, work: str, settings: RaySettings, state: Mapping[str, Any] | None = None
    ) -> None:
        resolve_work(work)
        self._session = connect(settings.address)
        self.ray: Any = import_ray()
        self.address = self._session.address
        given = settings.address or ""  # a client outside may not reach the head's own address
        self._head = HeadWatch(given if host_and_port(given) else self.address)
        self.count = actor_count(settings.actors, settings.num_cpus, settings.num_gpus)
        self._arguments = (work, dict(state or {}))
        self._class = self.ray.remote(RayWorker).options(
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )

    def make_actor(self) -> Any:  # noqa: ANN401
        """Make one actor."""
        return self._class.remote(*self._arguments)

    @property
    def is_lost(self) -> bool:
        """Whether the head is gone: nothing can be asked of it."""
        return self._head.is_lost

    def check(self) -> None:
        """Raise where the cluster's head is gone, see `HeadWatch.check`."""
        self._head.check()

    def close(self) -> None:
        """Leave the cluster, stopping it if it was started here."""
        self._head.close()
        if not self.is_lost:  # Ray would wait for it, at the end of the process too
            self._session.close()
        else:
            abandon()
