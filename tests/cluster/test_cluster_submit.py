"""A study through Ray Jobs with token authentication, and refused without."""

import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import start_ray

from bmapest_ray.cli import main
from bmapest_ray.study.store import load_results

STUDY = """
name: small
question: Does it arrive?
anatomy: {slices: ["below-top:75"], matrix: 16}
protocols: ["t2prep[0:2]"]
noise: {snr: 100}
inversion: {start: uniform, settings: {max_iterations: 4}}
compute: {actors: 1, num_cpus: 0.5}
tracking: {mlflow: false}
"""


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("ray://somewhere:10001", "must be the dashboard's http://HOST:PORT"),
        ("127.0.0.1:8265", "must be the dashboard's http://HOST:PORT"),
    ],
)
def test_an_address_that_is_no_dashboard_is_refused(
    address: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "quickstart", "--address", address]) == 2
    assert text in capsys.readouterr().err


def test_an_open_address_is_warned_of_and_no_token_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert main(["submit", "quickstart", "--address", "http://10.0.0.7:8265"]) == 2
    error = capsys.readouterr().err
    assert "10.0.0.7 is reached without encryption" in error
    assert "takes studies with its token only" in error
    assert main(["submit", "quickstart", "--out", "relative"]) == 2
    assert "must begin with / or ~" in capsys.readouterr().err


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    outside = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), outside["PATH"]])
    own = {"HOME": str(home), "RAY_AUTH_MODE": "token", "BMAPEST_CACHE": str(home), "PATH": path}
    return {**outside, **own}


@pytest.fixture(scope="module")
def dashboard(environment: dict[str, str]) -> Iterator[str]:
    process, addresses = start_ray(environment)
    with process:
        yield f"http://{addresses['http']}"


def submit(environment: dict[str, str], *words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bmapest_ray", "submit", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_study_arrives_with_the_token_and_is_refused_without(
    dashboard: str, environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    study, out = tmp_path / "small.yaml", tmp_path / "out"
    study.write_text(STUDY)
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600
    words = [study, "--address", dashboard, "--out", out]
    wrong = submit({**environment, "RAY_AUTH_TOKEN": "0" * 32}, *words)
    assert wrong.returncode == 2, wrong.stderr
    assert "refused the token" in wrong.stderr
    with pytest.raises(urllib.error.HTTPError) as bare:
        urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=20)  # noqa: S310 - our own
    with bare.value:
        assert bare.value.code == 401
    assert not out.exists()
    done = submit(environment, *words, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "SUCCEEDED"
    assert set(load_results(out)["status"]) == {"DONE"}
