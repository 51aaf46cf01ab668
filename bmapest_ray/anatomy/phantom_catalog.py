"""Phantoms by name: ``mrzero:FILE.json``, ``maps:FILE or DIR``, ``labels:FILE``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bmapest_ray.anatomy.brainweb_formats import BRAINWEB_GRID
from bmapest_ray.anatomy.phantom import Phantom
from bmapest_ray.anatomy.phantom_files import read_labels, read_maps
from bmapest_ray.anatomy.phantom_json import read_mrzero

_READERS: dict[str, Callable[[Path], Phantom]] = {
    "mrzero": read_mrzero,
    "maps": read_maps,
    "labels": lambda path: read_labels(path, BRAINWEB_GRID),
}


def is_phantom(spec: str) -> bool:
    """Say whether an anatomy is a phantom with properties of its own, by its spec."""
    kind, colon, path = spec.partition(":")
    return kind in _READERS and bool(colon and path)


def open_phantom(spec: str) -> Phantom:
    """Read the phantom of a spec that `is_phantom`.

    Raises
    ------
    MissingInput, InvalidInput
        If the file is missing or breaks a rule of its format.
    """
    kind, _, path = spec.partition(":")
    return _READERS[kind](Path(path).expanduser())
