"""MLflow's files in a store that speaks S3, pretended by moto's server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tracker_contract import make_job, make_result, make_study, make_trial

from bmapest_ray.base.errors import TrackingError
from bmapest_ray.cli import main
from bmapest_ray.tracking.artifact_store import ENDPOINT, check_store, open_store
from bmapest_ray.tracking.mlflow_setup import default_uri, open_client
from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENDPOINT, f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        open_store().create_bucket(Bucket="studies")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.usefixtures("endpoint")
def test_files_go_to_the_store_and_come_back(tmp_path: Path) -> None:
    tracker = MlflowTracker(artifacts="s3://studies/brains")
    study, trial = make_study(tmp_path), make_trial(0, "job-0")
    (tmp_path / "report.html").write_text("<p>An answer.</p>")
    tracker.study_started(study)
    tracker.trial_started(trial)
    tracker.job_done(trial, make_job("job-0"))
    tracker.trial_done(trial)
    tracker.attach(tmp_path / "report.html")
    tracker.study_done(make_result(study))
    tracker.close()
    assert tracker.problem == ""

    kept = open_store().list_objects_v2(Bucket="studies", Prefix="brains/")["Contents"]
    names = {item["Key"].rpartition("/artifacts/")[2] for item in kept}
    assert {"report.html", "study.yaml", "protocols/t1inv.yaml"} <= names
    assert not (tmp_path / "mlartifacts").exists()
    client = open_client(default_uri(tmp_path))
    found = client.get_experiment_by_name("contract")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id], "tags.`bmapest.level` = 'study'")
    back = client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))
    assert Path(back).read_text() == "<p>An answer.</p>"


@pytest.mark.usefixtures("endpoint")
def test_a_bucket_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(TrackingError, match="must name a bucket that may be written, got s3://no"):
        check_store("s3://no-such-bucket/x")


def test_what_is_no_store_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "quickstart", "--out", str(tmp_path / "out"), "-o"]
    assert main([*words, "tracking.artifacts=/folder"]) == 2
    assert "must be s3://BUCKET/PREFIX, got '/folder'" in capsys.readouterr().err
    monkeypatch.setattr("bmapest_ray.tracking.artifact_store.find_spec", lambda _: None)
    assert main([*words, "tracking.artifacts=s3://studies"]) == 2
    assert "pip install bmapest_ray[s3]" in capsys.readouterr().err
