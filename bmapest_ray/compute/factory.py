"""From a study's ``compute`` section to a runner."""

from collections.abc import Mapping
from typing import Any

from bmapest_ray.study.config import ComputeConfig
from bmapest_ray.study.ports import Runner


def make_runner(
    config: ComputeConfig, work: str, state: Mapping[str, Any] | None = None, *, study: str = ""
) -> Runner:
    """Make the runner that a study asks for.

    Parameters
    ----------
    config
        The study's ``compute`` section.
    work
        ``"package.module:function"`` that runs a task's payload.
    state
        Initial state of every worker.
    study
        Name of the study, a label of what is told to Prometheus.

    Raises
    ------
    InvalidInput
        If no cluster answers or it has no room for one actor.
    """
    if config.runner == "local":
        from bmapest_ray.compute.local import LocalRunner

        return LocalRunner(work, state)
    from bmapest_ray.compute.ray import RayRunner
    from bmapest_ray.compute.ray_slot import RaySettings

    settings = RaySettings(
        actors=config.actors,
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus,
        address=config.address,
        time_limit_s=config.time_limit_s,
        retries=config.retries,
        study=study,
    )
    return RayRunner(work, settings, state)
