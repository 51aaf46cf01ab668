"""Downloads from a server on this machine that answers as badly as told."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from brainweb_phantom import labels, minc

from bmapest_ray.anatomy.brainweb_fetch import checksum_path, fetch_brainweb, form_url
from bmapest_ray.anatomy.catalog import open_anatomy
from bmapest_ray.anatomy.download import Manners, download_gzip
from bmapest_ray.base.errors import InvalidInput, MissingInput

NOISE = np.random.default_rng(0).integers(0, 2, labels().shape).astype(np.uint8)
FILE = gzip.compress(minc(np.where(labels() > 0, labels(), NOISE), signed=False), mtime=0)
"""Labels with noise, so that the gzip file is some kilobytes long."""


class Handler(BaseHTTPRequestHandler):
    """Answers with the next line of `server.script`, and as it should when that is used up."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        act = self.server.script.pop(0) if self.server.script else "ok"
        getattr(self, f"_{act}")()

    def _ok(self, cut=None, known=True, ranges=True):
        asked = self.headers.get("Range") if ranges else None
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if first >= len(FILE):
            return self._status(416)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(FILE) - 1}/{len(FILE)}")
        if known:
            self.send_header("Content-Length", str(len(FILE) - first))
        self.end_headers()
        self.wfile.write(FILE[first:cut])
        return None

    def _cut(self):
        self._ok(cut=1000)

    def _cut_unannounced(self):
        self._ok(cut=1000, known=False)

    def _whole_again(self):
        self._ok(ranges=False)

    def _other_part(self):
        self.headers.replace_header("Range", "bytes=10-")
        self._ok()

    def _damaged(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(FILE[:500] + bytes(100) + FILE[600:])

    def _page(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>too many users</html>")

    def _drop(self):
        self.close_connection = True

    def _status(self, code):
        self.send_response(code)
        self.end_headers()

    def _500(self):
        self._status(500)

    def _404(self):
        self._status(404)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.script, httpd.requests = [], []
    httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}/cgi/brainweb1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    waits = []

    def run(subjects=("04",), **options):
        return fetch_brainweb(subjects, tmp_path / "raw", server.url, sleep=waits.append, **options)

    run.waits, run.folder = waits, tmp_path / "raw"
    return run


def ranges(server):
    return [headers.get("Range") for _, headers in server.requests]


def test_form_is_filled_as_the_page_does(server, fetch):
    (file,) = fetch(["sub-4"])
    path, headers = server.requests[0]
    assert parse_qs(urlsplit(path).query) == {
        "do_download_alias": ["subject04_crisp"],
        "format_value": ["minc"],
        "zip_value": ["gnuzip"],
        "download_for_real": ["[Start download!]"],
    }
    assert headers["User-Agent"].startswith("bmapest_ray/")
    assert form_url("subject04_crisp").startswith("https://brainweb.bic.mni.mcgill.ca/cgi/")
    assert file.path.read_bytes() == FILE
    assert not file.cached


def test_fetched_folder_opens_and_its_checksums_are_noted(fetch):
    (file,) = fetch()
    assert file.sha256 == hashlib.sha256(FILE).hexdigest()
    assert checksum_path(file.path).read_text() == f"{file.sha256}  subject04_crisp.mnc.gz\n"
    assert open_anatomy(f"brainweb:{fetch.folder}").subjects == ("04",)
    assert sorted(p.name for p in fetch.folder.iterdir()) == [
        "subject04_crisp.mnc.gz",
        "subject04_crisp.mnc.gz.sha256",
    ]


def test_what_is_there_is_not_asked_for_again(server, fetch):
    fetch()
    server.requests.clear()
    first, second = fetch(["04", "05", "04"])
    assert (first.cached, second.cached) == (True, False)
    assert len(server.requests) == 1
    second.path.write_bytes(FILE[:-1])  # changed since its checksum was noted
    assert [file.cached for file in fetch(["04", "05"])] == [True, False]
    assert second.path.read_bytes() == FILE


def test_a_file_from_elsewhere_is_taken_if_whole(fetch):
    fetch.folder.mkdir()
    (fetch.folder / "subject04_crisp.mnc.gz").write_bytes(FILE)
    (fetch.folder / "subject05_crisp.mnc.gz").write_bytes(FILE[:900])
    assert [file.cached for file in fetch(["04", "05"])] == [True, False]
    assert checksum_path(fetch.folder / "subject04_crisp.mnc.gz").is_file()


def test_pauses_between_files_and_growing_waits_after_failures(server, fetch):
    server.script[:] = ["ok", "500", "drop", "500"]
    fetch(["04", "05"], manners=Manners(pause_s=0.5, backoff_s=3))
    assert fetch.waits == [0.5, 3, 6, 12]
    assert Manners(backoff_s=2).wait_s(20) == 60


@pytest.mark.parametrize("cut", ["cut", "cut_unannounced"])
def test_a_cut_file_is_continued_where_it_stopped(server, fetch, cut):
    server.script[:] = [cut]
    (file,) = fetch()
    assert file.path.read_bytes() == FILE
    assert ranges(server) == [None, "bytes=1000-"]


def test_an_interrupted_run_is_continued_by_the_next(server, fetch):
    server.script[:] = ["cut", "500"]
    with pytest.raises(MissingInput, match="continues where it stopped"):
        fetch(manners=Manners(attempts=2))
    assert not (fetch.folder / "subject04_crisp.mnc.gz").exists()
    (file,) = fetch()
    assert file.path.read_bytes() == FILE
    assert ranges(server)[-1] == "bytes=1000-"


@pytest.mark.parametrize("answer", ["whole_again", "other_part"])
def test_a_server_that_cannot_continue_sends_all_again(server, fetch, answer):
    server.script[:] = ["cut", answer]
    assert fetch()[0].path.read_bytes() == FILE


@pytest.mark.parametrize("rest", [b"", b"junk"])
def test_a_part_that_reaches_the_end_is_checked(server, fetch, rest):
    fetch.folder.mkdir()
    part = fetch.folder / "subject04_crisp.mnc.gz.part"
    part.write_bytes(FILE + rest)
    assert fetch()[0].path.read_bytes() == FILE
    assert len(server.requests) == (1 if rest == b"" else 2)


@pytest.mark.parametrize("answer", ["page", "damaged"])
def test_rubbish_is_thrown_away_and_asked_for_again(server, fetch, answer):
    server.script[:] = [answer]
    assert fetch()[0].path.read_bytes() == FILE
    assert ranges(server) == [None, None]


def test_fuzzy_models_are_four_files_and_progress_is_told(fetch):
    told = []
    files = fetch(models="fuzzy", progress=lambda *step: told.append(step))
    assert [f.path.name.split(".")[0][-3:] for f in files] == ["gry", "wht", "csf", "ves"]
    assert told[-1] == ("subject04_ves.mnc.gz", len(FILE), len(FILE))


def test_failures_are_sentences_that_help(server, fetch, tmp_path):
    server.script[:] = ["404"]
    with pytest.raises(MissingInput, match=r"answered 404.* in a browser as .*subject04"):
        fetch()
    assert fetch.waits == []  # asking again would not help
    with pytest.raises(InvalidInput, match="BrainWeb subject must be one of 04"):
        fetch(["99"])
    with pytest.raises(InvalidInput, match="models to fetch"):
        fetch(models="mouse")
    with pytest.raises(InvalidInput, match="at least 1 attempt"):
        Manners(attempts=0)
    with pytest.raises(InvalidInput, match="http or https"):
        download_gzip("file:///etc/hosts", tmp_path / "a", Manners(), fetch.waits.append)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="writable folder"):
        fetch_brainweb(["04"], tmp_path / "file" / "x", server.url)


def test_offline_is_told_at_once(fetch, tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket_error

    import socket

    socket_error = socket.gaierror(-2, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(MissingInput, match=r"brainweb\.example is not known here.*offline"):
        fetch_brainweb(["04"], tmp_path, "http://brainweb.example/cgi", sleep=fetch.waits.append)
    assert fetch.waits == []


def test_a_refused_connection_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_address[1]}/"
    waits = []
    with pytest.raises(MissingInput, match="Connection refused"):
        fetch_brainweb(["04"], tmp_path, url, manners=Manners(attempts=3), sleep=waits.append)
    assert waits == [2, 4]
