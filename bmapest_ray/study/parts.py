"""The parts of a job from the sections of a study, each checked as it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from bmapest_ray.anatomy.catalog import Anatomy
from bmapest_ray.anatomy.maps import subject_name
from bmapest_ray.anatomy.nifti import content_sha256
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, MissingInput, require_choice
from bmapest_ray.inversion.parametrisations import NEEDS_COHORT, parametrisation_settings
from bmapest_ray.inversion.prior_choice import check_settings, needs_cohort
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.starts import STARTS, cohort_brains, is_simple_start, simple_start
from bmapest_ray.study.config import DataConfig, InversionConfig, StudyConfig
from bmapest_ray.study.spec import FieldPart, ModelPart, Settings, SolvePart
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import PAPER_3T, TissueTable, load_table

TABLES = {"paper-3t": PAPER_3T}
COHORT_MINIMUM = 2
"""From so many other subjects on, ``start: auto`` is their mean."""

_solver_settings = TypeAdapter(SolverSettings)


MOST_COILS = 64
"""Analytic receive coils that may be asked for; time and memory grow with each."""


def subjects_named(
    wanted: str | Sequence[str], anatomy: Anatomy, splits: str | None, key: str
) -> tuple[str, ...]:
    """Return the subjects of ``all``, a split or a list.

    Raises
    ------
    InvalidInput
        For a subject or a split that is unknown, with the closest one.
    """
    if wanted == "all":
        return anatomy.subjects
    if isinstance(wanted, str):
        named = _read_splits(splits, key)
        wanted = named[require_choice(f"{key} (all, a list or a split)", wanted, named)]
    names = tuple(dict.fromkeys(subject_name(name) for name in wanted))
    if not names:
        raise InvalidInput(f"{key} must name at least one subject, got none; use all")
    return tuple(require_choice(f"a subject of {anatomy.spec}", n, anatomy.subjects) for n in names)


def _read_splits(path: str | None, key: str) -> dict[str, list[str]]:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise MissingInput(f"anatomy.splits must be a file, got {path}; correct the path")
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    ok = isinstance(raw, dict) and all(
        isinstance(names, list) and all(isinstance(n, str) for n in names) for names in raw.values()
    )
    if not ok:
        raise InvalidInput(
            f"{path} must map split names to lists of quoted subjects for {key}; "
            'write tune: ["04", "05"]'
        )
    return dict(raw)


def model_part(config: StudyConfig) -> ModelPart:
    """Return the model that is fitted."""
    table = tissue_table(config.tissue_table)
    acquisition = config.acquisition
    if acquisition.diffusivity_times != 1:
        table = table.with_diffusivity_times(acquisition.diffusivity_times)
    return ModelPart(
        tissue_table=table,
        tissue=table.digest,
        mixing=require_choice("mixing", config.mixing, [m.value for m in Mixing]),
        b0=field_part(config.fields.b0, "fields.b0"),
        b1=field_part(config.fields.b1, "fields.b1"),
        matrix=config.anatomy.matrix,
        engine=config.inversion.engine,
        tolerance=config.inversion.tolerance,
        sequence_fov_m=_metres(acquisition.sequence_fov_mm),
        voxel_fov_m=_metres(acquisition.voxel_fov_mm),
        coils=coils_part(config.fields.coils),
    )


def data_part(data: DataConfig, model: ModelPart) -> ModelPart:
    """Return the model that makes the data: the fitted one, but for what `data` changes."""
    table = tissue_table(data.tissue_table) if data.tissue_table else model.tissue_table
    table = table.perturbed(data.tissue) if data.tissue else table
    mixing = data.mixing or model.mixing
    return ModelPart(
        tissue_table=table,
        tissue=table.digest,
        mixing=require_choice("data.mixing", mixing, [m.value for m in Mixing]),
        b0=field_part(data.b0, "data.b0") if data.b0 else model.b0,
        b1=field_part(data.b1, "data.b1") if data.b1 else model.b1,
        matrix=data.matrix or model.matrix,
        engine=data.engine,
        tolerance=model.tolerance,
        sequence_fov_m=model.sequence_fov_m,
        voxel_fov_m=model.voxel_fov_m,
        coils=model.coils,
    )


def _metres(length_mm: float | None) -> float | None:
    return None if length_mm is None else length_mm * 1e-3


def coils_part(choice: str | int) -> FieldPart:
    """Return the receive coils: a number of analytic ones, or a file with its digest."""
    text = str(choice)
    if text.lstrip("+-").isdigit():
        if not 1 <= int(text) <= MOST_COILS:
            raise InvalidInput(
                f"fields.coils must be 1..{MOST_COILS} coils or a complex NIfTI file, got {text}; "
                "correct it"
            )
        return FieldPart(str(int(text)), str(int(text)))
    path = Path(text)
    if not path.is_file():
        raise MissingInput(
            f"fields.coils must be a number of coils or a complex NIfTI file, got {text}; "
            "correct it"
        )
    return FieldPart(str(path.resolve()), content_sha256(path))


def tissue_table(name: str) -> TissueTable:
    """Return a named tissue table, or one from a YAML file."""
    if name.endswith((".yaml", ".yml")):
        return load_table(name)
    return TABLES[require_choice("tissue_table (or a YAML file)", name, TABLES)]


def field_part(choice: str, key: str) -> FieldPart:
    """Return a field with the digest of its file."""
    if choice in ("none", "analytic", "paper"):
        return FieldPart(choice, choice)
    path = Path(choice)
    if not path.is_file():
        raise MissingInput(
            f"{key} must be none, analytic, paper or a file, got {choice}; correct it"
        )
    return FieldPart(str(path.resolve()), content_sha256(path))


def solve_part(
    inversion: InversionConfig, anatomy: Anatomy, subject: str, cohort: Sequence[str]
) -> SolvePart:
    """Return how one subject's maps are solved for.

    Parameters
    ----------
    cohort
        Subjects that may serve as cohort; the subject itself is left out here.
    """
    others = [name for name in cohort if name != subject]
    start = inversion.start
    if start == "auto":
        start = "cohort" if len(others) >= COHORT_MINIMUM else "uniform"
    brains = cohort_brains(start)
    least = max(1, ((brains or 0) + 1) // 2)  # each may stand for its mirror image as well
    if brains is not None and len(others) < least:
        raise InvalidInput(
            f"start '{start}' needs subjects other than {subject}, at least {least}, "
            f"{anatomy.spec} offers {len(others)}; use start 'uniform'"
        )
    check_settings(inversion.prior, inversion.prior_settings)
    if needs_cohort(inversion.prior) and len(others) < COHORT_MINIMUM:
        raise InvalidInput(
            f"prior '{inversion.prior}' needs at least {COHORT_MINIMUM} subjects other than "
            f"{subject}, {anatomy.spec} offers {len(others)}; use prior 'tv' or 'none'"
        )
    _check_parametrisation(inversion, others)
    uses_cohort = (
        brains is not None
        or needs_cohort(inversion.prior)
        or inversion.parametrisation in NEEDS_COHORT
    )
    used = tuple((n, anatomy.digest(n)) for n in others) if uses_cohort else ()
    return SolvePart(
        solver=solver_settings(inversion.solver, inversion.settings),
        start=start,
        start_content=_start_content(start, subject),
        prior=inversion.prior,
        prior_settings=_sorted(inversion.prior_settings),
        parametrisation=inversion.parametrisation,
        parametrisation_settings=_sorted(inversion.parametrisation_settings),
        constraints=None if inversion.constraints == "auto" else inversion.constraints,
        cohort=used,
    )


def _check_parametrisation(inversion: InversionConfig, others: Sequence[str]) -> None:
    name = inversion.parametrisation
    known = parametrisation_settings(name)
    for key in inversion.parametrisation_settings:
        require_choice(f"a setting of parametrisation '{name}'", key, known)
    if name in NEEDS_COHORT and len(others) < COHORT_MINIMUM:
        raise InvalidInput(
            f"parametrisation '{name}' needs at least {COHORT_MINIMUM} other subjects, got "
            f"{len(others)}; use direct"
        )


def solver_settings(name: str, settings: Mapping[str, Any]) -> SolverSettings:
    """Return checked solver settings.

    Raises
    ------
    InvalidInput
        For an unknown solver, setting or value.
    """
    known = [f.name for f in fields(SolverSettings) if f.name != "name"]
    for key in settings:
        require_choice("a key of inversion.settings", key, known)
    try:
        return _solver_settings.validate_python({"name": name, **settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        if not where:
            raise InvalidInput(text) from None
        raise InvalidInput(
            f"inversion.settings.{where} is wrong: {text.lower()}, got {first['input']!r}"
        ) from None


def _start_content(start: str, subject: str) -> str:
    """Return the digest of the maps in a folder that a solve starts from."""
    if start == "truth" or cohort_brains(start) is not None:
        return ""
    if is_simple_start(start):
        simple_start(start, 1)
        return ""
    files = sorted(Path(start).glob(f"sub-{subject}/anat/*_probseg.nii*"))
    if not files:
        raise MissingInput(
            f"inversion.start must be auto, {', '.join(STARTS)} or a folder of maps, {start} holds "
            f"none of subject {subject}; correct it"
        )
    return digest([content_sha256(path) for path in files])


def _sorted(settings: Mapping[str, Any]) -> Settings:
    return tuple(sorted(settings.items()))
