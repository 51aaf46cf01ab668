"""Folders of BIDS-derivative tissue maps as an anatomy."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bmapest_ray.anatomy.bids_io import read_tissues
from bmapest_ray.anatomy.maps import subject_name
from bmapest_ray.anatomy.nifti import content_sha256
from bmapest_ray.anatomy.volume import AnatomyVolume
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, MissingInput, require_choice
from bmapest_ray.base.tissues import TISSUES

_RULES = 1  # raise when the same files give other fractions
_FILE = re.compile(
    r"(?P<before>sub-[^_]+.*?)_label-(?P<tissue>[^_]+)(?P<after>.*)_probseg\.nii(\.gz)?"
)

_Stamp = tuple[Path, int, int]
"""A file with its size and time of change: the key under which its content is remembered."""


@dataclass(frozen=True)
class BidsAnatomy:
    """Subjects ``sub-*/anat/sub-*_label-{GM,WM,CSF}_probseg.nii[.gz]`` of a folder.

    Maps with more entities in their names (``space-``, ``desc-``, ...) are used where a subject has
    exactly one such set and no plain one.

    Raises
    ------
    MissingInput
        If the folder is not there or holds no subject.
    """

    folder: Path

    def __post_init__(self) -> None:
        """Refuse a folder without subjects."""
        if not self.folder.is_dir():
            raise MissingInput(f"anatomy bids:DIR needs a folder, {self.folder} is none")
        if not self.subjects:
            raise MissingInput(
                "an anatomy folder must hold sub-*/anat/sub-*_label-{GM,WM,CSF}_probseg.nii.gz, "
                f"{self.folder} holds none; name a folder of that layout"
            )

    @property
    def spec(self) -> str:
        """Text that opens this anatomy again."""
        return f"bids:{self.folder}"

    @property
    def label(self) -> str:
        """Name for tables and figures."""
        return f"{self.folder.resolve().name} ({len(self.subjects)} subjects)"

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names without ``sub-``, sorted."""
        found = {p.parents[1].name for p in self.folder.glob("sub-*/anat/sub-*_probseg.nii*")}
        return tuple(sorted(subject_name(name) for name in found))

    def volume(self, subject: str) -> AnatomyVolume:
        """Read the whole head of a subject, ``"42"`` or ``"sub-42"``.

        Raises
        ------
        MissingInput, InvalidInput
            If the subject is unknown, a tissue is missing or a file breaks a rule.
        """
        name = self._known(subject)
        return _load(name, self.spec, self._stamps(name))

    def digest(self, subject: str) -> str:
        """Return the digest of the subject's files: their content, not their place or dates."""
        return _digest(self._stamps(self._known(subject)))

    def _known(self, subject: str) -> str:
        return require_choice(f"the subject of {self.spec}", subject_name(subject), self.subjects)

    def _stamps(self, subject: str) -> tuple[_Stamp, ...]:
        files = _tissue_files(self.folder / f"sub-{subject}" / "anat", subject)
        stats = [(path, path.stat()) for path in files]
        return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def _tissue_files(folder: Path, subject: str) -> list[Path]:
    """Find the three files of a subject, in the order of `TISSUES`."""
    sets: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match is not None and match["tissue"] in TISSUES:
            sets.setdefault(match["before"] + match["after"], {})[match["tissue"]] = path
    files = sets.get(f"sub-{subject}") or (next(iter(sets.values())) if len(sets) == 1 else None)
    if files is None:
        raise InvalidInput(
            f"subject {subject} must have one set of maps, {folder} holds "
            f"{', '.join(sets) or 'none'}; name the wanted set sub-{subject}_label-*_probseg"
        )
    missing = [tissue for tissue in TISSUES if tissue not in files]
    if missing:
        raise MissingInput(
            f"subject {subject} needs a map of every tissue, {', '.join(missing)} is missing in "
            f"{folder}"
        )
    return [files[tissue] for tissue in TISSUES]


@lru_cache(maxsize=2)
def _load(subject: str, source: str, stamps: tuple[_Stamp, ...]) -> AnatomyVolume:
    paths = {tissue: stamp[0] for tissue, stamp in zip(TISSUES, stamps, strict=True)}
    fraction, affine = read_tissues(paths)
    return AnatomyVolume(fraction, affine, subject, source)


@lru_cache(maxsize=4096)
def _digest(stamps: tuple[_Stamp, ...]) -> str:
    return digest(["bids", _RULES, [content_sha256(path) for path, _, _ in stamps]])
