"""Factors of chains on disk and in memory, with size limits.

One file per chain, written atomically. A file that cannot be read (cut in half, of another
version) is rebuilt. Files hold tensors only and are loaded without unpickling objects.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from bmapest_ray.simulate.factors import ImageFactors

CACHE_VERSION = 3
_UNREADABLE = (
    RuntimeError, EOFError, KeyError, IndexError, TypeError, ValueError, OSError,
    pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip
_UNWRITABLE = (OSError, RuntimeError)  # torch reports a full disk as RuntimeError
_ABANDONED_S = 3600.0
"""Age at which a file still being written belongs to a process that was killed."""


def default_directory() -> Path:
    """Return the folder of the disk cache: ``BMAPEST_CACHE``, else under ``XDG_CACHE_HOME``."""
    chosen = os.environ.get("BMAPEST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "bmapest_ray"


class FactorCache:
    """Finds or builds the factors of a chain.

    Parameters
    ----------
    directory
        Folder on disk, or None for memory only.
    disk_limit_gb, memory_limit_gb
        The least recently used entries go first when a limit is passed.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        disk_limit_gb: float = 4.0,
        memory_limit_gb: float = 2.0,
    ) -> None:
        self.directory = directory
        self.disk_limit_gb = disk_limit_gb
        self.memory_limit_gb = memory_limit_gb
        self._memory: OrderedDict[str, tuple[ImageFactors, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, key: str, build: Callable[[], tuple[ImageFactors, ...]]
    ) -> tuple[ImageFactors, ...]:
        """Return the factors under ``key``: from memory, from disk, or built and stored."""
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
        factors = self._read(key)
        if factors is None:
            factors = build()
            self._write(key, factors)
        self._remember(key, factors)
        return factors

    def holds(self, key: str) -> bool:
        """Whether `get` would find something under ``key``; a file may still be unreadable."""
        path = self._path(key)
        with self._lock:
            return key in self._memory or (path is not None and path.is_file())

    def _remember(self, key: str, factors: tuple[ImageFactors, ...]) -> None:
        with self._lock:
            self._memory[key] = factors
            while len(self._memory) > 1 and self._held_gb() > self.memory_limit_gb:
                self._memory.popitem(last=False)

    def _held_gb(self) -> float:
        return sum(_bytes(factors) for factors in self._memory.values()) / 2**30

    def _path(self, key: str) -> Path | None:
        return None if self.directory is None else self.directory / f"{key}.factors"

    def _read(self, key: str) -> tuple[ImageFactors, ...] | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            content = torch.load(path, weights_only=True)
            if content["version"] != CACHE_VERSION or content["key"] != key:
                return None
            factors = tuple(
                ImageFactors(kspace=k, object_=o, error=float(e))
                for k, o, e in zip(
                    content["kspace"], content["object"], content["error"], strict=True
                )
            )
        except _UNREADABLE:
            return None
        with contextlib.suppress(OSError):  # a cache may be readable only
            path.touch()
        return factors

    def _write(self, key: str, factors: tuple[ImageFactors, ...]) -> None:
        path = self._path(key)
        if path is None:
            return
        content = {
            "version": CACHE_VERSION,
            "key": key,
            "kspace": [f.kspace for f in factors],
            "object": [f.object_ for f in factors],
            "error": [f.error for f in factors],
        }
        with contextlib.suppress(*_UNWRITABLE):  # that costs time, not results
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
            os.close(handle)
            try:
                torch.save(content, name)
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
            self._shrink()

    def _shrink(self) -> None:
        assert self.directory is not None  # noqa: S101 - only called after a write
        for partial in self.directory.glob("*.partial"):
            with contextlib.suppress(FileNotFoundError):  # another process may finish it
                if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                    partial.unlink()
        files = []
        for path in self.directory.glob("*.factors"):
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        files.sort()
        held = sum(size for _, size, _ in files)
        while len(files) > 1 and held > self.disk_limit_gb * 2**30:
            _, size, oldest = files.pop(0)
            held -= size
            oldest.unlink(missing_ok=True)


def _bytes(factors: tuple[ImageFactors, ...]) -> int:
    return sum(t.numel() * t.element_size() for f in factors for t in (f.kspace, f.object_))
