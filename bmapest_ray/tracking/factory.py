"""From a study's ``tracking`` section to a tracker."""

from typing import TYPE_CHECKING

from bmapest_ray.study.config import TrackingConfig

if TYPE_CHECKING:
    from bmapest_ray.tracking.mlflow_tracker import MlflowTracker


def make_tracker(config: TrackingConfig) -> "MlflowTracker | None":
    """Make the tracker that a study asks for; None where it asks for none.

    Raises
    ------
    TrackingError
        The server or the store of files that is named does not answer.
    """
    if config.mlflow is False:
        return None
    from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

    uri = None if config.mlflow is True else config.mlflow
    return MlflowTracker(uri, images=config.images, artifacts=config.artifacts)
