"""Every panel of the dashboards against a real Prometheus that scrapes a running study."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bmapest_ray.cli import main
from bmapest_ray.cli.dashboards_command import VARIABLE, dashboards_folder

PROTOCOLS = {"t1inv[2]", "t2prep[0:2]"}
ENVIRONMENT = {"RAY_metrics_report_interval_ms": "1000", "RAY_worker_niceness": "0"}
"""Ray's workers have the lowest priority but four: beside other work they would hardly start."""
START_S = 600
SCRAPES = 60
"""Every panel has data after so many readings: a clock would measure the machine's other work."""
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
search: {n_trials: 100000, sampler: random,
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


class Running:
    """A study in a process of its own: Ray reads its token and its settings once per process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "study.yaml").write_text(STUDY)
        program = Path(__file__).with_name("watched_study_process.py")
        environment = {**os.environ, **ENVIRONMENT, "HOME": str(folder)}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(program), str(folder)], env=environment, stdout=log, stderr=log
            )

    def wait_for(self, true: Callable[[], bool], seconds: float) -> None:
        """Wait for something that happens while the study runs."""
        end = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < end, f"not within {seconds:.0f} s"
            time.sleep(0.5)

    def is_under_way(self) -> bool:
        """Whether every protocol has a job that is done."""
        done = [json.loads(path.read_text()) for path in self.folder.glob("out/jobs/*/*.json")]
        return {job["protocol"] for job in done} == PROTOCOLS

    @property
    def port(self) -> int:
        """Port of the metrics."""
        return int((self.folder / "port").read_text())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A study that has jobs to show and does not end by itself.

    How long it takes to get there says what else the machine does: workers import torch and build
    their first operators.
    """
    study = Running(tmp_path_factory.mktemp("watched"))
    try:
        study.wait_for(study.is_under_way, START_S)
        yield study
        study.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # how a study ends is tested elsewhere
            study.process.wait(120)
    finally:
        study.process.kill()
        study.process.wait()


@pytest.fixture(scope="module")
def prometheus(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the settings that are shipped, but for a faster pace and Ray's file."""
    folder = tmp_path_factory.mktemp("prometheus")
    settings = yaml.safe_load((dashboards_folder() / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (found,) = settings["scrape_configs"][0]["file_sd_configs"]
    found["files"] = [str(folder / "ray.json")]
    (folder / "ray.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{running.port}"]}]))
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


def scrapes(address: str) -> int:
    """How often Prometheus has read the metrics."""
    return sum(int(row["value"][1]) for row in ask(address, "sum_over_time(up[1h])"))


def data(address: str, query: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[Any]:
    """Ask until there is enough, for as long as Prometheus reads no more than `SCRAPES` times."""
    before, end = scrapes(address), time.monotonic() + START_S
    while not enough(found := ask(address, query)):
        assert scrapes(address) - before < SCRAPES, f"{query} gives {found}"
        assert time.monotonic() < end, f"{query} gives {found}"
        time.sleep(0.5)
    return found


def numbers(found: list[dict[str, Any]]) -> bool:
    """Whether every series has a number now."""
    return bool(found) and all(row["value"][1] not in ("NaN", "+Inf") for row in found)


@pytest.mark.services
@pytest.mark.parametrize(
    ("panel", "query"), [(t, q) for _, t, q in QUERIES], ids=[f"{d}-{t}" for d, t, _ in QUERIES]
)
def test_a_panel_shows_data_while_a_study_runs(prometheus: str, panel: str, query: str) -> None:
    found = data(prometheus, query, numbers)
    if panel in ("Jobs done", "Jobs per second"):
        data(prometheus, query, lambda found: any(float(row["value"][1]) > 0 for row in found))
    assert found


@pytest.mark.services
def test_what_prometheus_sees_is_the_study(running: Running, prometheus: str) -> None:
    query = 'sum by (protocol) (ray_bmapest_jobs_done_total{study="watched"})'
    found = data(prometheus, query, lambda found: len(found) == 2)
    assert {row["metric"]["protocol"] for row in found} == PROTOCOLS
    seen = sum(float(row["value"][1]) for row in found)
    assert 0 < seen <= len(list(running.folder.glob("out/jobs/*/*.json")))
