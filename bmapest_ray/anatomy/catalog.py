"""Anatomies by name: what the command line and studies open."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from bmapest_ray.anatomy.bids import BidsAnatomy
from bmapest_ray.anatomy.brainweb import BrainwebAnatomy
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.mni152 import Mni152Anatomy
from bmapest_ray.anatomy.slices import SliceSpec, extract_slice
from bmapest_ray.anatomy.volume import AnatomyVolume
from bmapest_ray.base.errors import InvalidInput, closest


class Anatomy(Protocol):
    """A set of subjects whose tissue fractions are known."""

    @property
    def spec(self) -> str:
        """Text that opens this anatomy, e.g. ``bids:DIR``."""

    @property
    def label(self) -> str:
        """Name for tables and figures."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names without ``sub-``."""

    def volume(self, subject: str) -> AnatomyVolume:
        """Return the whole head of a subject."""

    def digest(self, subject: str) -> str:
        """Return the digest of all that decides a subject's volume."""


_FOLDERS: dict[str, Callable[[Path], Anatomy]] = {"bids": BidsAnatomy, "brainweb": BrainwebAnatomy}


def open_anatomy(spec: str) -> Anatomy:
    """Open ``mni152``, ``bids:DIR`` or ``brainweb:DIR``.

    Raises
    ------
    InvalidInput, MissingInput
        If the spec is unknown or its folder holds no maps.
    """
    if spec == Mni152Anatomy.spec:
        return Mni152Anatomy()
    kind, colon, folder = spec.partition(":")
    if kind in _FOLDERS and folder:
        return _FOLDERS[kind](Path(folder).expanduser().resolve())  # for workers elsewhere
    named = f"; name a folder as {kind if kind in _FOLDERS else 'bids'}:DIR"
    hint = named if colon or kind in _FOLDERS else closest(spec, ["mni152"])
    raise InvalidInput(f"an anatomy must be mni152, bids:DIR or brainweb:DIR, got '{spec}'{hint}")


def load_slice(
    anatomy: Anatomy, subject: str, where: SliceSpec, matrix: int = 64, fov_mm: float = 216.0
) -> TissueMaps:
    """Return `extract_slice` of a subject, remembered within the process by content.

    Raises
    ------
    InvalidInput, MissingInput
        As `Anatomy.volume` and `extract_slice`.
    """
    request = _Request(anatomy, subject)
    return _load_slice(request, where, matrix, float(fov_mm))


class _Request:
    """A subject to load; equal to every request for the same content under the same name."""

    def __init__(self, anatomy: Anatomy, subject: str) -> None:
        self.anatomy, self.subject = anatomy, subject
        self.key = (anatomy.spec, subject, anatomy.digest(subject))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self.key == other.key


@lru_cache(maxsize=512)
def _load_slice(request: _Request, where: SliceSpec, matrix: int, fov_mm: float) -> TissueMaps:
    return extract_slice(request.anatomy.volume(request.subject), where, matrix, fov_mm)
