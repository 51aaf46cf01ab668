"""What goes to stdout: either text for a person, or exactly one JSON object."""

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


def own_name() -> str:
    """Return the words that start this program again from the current folder."""
    if shutil.which("bmapest"):
        return "bmapest"
    started = Path(sys.argv[0])
    return os.path.relpath(started) if started.name == "bmapest" else "bmapest"


@contextmanager
def stdout_to_stderr(active: bool = True) -> Iterator[None]:
    """Send to stderr whatever is written to stdout inside, even by native code and workers."""
    if not active:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that JSON does not have become null, named in ``notes``."""
    notes = list(result.get("notes", ()))
    clean = {key: _clean(value, key, notes) for key, value in result.items() if key != "notes"}
    if notes:
        clean["notes"] = notes
    typer.echo(json.dumps(clean, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _clean(value: object, path: str, notes: list[str]) -> object:
    if isinstance(value, Mapping):
        return {str(k): _clean(v, f"{path}.{k}", notes) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v, f"{path}[{i}]", notes) for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        notes.append(f"{path} is {value}, which JSON cannot say: null stands for it")
        return None
    return value
