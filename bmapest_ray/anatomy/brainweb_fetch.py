"""Fetch BrainWeb's models through its own download form.

The form's fields are those that its page sends: ``do_download_alias`` (``subject04_crisp``),
``format_value`` (``minc``), ``zip_value`` (``gnuzip``) and ``download_for_real``. MINC is asked for
because it alone tells grid and scale. The package brainweb-dl asks the same form but can neither
resume nor check, and drops the world coordinates, so it is not used.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from bmapest_ray.anatomy.brainweb_files import CRISP, FUZZY, SUBJECTS
from bmapest_ray.anatomy.download import (
    GzipState,
    Manners,
    Progress,
    Sleep,
    download_gzip,
    file_sha256,
    gzip_state,
)
from bmapest_ray.anatomy.maps import subject_name
from bmapest_ray.base.errors import InvalidInput, require_choice

BASE_URL: Final = "https://brainweb.bic.mni.mcgill.ca/cgi/brainweb1"
MODELS: Final = {"crisp": CRISP, "fuzzy": FUZZY}
"""What can be fetched: one file of labels per subject, or four files of fractions."""


@dataclass(frozen=True)
class FetchedFile:
    """One file that is now in the folder."""

    path: Path
    sha256: str
    cached: bool
    """Whether it was there already, whole and unchanged."""


def fetch_brainweb(
    subjects: Sequence[str],
    directory: Path,
    base_url: str = BASE_URL,
    *,
    models: str = "crisp",
    manners: Manners | None = None,
    progress: Progress | None = None,
    sleep: Sleep = time.sleep,
) -> tuple[FetchedFile, ...]:
    """Fetch the models of subjects into a folder that ``brainweb:DIR`` opens.

    Files come one after the other, with pauses. A file that is there with the sha256 noted beside
    it (``NAME.sha256``, as ``sha256sum -c`` reads it) is not fetched again; a cut one is continued.

    Parameters
    ----------
    subjects
        Names among `SUBJECTS`, e.g. ``"04"``; none means all twenty.
    directory
        Made if it is not there.
    models
        ``crisp`` (about 4 MB per subject) or ``fuzzy`` (four files per subject).
    progress, sleep
        For a progress bar and for tests.

    Raises
    ------
    MissingInput
        If a file cannot be had; what came before is kept.
    InvalidInput
        If a subject or a kind of model is unknown, or the folder is not writable.
    """
    require_choice("the models to fetch", models, MODELS)
    aliases = [f"subject{s}_{m}" for s in _known(subjects) for m in MODELS[models]]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{directory} must be a writable folder: {error}") from error
    manners = manners or Manners()
    fetched: list[FetchedFile] = []
    for alias in aliases:
        path = directory / f"{alias}.mnc.gz"
        if _is_here(path):
            fetched.append(FetchedFile(path, file_sha256(path), cached=True))
            continue
        if any(not file.cached for file in fetched):
            sleep(manners.pause_s)
        sha256 = download_gzip(form_url(alias, base_url), path, manners, sleep, progress)
        _note(path, sha256)
        fetched.append(FetchedFile(path, sha256, cached=False))
    return tuple(fetched)


def form_url(alias: str, base_url: str = BASE_URL) -> str:
    """Return the address of a model, e.g. ``subject04_crisp``, in gzipped MINC."""
    fields = {
        "do_download_alias": alias,
        "format_value": "minc",
        "zip_value": "gnuzip",
        "download_for_real": "[Start download!]",
    }
    return f"{base_url}?{urlencode(fields)}"


def checksum_path(path: Path) -> Path:
    """Return where the checksum of a fetched file is noted."""
    return path.with_name(path.name + ".sha256")


def _known(subjects: Sequence[str]) -> tuple[str, ...]:
    names = [subject_name(subject).zfill(2) for subject in subjects]
    known = [require_choice("a BrainWeb subject", name, SUBJECTS) for name in names]
    return tuple(dict.fromkeys(known)) or SUBJECTS


def _is_here(path: Path) -> bool:
    """Return whether a file needs no fetching; one without a checksum gets it if it is whole."""
    if not path.is_file():
        return False
    beside = checksum_path(path)
    if beside.is_file():
        return beside.read_text().split()[:1] == [file_sha256(path)]
    if gzip_state(path) is not GzipState.WHOLE:
        return False
    _note(path, file_sha256(path))
    return True


def _note(path: Path, sha256: str) -> None:
    checksum_path(path).write_text(f"{sha256}  {path.name}\n")
