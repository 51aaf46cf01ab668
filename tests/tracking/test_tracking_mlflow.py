import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from bmapest_ray.base.errors import TrackingError
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.records import JobRecord, StudyInfo
from bmapest_ray.study.showcase import Shown
from bmapest_ray.study.status import Stage, TrialStatus
from bmapest_ray.tracking.mlflow_setup import default_uri, open_client
from bmapest_ray.tracking.mlflow_text import allowed_name, flatten, job_points, split_of
from bmapest_ray.tracking.mlflow_tracker import MlflowTracker
from bmapest_ray.tracking.writer import Writer

sys.path.insert(0, str(Path(__file__).parents[1] / "contracts"))
from tracker_contract import (
    SeenTrial,
    TrackerContract,
    make_job,
    make_result,
    make_study,
    make_trial,
)

# MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; nothing that we could change.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with its tables, made once because that takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    open_client(default_uri(folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def study_dir(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def runs_of(directory: Path, level: str, name: str = "contract") -> list[Any]:
    client = open_client(default_uri(directory))
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`bmapest.level` = '{level}'", max_results=1000
    )
    return list(found)


class TestMlflowTracker(TrackerContract):
    @pytest.fixture
    def tracker(self, study_dir: Path) -> Iterator[MlflowTracker]:  # noqa: ARG002
        tracker = MlflowTracker()
        yield tracker
        tracker.close()
        assert tracker.problem == ""

    def reopened(self, tracker: MlflowTracker, tmp_path: Path) -> MlflowTracker:  # noqa: ARG002
        tracker.drain()
        return MlflowTracker()

    def seen(self, tracker: MlflowTracker, study: StudyInfo) -> Mapping[str, SeenTrial]:
        tracker.drain()
        assert tracker.problem == ""
        (root,) = runs_of(study.directory, "study")
        trials, jobs = runs_of(study.directory, "trial"), runs_of(study.directory, "job")
        assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {root.info.run_id}
        return {
            trial.data.tags["bmapest.key"]: SeenTrial(
                trial.data.tags["bmapest.status"],
                trial.data.metrics.get("objective"),
                {
                    job.data.tags["digest"]: {
                        ".".join(reversed(name.split("/"))): value
                        for name, value in job.data.metrics.items()
                        if name.startswith("psnr_db/")
                    }
                    for job in jobs
                    if job.data.tags["mlflow.parentRunId"] == trial.info.run_id
                },
            )
            for trial in trials
        }


def job_with_maps(directory: Path, job_id: str = "with-maps") -> JobRecord:
    files = {}
    for index, name in enumerate([*TISSUES, *(f"truth_{tissue}" for tissue in TISSUES)]):
        image = nibabel.Nifti1Image(np.full((8, 8, 1), 0.1 * index, np.float32), np.eye(4))
        nibabel.save(image, directory / f"{name}.nii.gz")
        files[name] = f"{name}.nii.gz"
    configuration = {"solver": "gauss-newton", "settings": {"damping": 0.5}, "prior": None}
    return replace(make_job(job_id), files=files, configuration=configuration)


def test_a_job_shows_its_curve_its_settings_and_its_maps(study_dir: Path) -> None:
    tracker, study, trial = MlflowTracker(), make_study(study_dir), make_trial(0, "with-maps")
    trial = replace(trial, key=replace(trial.key, stage=Stage.REPORT))
    tracker.study_started(replace(study, digests={"protocol/t1inv[0],x": "d" * 64}))
    tracker.trial_started(trial)
    tracker.job_done(trial, job_with_maps(study_dir))
    tracker.trial_done(replace(trial, status=TrialStatus.COMPLETE, value=30.0))
    tracker.study_done(make_result(study))
    tracker.close()
    assert tracker.problem == ""

    client = open_client(default_uri(study_dir))
    (job,), (trial_run,), (root,) = (runs_of(study_dir, lv) for lv in ("job", "trial", "study"))
    curve = client.get_metric_history(job.info.run_id, "convergence/objective")
    assert [(point.step, point.value) for point in curve] == [(0, 2.0), (1, 1.0)]
    assert job.data.params["settings.damping"] == "0.5"
    assert "prior" not in job.data.params
    assert (job.data.tags["subject"], job.data.tags["solver"]) == ("42", "gauss-newton")
    files = [item.path for item in client.list_artifacts(job.info.run_id)]
    assert sorted(files) == ["maps", "maps.png"]
    niftis = [item.path for item in client.list_artifacts(job.info.run_id, "maps")]
    assert niftis == [f"maps/{tissue}.nii.gz" for tissue in sorted(TISSUES)]
    images = [item.path for item in client.list_artifacts(trial_run.info.run_id, "images")]
    assert any("maps" in path and path.endswith(".png") for path in images)
    assert trial_run.data.metrics["psnr_db/GM"] == pytest.approx(30.0)
    assert trial_run.data.params["inversion.settings.damping"] == "0.1"
    assert root.data.tags["digest.protocol/t1inv_0_x"] == "d" * 64
    note = root.data.tags["mlflow.note.content"]
    assert "Which protocol measures grey matter best?" in note
    assert "n = 1: no test" in note
    kept = {item.path for item in client.list_artifacts(root.info.run_id)}
    wanted = {"study.yaml", "protocols", "environment.yaml", "requirements.txt", "runner.yaml"}
    assert wanted <= kept
    requirements = client.download_artifacts(root.info.run_id, "requirements.txt")
    assert f"mlflow=={version('mlflow')}" in Path(requirements).read_text().splitlines()
    (played,) = root.inputs.dataset_inputs
    assert (played.dataset.name, played.dataset.digest) == ("protocol t1inv[0],x", "d" * 16)
    assert (trial_run.data.tags["split"], job.data.tags["split"]) == ("report", "report")


def test_a_shown_fit_has_a_slider_over_iterations_and_its_deviations(study_dir: Path) -> None:
    tracker, study, trial = MlflowTracker(), make_study(study_dir), make_trial(0, "with-maps")
    trial, job = (
        replace(trial, key=replace(trial.key, stage=Stage.REPORT)),
        job_with_maps(study_dir),
    )
    frames = np.full((2, 3, 8, 8), 0.5, np.float32)
    shown = Shown(job.id, {"trial": str(trial.key)}, (0, 4), frames, frames[0, 0], 0.1 * frames[0])
    tracker.study_started(study)
    tracker.trial_started(trial)
    tracker.job_done(trial, job)
    tracker.trial_done(replace(trial, status=TrialStatus.COMPLETE, value=30.0))
    tracker.study_done(make_result(study))
    (study_dir / "played").mkdir()
    (study_dir / "played" / "00_t1inv.seq").write_text("[VERSION]")
    for _ in range(2):  # telling it again changes nothing
        tracker.show(shown, job)
        tracker.attach(study_dir / "played", "protocols/t1inv")
        tracker.conclude(make_result(study), "x is ahead of y by 2 dB.")
    tracker.close()
    assert tracker.problem == ""
    client = open_client(default_uri(study_dir))
    (run,), (root,) = runs_of(study_dir, "trial"), runs_of(study_dir, "study")
    images = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
    steps = [path for path in images if "iterations" in path and path.endswith(".png")]
    assert len(steps) == 2
    note = root.data.tags["mlflow.note.content"]
    assert note.splitlines()[2] == "**Answer.** x is ahead of y by 2 dB."  # the UI folds the rest
    assert sorted(re.findall(r"step\W(\d+)", " ".join(steps))) == ["0", "4"]
    assert "deviations.png" in [item.path for item in client.list_artifacts(run.info.run_id)]
    played = [item.path for item in client.list_artifacts(root.info.run_id, "protocols/t1inv")]
    assert played == ["protocols/t1inv/00_t1inv.seq"]


def test_a_split_is_named_as_the_study_names_it() -> None:
    named = {"anatomy": {"subjects": "report"}, "search": {"tune_subjects": "tune"}}
    assert split_of(named, Stage.SEARCH) == "tune"
    assert split_of(named, Stage.REPORT) == "report"
    lists = {"anatomy": {"subjects": ["04"]}, "search": {"tune_subjects": ["05"]}}
    assert [split_of(lists, stage) for stage in Stage] == ["tune", "report"]
    assert split_of({"anatomy": {"subjects": "all"}, "search": {}}, Stage.SEARCH) == "all"


def test_an_interrupted_study_leaves_nothing_running_and_is_completed_later(
    study_dir: Path,
) -> None:
    study, trial = make_study(study_dir), make_trial(0, "a")
    first = MlflowTracker()
    first.study_started(study)
    first.trial_started(trial)
    first.study_done(make_result(study))
    first.close()
    assert [run.info.status for run in runs_of(study_dir, "trial")] == ["KILLED"]

    second = MlflowTracker()
    TrackerContract.play(second, make_study(study_dir, resumed=True))
    second.study_done(make_result(study))
    second.close()
    assert {run.info.status for run in runs_of(study_dir, "trial")} == {"FINISHED"}
    assert len(runs_of(study_dir, "study")) == 1


def test_a_server_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrackingError, match=r"tracking\.mlflow must name an MLflow server"):
        MlflowTracker(f"http://127.0.0.1:{free_port()}")


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_dies_never_stops_a_study(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", free_port()), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tracker = MlflowTracker(
        f"http://127.0.0.1:{server.server_port}", writer=Writer(patience=1, pause_s=60)
    )
    server.shutdown()
    server.server_close()
    study = make_study(tmp_path)
    TrackerContract.play(tracker, study)
    tracker.study_done(make_result(study))
    tracker.close(timeout_s=60)
    assert "MLflow misses 10 of 10 entries" in tracker.problem
    assert "results on disk are complete" in tracker.problem


def test_telemetry_is_off_before_mlflow_is_imported() -> None:
    code = (
        "import json; from pathlib import Path; "
        "from bmapest_ray.tracking.mlflow_setup import open_client; "
        "import bmapest_ray.tracking.mlflow_setup as s; s.prepare_environment(); "
        "from mlflow.telemetry.utils import is_telemetry_disabled; "
        "print(json.dumps(is_telemetry_disabled()))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DO_NOT", "CI"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) is True


def test_names_and_values_that_mlflow_takes() -> None:
    assert allowed_name("t1inv,t2prep[1]") == "t1inv_t2prep_1"
    assert dict(flatten({"a": {"b": 1, "c": None}, "d[0]": "x"})) == {"a.b": "1", "d_0": "x"}


def test_what_comes_back_from_a_file_is_told_in_the_same_words() -> None:
    told = {"weights": (("dir", 0.5),), "none": (), "kind": TrialStatus.COMPLETE, "on": True}
    assert dict(flatten(json.loads(json.dumps(told)))) == dict(flatten(told))
    assert dict(flatten(told))["weights"] == "[['dir', 0.5]]"


def test_a_score_that_is_not_a_number_is_left_out() -> None:
    job = replace(make_job("j"), scores={"GM": {"psnr_db": None, "ssim": float("nan"), "mae": 0.1}})
    scored = [name for name, _, _ in job_points(job) if name.endswith("/GM")]
    assert scored == ["mae/GM"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
