"""Every panel of the dashboards against a real Prometheus that scrapes a running study."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bmapest_ray.cli import main
from bmapest_ray.cli.dashboards_command import VARIABLE, dashboards_folder
from bmapest_ray.compute.factory import make_runner
from bmapest_ray.compute.ray_session import import_ray, secure_token
from bmapest_ray.study.job import WORK
from bmapest_ray.study.loading import load_study
from bmapest_ray.study.run import run_study

DASHBOARDS = sorted((dashboards_folder() / "grafana").glob("*.json"))
QUERIES = [
    (path.stem, panel["title"], target["expr"])
    for path in DASHBOARDS
    for panel in json.loads(path.read_text())["panels"]
    for target in panel["targets"]
]

STUDY = """
name: watched
question: What does Prometheus see of a study?
anatomy: {matrix: 16}
protocols: ["t1inv[2]", "t2prep[0:2]"]
noise: {snr: 100, reference: "t1inv[3]"}
search: {n_trials: 400, sampler: random,
  space: {inversion.settings.damping: {low: 0.0, high: 1.0}}}
compute: {runner: ray, actors: 1, num_cpus: 0.5}
tracking: {mlflow: false}
"""


def test_dashboards_are_installed_where_grafana_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "grafana"))
    assert main(["dashboards", "install"]) == 0
    assert "--config.file=" in capsys.readouterr().out
    installed = {path.name: path.read_text() for path in (tmp_path / "grafana").iterdir()}
    assert installed == {path.name: path.read_text() for path in DASHBOARDS}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A study that runs on Ray; gives the port of its metrics."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "study.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        secure_token()
        ray = import_ray()
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=128 * 1024**2,
        )  # fmt: skip
        config = load_study(folder / "study.yaml")
        runner = make_runner(config.compute, WORK, {}, study=config.name)
        stopped = threading.Event()

        class Watched:
            """Stops the study when the test is over."""

            def update(self, snapshot: object) -> None:  # noqa: ARG002
                if stopped.is_set():
                    raise RuntimeError("seen enough")

            def message(self, text: str) -> None:
                pass

        def run() -> None:
            try:
                run_study(config, folder / "out", runner=runner, progress=Watched())
            except RuntimeError as error:
                assert str(error) == "seen enough"  # noqa: PT017

        thread = threading.Thread(target=run)
        thread.start()
        yield int(ray.nodes()[0]["MetricsExportPort"])
        stopped.set()
        thread.join(120)
        runner.shutdown()
        ray.shutdown()


@pytest.fixture(scope="module")
def prometheus(running: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the settings that are shipped, but for a faster pace and Ray's file."""
    folder = tmp_path_factory.mktemp("prometheus")
    settings = yaml.safe_load((dashboards_folder() / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (found,) = settings["scrape_configs"][0]["file_sd_configs"]
    found["files"] = [str(folder / "ray.json")]
    (folder / "ray.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{running}"]}]))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = shutil.which("prometheus")
    assert program, "install prometheus"
    command = [program, f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def ask(address: str, query: str) -> list[dict[str, Any]]:
    words = urllib.parse.urlencode({"query": query.replace("$study", "watched|.*")})
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{words}", timeout=10) as reply:  # noqa: S310
            told = json.load(reply)
    except urllib.error.URLError as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 400:
            raise
        return []
    assert told["status"] == "success", told
    return list(told["data"]["result"])


@pytest.mark.endurance
@pytest.mark.services
@pytest.mark.parametrize(
    ("dashboard", "panel", "query"), QUERIES, ids=[f"{d}-{t}" for d, t, _ in QUERIES]
)
def test_a_panel_shows_data_while_a_study_runs(
    prometheus: str, dashboard: str, panel: str, query: str
) -> None:
    end = time.monotonic() + 90
    while True:
        found = ask(prometheus, query)
        if found and all(row["value"][1] not in ("NaN", "+Inf") for row in found):
            return
        assert time.monotonic() < end, f"{dashboard}, {panel}: {query} gives {found}"
        time.sleep(0.5)


@pytest.mark.endurance
@pytest.mark.services
def test_what_prometheus_sees_is_the_study(prometheus: str) -> None:
    query = 'sum by (protocol) (ray_bmapest_jobs_done_total{study="watched"})'
    end = time.monotonic() + 60
    while len(found := ask(prometheus, query)) < 2:
        assert time.monotonic() < end, found
        time.sleep(0.5)
    assert {row["metric"]["protocol"] for row in found} == {"t1inv[2]", "t2prep[0:2]"}
    assert all(float(row["value"][1]) > 0 for row in found)
