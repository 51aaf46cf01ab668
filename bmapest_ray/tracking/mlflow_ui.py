"""The MLflow UI on a study's store, for this machine alone."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from urllib.parse import urlencode

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.tracking.mlflow_setup import STORE_NAME, default_uri, prepare_environment

LOOPBACK = "127.0.0.1"
PROTOCOLS = "tags.`bmapest.level` = 'trial' and tags.stage = 'report'"
"""Finds the one reported trial of each protocol."""


def find_store(directory: Path) -> Path:
    """Return the folder with the MLflow store: `directory`, or the newest study inside it.

    Raises
    ------
    MissingInput
        There is no store.
    """
    if (directory / STORE_NAME).is_file():
        return directory
    stores = sorted(directory.glob(f"*/{STORE_NAME}"), key=lambda path: path.stat().st_mtime)
    if stores:
        return stores[-1].parent
    raise MissingInput(
        f"the MLflow UI needs a study's folder with {STORE_NAME}, got '{directory}'; run a study "
        "with 'bmapest run', or name its --out folder"
    )


def links(directory: Path, port: int) -> dict[str, str]:
    """Return addresses worth opening: all runs, nested, and the protocols side by side."""
    with closing(sqlite3.connect(f"file:{directory / STORE_NAME}?mode=ro", uri=True)) as store:
        newest = "SELECT max(experiment_id) FROM experiments"
        experiment = store.execute(newest).fetchone()[0]
    runs = f"http://{LOOPBACK}:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    side_by_side = {
        "searchFilter": PROTOCOLS,
        "orderByKey": "metrics.`objective`",  # sorted by anything but time, runs do not nest
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    return {"runs": runs, "protocols": f"{runs}&{urlencode(side_by_side)}"}


def ui_command(directory: Path, port: int) -> list[str]:
    """Return the command that serves a store on the loopback address."""
    if not 1024 <= port <= 65535:
        raise InvalidInput(f"port must be from 1024 to 65535, got {port}; try 5000")
    uri = default_uri(directory)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port)),
        *("--backend-store-uri", uri, "--workers", "1"),
    ]


def serve(directory: Path, port: int) -> int:
    """Serve a store until the user stops it; returns the server's exit code."""
    prepare_environment()
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }
    # No shell, and every word is ours but the port, a number, and the store's path. MLflow starts
    # processes of its own: a session makes it possible to stop all of them.
    command = ui_command(directory, port)
    server = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = server.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if code == -signal.SIGTERM else code
