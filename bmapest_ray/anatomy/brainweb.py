"""BrainWeb's twenty normal brains, read from the files that BrainWeb offers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.anatomy.brainweb_files import CITATION, CRISP, Models, choose_models, find_files
from bmapest_ray.anatomy.brainweb_formats import BRAINWEB_GRID, Grid
from bmapest_ray.anatomy.brainweb_fractions import brainweb_fractions
from bmapest_ray.anatomy.maps import subject_name
from bmapest_ray.anatomy.nifti import content_sha256
from bmapest_ray.anatomy.volume import AnatomyVolume
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import MissingInput, require_choice

_RULES = 1  # raise when the same files give other fractions

_Stamp = tuple[str, Path, int, int]
"""A model's name and file with its size and time of change, under which content is remembered."""


@dataclass(frozen=True)
class BrainwebAnatomy:
    """Subjects of a folder of BrainWeb's files, at 1 mm: ``brainweb:DIR``.

    A head takes seconds to read; `export_bids` makes a folder that opens faster.

    Raises
    ------
    MissingInput
        If the folder is not there or holds no file of BrainWeb's names.
    InvalidInput
        If no set of models is complete for every subject.
    """

    folder: Path
    grid: Grid = BRAINWEB_GRID
    """Grid of files without a header."""

    def __post_init__(self) -> None:
        """Refuse a folder that is not one or is not complete."""
        if not self.folder.is_dir():
            raise MissingInput(f"anatomy brainweb:DIR needs a folder, {self.folder} is none")
        choose_models(find_files(self.folder), self.folder)

    @property
    def spec(self) -> str:
        """Text that opens this anatomy again."""
        return f"brainweb:{self.folder}"

    @property
    def label(self) -> str:
        """Name for tables and figures."""
        files, models = self._files()
        kind = "crisp" if models == CRISP else "fuzzy"
        return f"BrainWeb, {kind} models ({len(files)} subjects)"

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names without ``sub-``, sorted."""
        return tuple(find_files(self.folder))

    def volume(self, subject: str) -> AnatomyVolume:
        """Read and average the whole head of a subject, ``"42"`` or ``"sub-42"``.

        Raises
        ------
        MissingInput, InvalidInput
            If the subject is unknown or a file breaks a rule.
        """
        return _load(subject_name(subject), self.spec, self._stamps(subject), self.grid)

    def digest(self, subject: str) -> str:
        """Return the digest of the subject's files: their content, not their place or dates."""
        return _digest(self._stamps(subject), self.grid)

    def _files(self) -> tuple[dict[str, Models], tuple[str, ...]]:
        files = find_files(self.folder)
        return files, choose_models(files, self.folder)

    def _stamps(self, subject: str) -> tuple[_Stamp, ...]:
        files, models = self._files()
        known = files[require_choice(f"the subject of {self.spec}", subject_name(subject), files)]
        stats = [(model, known[model], known[model].stat()) for model in models]
        return tuple((m, path, stat.st_size, stat.st_mtime_ns) for m, path, stat in stats)


def export_bids(
    anatomy: BrainwebAnatomy,
    directory: Path,
    subjects: Sequence[str] | None = None,
    on_subject: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write the 1 mm maps of subjects, all by default, as a folder that ``bids:DIR`` opens.

    Parameters
    ----------
    on_subject
        Called with the name of every subject that is done.

    Raises
    ------
    MissingInput, InvalidInput
        As `BrainwebAnatomy.volume` and `write_maps`.
    """
    written: list[Path] = []
    for subject in anatomy.subjects if subjects is None else subjects:
        volume = anatomy.volume(subject)
        meta = {"Source": anatomy.label, "Digest": anatomy.digest(subject), "Cite": CITATION}
        written += write_maps(volume.fraction, volume.affine, directory, subject, meta=meta)
        if on_subject is not None:
            on_subject(subject_name(subject))
    return written


@lru_cache(maxsize=2)
def _load(subject: str, source: str, stamps: tuple[_Stamp, ...], grid: Grid) -> AnatomyVolume:
    fraction, affine = brainweb_fractions({stamp[0]: stamp[1] for stamp in stamps}, grid)
    return AnatomyVolume(fraction, affine, subject, source)


@lru_cache(maxsize=256)
def _digest(stamps: tuple[_Stamp, ...], grid: Grid) -> str:
    contents = {model: content_sha256(path) for model, path, _, _ in stamps}
    return digest(["brainweb", _RULES, contents, grid])
