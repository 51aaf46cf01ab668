"""The MNI152 group average inside nilearn's wheel: an anatomy without any download.

It is the average of 152 aligned brains (ICBM 2009a, non-linear, symmetric), so its tissue borders
are blurred like those of no single person.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np

from bmapest_ray.anatomy.nifti import content_sha256, load_volume
from bmapest_ray.anatomy.volume import AnatomyVolume, normalise
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import MissingInput, require_choice

NAME = "mni152"
_RULES = 1  # raise when the same files give other fractions
_FULL_SCALE = 255.0  # 8-bit maps without a slope; GM + WM reaches exactly 255
_BRAIN_THRESHOLD = 0.2  # nilearn's own brain mask: skull-stripped T1 above 0.2 of its maximum


class Mni152Anatomy:
    """The group average as an anatomy of one subject, ``mni152``."""

    spec = NAME
    label = "MNI152 group average (ICBM 2009a, in nilearn)"
    subjects = (NAME,)

    def volume(self, subject: str = NAME) -> AnatomyVolume:
        """Return the group average: GM and WM as they are, CSF = 1 - GM - WM in the brain mask."""
        require_choice("the subject of mni152", subject, self.subjects)
        return _load(_folder())

    def digest(self, subject: str = NAME) -> str:
        """Return the digest of the three files and of the rule that joins them."""
        require_choice("the subject of mni152", subject, self.subjects)
        return _digest(_folder())


def template_path() -> Path:
    """Return the T1-weighted template, a skull-stripped average scan of 1 mm voxels."""
    return _files(_folder())[2]


def _folder() -> Path:
    package = importlib.util.find_spec("nilearn")  # finds the folder, does not import the package
    if package is None or not package.submodule_search_locations:
        raise MissingInput("anatomy mni152 needs the package nilearn, it is missing; install it")
    return Path(package.submodule_search_locations[0]) / "datasets" / "data"


def _files(folder: Path) -> list[Path]:
    return [folder / f"mni_icbm152_{n}_tal_nlin_sym_09a_converted.nii.gz" for n in _IMAGES]


_IMAGES = ("gm", "wm", "t1")


@lru_cache(maxsize=1)
def _load(folder: Path) -> AnatomyVolume:
    grey, white, t1 = (load_volume(path) for path in _files(folder))
    fraction = np.empty((3, *grey.data.shape), dtype=np.float32)
    np.divide(grey.data, _FULL_SCALE, out=fraction[0])
    np.divide(white.data, _FULL_SCALE, out=fraction[1])
    brain = t1.data > _BRAIN_THRESHOLD * t1.data.max()
    fraction[2] = np.where(brain, 1 - fraction[0] - fraction[1], 0)
    return AnatomyVolume(normalise(fraction, NAME), grey.affine, NAME, NAME)


@lru_cache(maxsize=1)
def _digest(folder: Path) -> str:
    return digest(["mni152", _RULES, [content_sha256(path) for path in _files(folder)]])
