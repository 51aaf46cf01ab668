"""One file over HTTP, politely: one connection, pauses, resumed where it was cut, checked."""

import gzip
import hashlib
import http.client
import os
import socket
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from bmapest_ray.base.errors import InvalidInput, MissingInput

Sleep = Callable[[float], object]
Progress = Callable[[str, int, int | None], object]
"""Called with the file's name, the bytes so far and the bytes in all, if the server says so."""

_CHUNK = 1 << 16
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_CUT = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True)
class Manners:
    """How to treat a public server.

    Raises
    ------
    InvalidInput
        If a number is out of range.
    """

    attempts: int = 6
    """Tries per file."""
    pause_s: float = 1.0
    """Wait between two files."""
    backoff_s: float = 2.0
    """Wait after the first failed try; it doubles with every further one, up to a minute."""
    timeout_s: float = 60.0
    """Longest silence of the server."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.attempts < 1 or min(self.pause_s, self.backoff_s) < 0 or self.timeout_s <= 0:
            raise InvalidInput(
                f"a download needs at least 1 attempt and waits of at least 0 s, got {self}"
            )

    def wait_s(self, failures: int) -> float:
        """Return the wait before the next try after `failures` failed ones."""
        return float(min(60.0, self.backoff_s * 2 ** (failures - 1)))


class _Fault(Exception):  # noqa: N818 - not an error yet: the next try may succeed
    """A try failed in a way that another one may mend."""


class _Final(_Fault):
    """A try failed in a way that no other one will mend."""


def download_gzip(
    url: str, target: Path, manners: Manners, sleep: Sleep, progress: Progress | None = None
) -> str:
    """Download a gzip file; what a cut left behind in ``NAME.part`` is continued.

    The file appears under its name only once it is whole: as many bytes as announced, and the
    checksum inside the gzip format right.

    Returns
    -------
    str
        The sha256 (hex) of the file.

    Raises
    ------
    MissingInput
        If the server cannot be reached, refuses, or fails at every try.
    InvalidInput
        If the URL is not http(s) or the folder is not writable.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInput(f"a download needs an http or https address, got {url}")
    part = target.with_name(target.name + ".part")
    failure = _Fault()
    for attempt in range(manners.attempts):
        if attempt:
            sleep(manners.wait_s(attempt))
        try:
            _receive(url, part, manners.timeout_s, progress)
            _check_whole(part)
            os.replace(part, target)  # noqa: PTH105 - replaces on every system
            return file_sha256(target)
        except _Fault as fault:
            failure = fault
            if isinstance(fault, _Final):
                break
        except OSError as error:
            raise InvalidInput(f"{target.parent} must be writable: {error}") from error
    raise MissingInput(
        f"{target.name} could not be downloaded: {failure}; check the connection and run the "
        f"command again, it continues where it stopped, or save {url} in a browser as {target}"
    ) from failure


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes as they are."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class GzipState(Enum):
    """What a file is as a gzip file."""

    WHOLE = "whole"
    CUT = "cut"
    BROKEN = "broken"


def gzip_state(path: Path) -> GzipState:
    """Read a gzip file to its end, with the checksum inside it."""
    try:
        with gzip.open(path, "rb") as stream:
            while stream.read(_CHUNK):
                pass
    except EOFError:
        return GzipState.CUT
    except (zlib.error, gzip.BadGzipFile):
        return GzipState.BROKEN
    return GzipState.WHOLE


def _receive(url: str, part: Path, timeout_s: float, progress: Progress | None) -> None:
    """Fetch what is missing in `part`."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"bmapest_ray/{version('bmapest_ray')}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            _write(response, part, have, progress)
    except urllib.error.HTTPError as error:
        error.close()
        _explain(error, part)
    except _CUT as error:
        raise _offline(url, error) from error


def _write(
    response: http.client.HTTPResponse, part: Path, have: int, progress: Progress | None
) -> None:
    resumed = response.status == 206 and _range_start(response) == have
    if response.status == 206 and not resumed:
        part.unlink()
        raise _Fault("the server sent another part of the file than asked for")
    have = have if resumed else 0
    length = response.headers.get("Content-Length")
    total = have + int(length) if length and length.isdigit() else None
    with part.open("ab" if resumed else "wb") as file:
        while block := response.read(_CHUNK):
            file.write(block)
            have += len(block)
            if progress is not None:
                progress(part.name.removesuffix(".part"), have, total)
    if total is not None and have < total:
        raise _Fault(f"the connection was cut after {have} of {total} bytes")


def _range_start(response: http.client.HTTPResponse) -> int:
    """Return the first byte of ``Content-Range: bytes FIRST-LAST/TOTAL``, or -1."""
    text = response.headers.get("Content-Range", "").removeprefix("bytes").strip()
    first = text.partition("-")[0]
    return int(first) if first.isdigit() else -1


def _explain(error: urllib.error.HTTPError, part: Path) -> None:
    """Raise what a refusal means."""
    if error.code == 416:  # nothing after what we have: whole, or of no use
        if gzip_state(part) is GzipState.WHOLE:
            return
        part.unlink(missing_ok=True)
        raise _Fault("the server holds less than the part that was here") from error
    kind = _Fault if error.code in _AGAIN else _Final
    raise kind(f"the server answered {error.code} {error.reason}") from error


def _offline(url: str, error: Exception) -> _Fault:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return _Final(f"{urlsplit(url).hostname} is not known here ({reason}), is this offline?")
    return _Fault(f"no whole answer from {urlsplit(url).hostname} ({reason or type(error)})")


def _check_whole(part: Path) -> None:
    """Check the received file; drop what cannot be continued."""
    with part.open("rb") as stream:
        start = stream.read(64)
    if start[:2] != b"\x1f\x8b":
        part.unlink()
        web_page = start.lstrip()[:1] == b"<"
        raise _Fault(f"the server sent {'a web page' if web_page else 'no gzip file'}")
    state = gzip_state(part)
    if state is GzipState.BROKEN:
        part.unlink()
    if state is not GzipState.WHOLE:
        raise _Fault(f"the file came {state.value}")
