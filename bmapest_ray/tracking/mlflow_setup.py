"""How MLflow is set up: no telemetry, no long retries, no chatter, and where a study's store is."""

import importlib
import importlib.util
import logging
import os
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING

from bmapest_ray.base.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALWAYS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""Nothing phones home, whatever the user's environment says."""

DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""A dead server costs seconds, not the minutes of MLflow's own retries; the user may override."""

STORE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"


def prepare_environment() -> dict[str, str]:
    """Set MLflow's environment variables for this process; returns those that were set."""
    chosen = ALWAYS | {name: os.environ.get(name, value) for name, value in DEFAULTS.items()}
    os.environ.update(chosen)
    return chosen


def default_uri(directory: Path) -> str:
    """Return the URI of the SQLite store inside a study's folder."""
    return f"sqlite:///{(directory / STORE_NAME).resolve()}"


def is_server(uri: str) -> bool:
    """Whether a URI names a server rather than a database."""
    return uri.startswith(("http://", "https://"))


def import_notebook() -> None:
    """Import IPython where it is installed, before a thread does.

    MLflow imports it while it writes; matplotlib, drawing meanwhile, takes it for whole.
    """
    if importlib.util.find_spec("IPython") is not None:
        importlib.import_module("IPython")


def check_server(uri: str, timeout_s: float = 5.0) -> None:
    """Fail at once where no MLflow server answers; databases are not asked.

    Raises
    ------
    TrackingError
        The server does not answer, or answers that it is not well.
    """
    if not is_server(uri):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s):  # noqa: S310
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"tracking.mlflow must name an MLflow server that answers, got {uri} ({reason}); "
            "start it or set it to true to use a file in the study's folder"
        ) from error


def open_client(uri: str) -> "MlflowClient":
    """Import MLflow quietly and return a client of a store; makes the tables of a new database."""
    prepare_environment()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; no user can do anything about it.
    warnings.filterwarnings("ignore", "The ``noload`` loader", DeprecationWarning)
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _do_not_wait_for_the_disk):
        event.listen(Engine, "connect", _do_not_wait_for_the_disk)
    # MLflow gives its loggers a level when it is imported, so this comes after.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def _do_not_wait_for_the_disk(connection: object, record: object) -> None:  # noqa: ARG001
    """Let SQLite leave a study's own store to the system, not wait for the disk at every commit.

    A killed driver costs nothing. A machine that loses its power may leave the store broken:
    delete it, and ``bmapest study rebuild`` makes it again from the study's folder.
    """
    if not isinstance(connection, Connection):
        return
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if Path(file).name == STORE_NAME:
        connection.execute("PRAGMA synchronous = OFF")
