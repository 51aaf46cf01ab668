"""Which files of a folder belong to which BrainWeb subject, by their names."""

import re
from pathlib import Path
from typing import Final

from bmapest_ray.base.errors import InvalidInput, MissingInput

SUBJECTS: Final = (
    "04", "05", "06", "18", "20", "38", "41", "42", "43", "44",
    "45", "46", "47", "48", "49", "50", "51", "52", "53", "54",
)  # fmt: skip
"""The twenty normal brains."""

CITATION: Final = (
    "BrainWeb, McConnell Brain Imaging Centre, McGill University; cite Aubert-Broche et al., "
    "IEEE Trans Med Imaging 2006;25:1410 and NeuroImage 2006;32:138"
)

CRISP: Final = ("crisp",)
FUZZY: Final = ("gry", "wht", "csf", "ves")
"""BrainWeb's names of the volumes that GM, WM and CSF (with vessels) are made of."""

_FILE = re.compile(
    r"subject(?P<subject>\d{2})_(?P<model>[a-z]+?)(_v)?\.(?P<format>mnc|rawb|i8)(\.gz)?"
)
_MODELS = {"gm": "gry", "wm": "wht", "vessels": "ves"} | {m: m for m in CRISP + FUZZY}
_FORMATS = ("mnc", "rawb", "i8")

Models = dict[str, Path]
"""File of each model of one subject, e.g. of ``crisp``."""


def find_files(folder: Path) -> dict[str, Models]:
    """Find BrainWeb's files in a folder and one level below it.

    Names are those of BrainWeb's download form (``subject04_crisp``, ``subject04_gry``) or of its
    own files (``subject04_crisp_v``, ``subject04_gm_v``, ``subject04_vessels``), in any of the
    formats ``.mnc``, ``.rawb``, ``.i8``, each with or without ``.gz``. Where a model is there in
    several formats, MINC is taken, since it alone tells its scale.
    """
    found: dict[str, dict[str, tuple[int, Path]]] = {}
    for path in sorted([*folder.glob("subject*"), *folder.glob("*/subject*")]):
        match = _FILE.fullmatch(path.name)
        model = _MODELS.get(match["model"]) if match else None
        if match is None or model is None:
            continue
        rank = (_FORMATS.index(match["format"]), path)
        models = found.setdefault(match["subject"], {})
        models[model] = min(rank, models.get(model, rank))
    return {s: {m: rank[1] for m, rank in models.items()} for s, models in sorted(found.items())}


def choose_models(files: dict[str, Models], folder: Path) -> tuple[str, ...]:
    """Choose the one set of models that all subjects of a folder are made of.

    Fuzzy models, BrainWeb's own partial volumes, are taken if no subject lacks them.

    Raises
    ------
    MissingInput
        If there is no subject.
    InvalidInput
        If neither set is complete for every subject.
    """
    if not files:
        raise MissingInput(
            f"anatomy brainweb:DIR needs files like subject04_crisp.mnc.gz, {folder} holds none; "
            "get them with 'bmapest fetch brainweb'"
        )
    for models in (FUZZY, CRISP):
        if all(model in found for found in files.values() for model in models):
            return models
    lacking = [s for s, found in files.items() if "crisp" not in found]
    raise InvalidInput(
        "all subjects of a folder need the crisp model, or all need the fuzzy models "
        f"{', '.join(FUZZY)}, subject {lacking[0]} in {folder} has "
        f"{', '.join(files[lacking[0]])}; complete it or move it away"
    )
