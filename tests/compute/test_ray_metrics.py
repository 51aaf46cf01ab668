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

PATIENCE_S = 300.0


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
    tasks = [Task(f"t{number}", {"value": result}) for number in range(3)]
    for task in [*tasks, Task("bad", {"raise": "no"})]:
        runner.submit(task)
        assert runner.next_done(PATIENCE_S) is not None
    deadline, seen = time.monotonic() + PATIENCE_S, dict[str, float]()
    while time.monotonic() < deadline and not _everything_is_in(seen):
        time.sleep(0.5)
        runner.submit(Task(f"{time.monotonic()}", {"value": 1}))
        runner.next_done(10)
        seen = _samples(metrics_port)
    runner.shutdown()
    assert _everything_is_in(seen), seen


def _everything_is_in(seen: dict[str, float]) -> bool:
    """Whether every process has sent what the three jobs and the failed one have left there."""
    exactly = {
        "jobs_failed_total": 1.0,
        "inversion_seconds_count": 3.0,
        "inversion_seconds_sum": pytest.approx(0.6),
        "psnr_db_sum": pytest.approx(93.0),
        "workers_up": 1.0,
    }
    return (
        all(seen.get(f"ray_bmapest_{name}") == value for name, value in exactly.items())
        and seen.get("ray_bmapest_jobs_done_total", 0.0) >= 3
        and seen.get("ray_bmapest_worker_memory_bytes", 0.0) > 1e7
    )
