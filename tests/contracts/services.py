"""The services that studies are tested with: an MLflow server, a Ray cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from subprocess import Popen

from bmapest_ray.tracking.mlflow_setup import open_client, prepare_environment


@contextmanager
def while_away(
    stop: Callable[[], None], start: Callable[[], None], seconds: float
) -> Iterator[None]:
    """Stop for at least so long while the block runs; it is back afterwards."""
    stop()
    until = time.monotonic() + seconds
    try:
        yield
    finally:
        time.sleep(max(0.0, until - time.monotonic()))
        start()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_ray(environment: Mapping[str, str] | None = None) -> tuple[Popen[str], dict[str, str]]:
    """Start a cluster in a process of its own; closing its stdin ends it. Returns its addresses."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "cluster" / "cluster_process.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(next(line for line in process.stdout if line.startswith("{")))


class Server:
    """An MLflow server in a folder, on the loopback address."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend, self.port = folder, backend, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers"]
        command += ["1", "--port", str(self.port), "--backend-store-uri", self.backend]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = os.environ | prepare_environment()
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 300
        while not self.answers():
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):  # noqa: S310
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def away(self, seconds: float) -> AbstractContextManager[None]:
        """Kill it for at least so long while the block runs; it is back afterwards."""
        return while_away(self.kill, self.start, seconds)


def levels_of(uri: str, experiment: str) -> dict[str, int]:
    """How many runs of each level an experiment has; all of them must have ended well."""
    client = open_client(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = list(client.search_runs([found.experiment_id], max_results=1000))
    assert {run.info.status for run in runs} == {"FINISHED"}
    levels = [run.data.tags["bmapest.level"] for run in runs]
    return {level: levels.count(level) for level in ("study", "trial", "job")}
