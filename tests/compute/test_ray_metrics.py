"""The metrics of a study as Prometheus reads them from Ray."""

import re
import time
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bmapest_ray.compute.ray import RayRunner
from bmapest_ray.compute.ray_metrics import METRICS, resident_bytes
from bmapest_ray.compute.ray_session import import_ray, secure_token
from bmapest_ray.compute.ray_slot import RaySettings
from bmapest_ray.study.ports import Task


def test_names_are_distinct_valid_and_described() -> None:
    names = [spec.exported for spec in METRICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"ray_bmapest_[a-z_]+", name) for name in names)
    assert all(spec.description.endswith(".") for spec in METRICS)
    assert all(bool(spec.boundaries) == (spec.kind == "histogram") for spec in METRICS)


def test_resident_memory_grows_with_what_is_held() -> None:
    before = resident_bytes()
    held = bytearray(b"1") * 50_000_000
    assert resident_bytes() - before > 40_000_000
    assert len(held) == 50_000_000


@pytest.fixture
def metrics_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    secure_token()
    ray = import_ray()
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "200")
    context = ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=128 * 1024**2,
    )  # fmt: skip
    assert context is not None
    yield int(ray.nodes()[0]["MetricsExportPort"])
    ray.shutdown()


def _samples(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("ray_bmapest"):
            name = re.split(r"[{ ]", line)[0]
            found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


@pytest.mark.slow
def test_prometheus_sees_what_a_runner_did(metrics_port: int) -> None:
    work = "bmapest_ray.compute.probe:play"
    runner = RayRunner(work, RaySettings(actors=1, num_cpus=0.5, study="seen"))
    result = SimpleNamespace(seconds=0.2, scores={"GM": {"psnr_db": 31.0}}, status="DONE")
    for number in range(3):
        runner.submit(Task(f"t{number}", {"value": result}))
        assert runner.next_done(60) is not None
    runner.submit(Task("bad", {"raise": "no"}))
    assert runner.next_done(60) is not None
    deadline, seen = time.monotonic() + 30, dict[str, float]()
    while time.monotonic() < deadline and "ray_bmapest_worker_memory_bytes" not in seen:
        time.sleep(0.5)
        runner.submit(Task(f"{time.monotonic()}", {"value": 1}))
        runner.next_done(10)
        seen = _samples(metrics_port)
    runner.shutdown()
    assert seen["ray_bmapest_jobs_done_total"] >= 3
    assert seen["ray_bmapest_jobs_failed_total"] == 1
    assert seen["ray_bmapest_inversion_seconds_count"] == 3
    assert seen["ray_bmapest_inversion_seconds_sum"] == pytest.approx(0.6)
    assert seen["ray_bmapest_psnr_db_sum"] == pytest.approx(93.0)
    assert seen["ray_bmapest_workers_up"] == 1
    assert seen["ray_bmapest_worker_memory_bytes"] > 1e7
