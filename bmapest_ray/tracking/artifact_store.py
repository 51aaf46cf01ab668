"""A store that speaks S3, for the files that MLflow keeps."""

import os
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlparse

from bmapest_ray.base.errors import MissingInput, TrackingError

ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
"""Where MLflow looks for the store; unset, it is Amazon's."""

_PATIENCE_S = 20.0


def check_store(uri: str) -> None:
    """Fail at once where the bucket of ``s3://BUCKET/PREFIX`` cannot be reached.

    Raises
    ------
    MissingInput
        The package that talks to it is not installed.
    TrackingError
        Nothing answers, the keys are refused or there is no such bucket.
    """
    if find_spec("boto3") is None:
        raise MissingInput(
            f"tracking.artifacts {uri} needs the package boto3, it is not installed; "
            "run 'pip install bmapest_ray[s3]'"
        )
    from botocore.exceptions import BotoCoreError, ClientError

    bucket = urlparse(uri).netloc
    try:
        open_store().head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError, ValueError) as error:
        where = os.environ.get(ENDPOINT) or "Amazon S3"
        reason = " ".join(str(error).split())
        raise TrackingError(
            f"tracking.artifacts must name a bucket that may be written, got {uri} at {where} "
            f"({reason}); make the bucket, or set {ENDPOINT}, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from error


def open_store() -> Any:  # noqa: ANN401 - boto3 makes its classes while it runs
    """Return a client of the store that MLflow will use."""
    import boto3
    from botocore.config import Config

    patience = Config(
        connect_timeout=_PATIENCE_S, read_timeout=_PATIENCE_S, retries={"total_max_attempts": 1}
    )
    return boto3.client("s3", endpoint_url=os.environ.get(ENDPOINT), config=patience)
