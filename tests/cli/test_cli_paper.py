"""``bmapest fetch brainweb`` and ``bmapest reproduce paper`` as a user runs them."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bmapest_ray.cli import main
from bmapest_ray.study.loading import studies_folder

FILE = gzip.compress(bytes(range(256)) * 40, mtime=0)
RESULTS = studies_folder() / "results" / "paper.parquet"


class Handler(BaseHTTPRequestHandler):
    """Cuts the first answer, says 500 to the second, goes on after that; 404 for subject 06."""

    calls = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        type(self).calls += 1
        if "subject06" in self.path:
            return self.send_error(404)
        if type(self).calls == 2:
            return self.send_error(500)
        asked = self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(FILE) - 1}/{len(FILE)}")
        self.send_header("Content-Length", str(len(FILE) - first))
        self.end_headers()
        self.wfile.write(FILE[first : 50 if type(self).calls == 1 else None])
        return None


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)
    Handler.calls = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/cgi"
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetch_survives_a_bad_server_and_keeps_what_is_there(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["fetch", "brainweb", "--subjects", "04", "--out", str(tmp_path), "--url", url]
    assert main([*words, "--json"]) == 0
    (file,) = json.loads(capfd.readouterr().out)["files"]
    assert Path(file["path"]).read_bytes() == FILE
    assert Handler.calls == 3
    assert main(words) == 0
    out = capfd.readouterr().out
    assert "1 files in" in out
    assert "0 of them new" in out
    assert f"--anatomy brainweb:{tmp_path}" in out
    assert Handler.calls == 3


def test_fetch_says_what_to_do_when_it_cannot(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["fetch", "brainweb", "--subjects", "06", "--out", str(tmp_path), "--url", url]
    assert main(words) == 2
    told = capfd.readouterr().err
    assert "404" in told
    assert "in a browser" in told
    assert main(["fetch", "brainweb", "--subjects", "99", "--out", str(tmp_path)]) == 2
    assert "BrainWeb subject" in capfd.readouterr().err


def test_tables_are_written_anew_without_an_inversion(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "paper", "--table", str(RESULTS), "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    files = json.loads(capfd.readouterr().out)["files"]
    assert Path(files["md"]).read_text() == RESULTS.with_suffix(".md").read_text()
    assert Path(files["csv"]).read_text() == RESULTS.with_suffix(".csv").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--experiments", "sequences-7"], "did you mean 'sequences-"),
        (["--methods", "pape"], "did you mean 'paper'"),
        (["--subjects", "04"], "must not be reported"),
    ],
)
def test_wrong_words_are_named(
    words: list[str], said: str, brainweb_dir: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    anatomy = ["--anatomy", f"bids:{brainweb_dir / 'brainweb14'}", "--out", str(tmp_path)]
    assert main(["reproduce", "paper", *anatomy, *words, "--runner", "local"]) == 2
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "mixing", "snr"),
    [
        (["--preset", "paper"], "average", None),
        (["--preset", "paper", "--mixing", "compartments", "--snr", "50"], "compartments", 50.0),
        ([], "compartments", None),
    ],
)
def test_a_preset_yields_to_options_that_are_given(
    words: list[str], mixing: str, snr: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("bmapest_ray.cli.invert_command.invert_command", seen.append)
    assert main(["invert", "--start", "uniform", *words]) == 0
    (options,) = seen
    inversion = {"solver": options.solver, "start": options.start, "prior": options.prior}
    study = options.scene.study(signal=options.signal, inversion=inversion)
    assert (study.mixing, study.noise.snr) == (mixing, snr)
    assert study.inversion.start == "uniform"
    assert study.inversion.solver == ("adam" if "--preset" in words else "gauss-newton")
    assert study.acquisition.diffusivity_times == (1e5 if "--preset" in words else 1.0)
