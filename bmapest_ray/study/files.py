"""Files that appear whole or not at all, even when the process is killed in between."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import InvalidInput

_TEMPORARY = ".tmp-"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a refusal of the file system into one sentence.

    Raises
    ------
    InvalidInput
        If something below cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(
            f"results must be writable to {path}, got: {reason}; free space or choose another "
            "folder with --out, then --resume goes on from what is there"
        ) from error


def write_once(path: Path, content: str) -> bool:
    """Write a file unless it exists; of several writers exactly one wins.

    Returns
    -------
    bool
        Whether this call wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    _write_through(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def replace_text(path: Path, content: str) -> None:
    """Write a file, or replace it by a new version in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    _write_through(temporary, content)
    temporary.replace(path)


def replace_by(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def folder_once(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` make a folder under a temporary name, then move it into place unless it exists."""
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        fill(temporary)
        temporary.rename(path)
    except OSError:
        if not path.is_dir():  # otherwise another writer was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left behind."""
    for left in folder.rglob(f"{_TEMPORARY}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def read_json(path: Path) -> Any:  # noqa: ANN401 - a JSON value has no narrower type
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}-{path.name}")


def _write_through(path: Path, content: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
