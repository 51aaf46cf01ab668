"""Results of a long command by their key, so that it goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

T = TypeVar("T")


class Held:
    """Results by their key, on disk as soon as they are known; `path` is made if needed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, key: str, make: Callable[[], T], told: str | None = None) -> T:
        """Return what is held; else say what is made (the key, without `told`), and keep it."""
        if key not in self._held:
            typer.echo(key if told is None else told, err=True)
            self._held[key] = make()
            self._path.write_text(json.dumps(self._held, indent=0, sort_keys=True) + "\n")
        found: T = self._held[key]
        return found

    def keys(self, start: str) -> list[str]:
        """Return what is held under keys that start so, in order."""
        return sorted(key for key in self._held if key.startswith(start))
