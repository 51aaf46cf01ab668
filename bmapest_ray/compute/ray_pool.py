"""Where a runner's actors come from."""

from collections.abc import Mapping
from typing import Any, Protocol

from bmapest_ray.compute.execution import resolve_work
from bmapest_ray.compute.ray_session import actor_count, connect, import_ray
from bmapest_ray.compute.ray_slot import RaySettings
from bmapest_ray.compute.ray_worker import RayWorker


class ActorPool(Protocol):
    """What a runner needs of a cluster."""

    address: str
    count: int
    """Number of actors to make."""

    @property
    def ray(self) -> Any:  # noqa: ANN401
        """Answers for actors: ``wait``, ``get``, ``kill`` and ``exceptions`` of Ray's module."""

    def make_actor(self) -> Any:  # noqa: ANN401 - Ray's handle of an actor
        """Make one actor."""

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

    def close(self) -> None:
        """Leave the cluster, stopping it if it was started here."""
        self._session.close()
