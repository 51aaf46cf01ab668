"""Tracking on a real MLflow server, which is killed in the middle and comes back."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bmapest_ray.study.status import TrialStatus
from bmapest_ray.tracking.mlflow_setup import open_client, prepare_environment
from bmapest_ray.tracking.mlflow_tracker import MlflowTracker
from bmapest_ray.tracking.writer import Writer

sys.path.insert(0, str(Path(__file__).parents[1] / "contracts"))
from tracker_contract import make_job, make_result, make_study, make_trial

pytestmark = [
    pytest.mark.services,
    # MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; nothing that we could change.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]


class Server:
    """An MLflow server in a folder, on the loopback address."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
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
        end = time.monotonic() + 90
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder, f"sqlite:///{folder / 'mlflow.db'}")
    server.start()
    yield server
    server.kill()


def tell(tracker: MlflowTracker, number: int) -> None:
    jobs = [make_job(f"job-{number}-{i}") for i in range(2)]
    trial = make_trial(number, *(job.id for job in jobs))
    tracker.trial_started(trial)
    for job in jobs:
        tracker.job_done(trial, job)
    tracker.trial_done(replace(trial, status=TrialStatus.COMPLETE, value=31.0 + number))


def test_a_killed_server_stops_no_study_and_a_resumed_one_tells_it_all(
    server: Server, tmp_path: Path
) -> None:
    study = make_study(tmp_path)
    tracker = MlflowTracker(server.uri, writer=Writer(patience=1, pause_s=120))
    tracker.study_started(study)
    tell(tracker, 0)
    assert tracker.drain(60)
    server.kill()
    start = time.monotonic()
    for number in (1, 2, 3):
        tell(tracker, number)
    tracker.study_done(make_result(study))
    assert time.monotonic() - start < 1.0
    tracker.close(60)
    assert "MLflow misses 13 of 18 entries" in tracker.problem

    server.start()
    again = MlflowTracker(server.uri)
    again.study_started(make_study(tmp_path, resumed=True))
    for number in range(4):
        tell(again, number)
    again.study_done(make_result(study))
    again.close(60)
    assert again.problem == ""
    client = open_client(server.uri)
    experiment = client.get_experiment_by_name("contract")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    levels = [run.data.tags["bmapest.level"] for run in runs]
    assert [levels.count(level) for level in ("study", "trial", "job")] == [1, 4, 8]
    assert {run.info.status for run in runs} == {"FINISHED"}
