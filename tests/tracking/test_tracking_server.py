"""Tracking on a real MLflow server, on SQLite or PostgreSQL, killed in the middle and restarted."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bmapest_ray.cli import main
from bmapest_ray.study.config import ComputeConfig
from bmapest_ray.study.status import TrialStatus
from bmapest_ray.tracking.benchmark import measure_tracking
from bmapest_ray.tracking.mlflow_tracker import MlflowTracker
from bmapest_ray.tracking.writer import Writer

sys.path.insert(0, str(Path(__file__).parents[1] / "contracts"))
from postgres_server import running_server
from services import Server, levels_of
from tracker_contract import make_job, make_result, make_study, make_trial

pytestmark = [
    pytest.mark.services,
    # MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; nothing that we could change.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]

STUDY = """
name: killed
question: What if the server dies?
anatomy: {matrix: 16}
protocols: ["t1inv[2]", "t1inv"]
noise: {snr: 100, reference: "t1inv[3]"}
search: {n_trials: 2, space: {inversion.settings.damping: {low: 0.0, high: 1.0}}}
compute: {runner: local}
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_server() as database:
        yield database.url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    backend = (
        f"sqlite:///{folder / 'mlflow.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres")
    )
    server = Server(folder, backend)
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


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_a_killed_server_stops_no_study_and_a_resumed_one_tells_it_all(
    server: Server, tmp_path: Path
) -> None:
    study = make_study(tmp_path, study_id=f"killed-{time.time_ns()}")
    study = replace(study, name=study.id)
    tracker = MlflowTracker(server.uri, writer=Writer(patience=1, pause_s=120))
    tracker.study_started(study)
    tell(tracker, 0)
    assert tracker.drain(120)
    server.kill()
    for number in (1, 2, 3):
        tell(tracker, number)
    tracker.study_done(make_result(study))
    tracker.close(60)
    assert "MLflow misses 13 of 18 entries" in tracker.problem

    server.start()
    again = MlflowTracker(server.uri)
    again.study_started(replace(study, resumed=True))
    for number in range(4):
        tell(again, number)
    again.study_done(make_result(study))
    again.close(120)
    assert again.problem == ""
    assert levels_of(server.uri, study.name) == {"study": 1, "trial": 4, "job": 8}


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_what_a_server_that_died_misses_is_rebuilt_from_the_folder(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"killed-{time.time_ns()}"
    (tmp_path / "study.yaml").write_text(STUDY.replace("name: killed", f"name: {name}"))
    out = str(tmp_path / "out")
    words = [str(tmp_path / "study.yaml"), "--out", out, "-o", f"tracking.mlflow={server.uri}"]
    original = MlflowTracker.job_done

    def kill_first(self: MlflowTracker, *told: object) -> None:
        server.kill()
        original(self, *told)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowTracker, "job_done", kill_first)
        assert main(["run", *words]) == 0
    assert "MLflow misses" in capsys.readouterr().err
    server.start()
    assert main(["study", "rebuild", out, "--mlflow", server.uri]) == 0
    assert levels_of(server.uri, name) == {"study": 1, "trial": 6, "job": 6}


def test_many_jobs_are_logged_without_an_error(server: Server, tmp_path: Path) -> None:
    cost = measure_tracking(tmp_path, server.uri, 20, 0.0, ComputeConfig(runner="local"))
    assert cost.problem == ""
    assert cost.written == 1 + 2 + 20 + 1
    assert cost.lag_s > 0
