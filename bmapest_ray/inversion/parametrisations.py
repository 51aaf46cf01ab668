"""Parametrisations by name, as studies and the command line ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.inversion.cohort_coefficients import (
    CohortMixture,
    CohortPca,
    PaperPca,
    principal_components,
)
from bmapest_ray.inversion.pointwise import Sigmoid, SingleTissue, Softmax
from bmapest_ray.inversion.resolution import Coarse, LearnedUpsampling

if TYPE_CHECKING:
    from bmapest_ray.inversion.parametrisation import Parametrisation

Value = float | int | bool | str | None

_SETTINGS: dict[str, dict[str, Value]] = {
    "direct": {},
    "sigmoid": {},
    "softmax": {},
    "mixture-global": {"clamp": False},
    "mixture-pixel": {"clamp": False},
    "mixture-tissue": {"clamp": False},
    "pca": {"components": 8, "clamp": False},
    "pca-paper": {"components": 8},
    "coarse": {"factor": 2, "linear": True},
    "upsampled": {},
    "single-tissue": {"tissue": 0},
}
PARAMETRISATIONS = tuple(_SETTINGS)
NEEDS_COHORT = ("mixture-global", "mixture-pixel", "mixture-tissue", "pca", "pca-paper")


def parametrisation_settings(name: str) -> dict[str, Value]:
    """Return the settings of a parametrisation with their defaults.

    Raises
    ------
    InvalidInput
        For an unknown name; says the closest.
    """
    return dict(_SETTINGS[require_choice("parametrisation", name, PARAMETRISATIONS)])


def make_parametrisation(
    name: str,
    settings: Mapping[str, Value] | None = None,
    *,
    cohort: Tensor | None = None,
    known: Tensor | None = None,
    matrix: int = 64,
) -> Parametrisation | None:
    """Return a parametrisation by name; None for ``direct``, which `invert` makes by itself.

    Parameters
    ----------
    name
        One of `PARAMETRISATIONS`.
    settings
        Changes to `parametrisation_settings`.
    cohort
        Maps of the other subjects, ``(subject, tissue, y, x)``.
    known
        Maps of which all but one tissue are known, ``(tissue, y, x)``; for ``single-tissue``.
    matrix
        Pixels along one edge; for ``upsampled``.

    Raises
    ------
    InvalidInput
        For an unknown name or setting, or if the cohort or the known maps are missing.
    """
    values = parametrisation_settings(name)
    for key, value in (settings or {}).items():
        values[require_choice(f"a setting of parametrisation '{name}'", key, values)] = value
    if name in NEEDS_COHORT:
        return _of_cohort(name, values, cohort)
    if name == "single-tissue":
        return _single(values, known)
    if name == "coarse":
        return Coarse(int(values["factor"] or 0), bool(values["linear"]))
    if name == "upsampled":
        return LearnedUpsampling(matrix=matrix)
    if name == "sigmoid":
        return Sigmoid()
    return Softmax() if name == "softmax" else None


def _of_cohort(name: str, values: Mapping[str, Value], cohort: Tensor | None) -> Parametrisation:
    if cohort is None or len(cohort) < 2:
        count = 0 if cohort is None else len(cohort)
        msg = f"parametrisation '{name}' needs at least 2 other subjects, got {count}; use 'direct'"
        raise InvalidInput(msg)
    maps = cohort[None]
    if name.startswith("mixture"):
        return CohortMixture(maps, name.removeprefix("mixture-"), bool(values["clamp"]))
    count = min(int(values["components"] or 0), len(cohort) - 1)
    mean, components = principal_components(maps, count)
    if name == "pca":
        return CohortPca(mean, components, bool(values["clamp"]))
    return PaperPca(mean, components)


def _single(values: Mapping[str, Value], known: Tensor | None) -> SingleTissue:
    tissue = int(values["tissue"] or 0)
    if known is None:
        msg = "parametrisation 'single-tissue' needs the maps of the others, got none; give them"
        raise InvalidInput(msg)
    if not 0 <= tissue < len(known):
        msg = f"the tissue of 'single-tissue' must be in 0..{len(known) - 1}, got {tissue}"
        raise InvalidInput(msg)
    return SingleTissue(known[None], tissue)
