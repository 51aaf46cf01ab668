"""Priors by name, their settings, sums of priors, and the rule that sets the settings.

Defaults come from `cross_validate` on the tune subjects of ``studies/splits.yaml``; a study may
search them itself as ``inversion.prior_settings.*`` with ``search.tune_subjects``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.inversion.prior_gaussian import Statistics, gaussian_prior
from bmapest_ray.inversion.prior_neighbours import neighbour_prior
from bmapest_ray.inversion.prior_pca import pca_prior
from bmapest_ray.inversion.prior_tv import TotalVariation
from bmapest_ray.inversion.problem import Prior

PRIORS = ("none", "cohort", "tv", "pca", "neighbours", "cohort+tv", "pca+tv")
Value = float | int | bool | str | None


class SampledPrior(Prior, Protocol):
    """A prior whose posterior can be sampled."""

    def perturbation(self, p: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a random vector whose covariance is the curvature at `p`."""
        ...


@dataclass(frozen=True, eq=False)
class SumPrior:
    """Several priors at once: their densities multiply."""

    parts: tuple[SampledPrior, ...]

    @property
    def name(self) -> str:
        """Names of the parts."""
        return "+".join(part.name for part in self.parts)

    def value(self, p: Tensor) -> Tensor:
        """Sum of the parts."""
        return torch.stack([part.value(p) for part in self.parts]).sum(0)

    def gradient(self, p: Tensor) -> Tensor:
        """Sum of the parts."""
        return torch.stack([part.gradient(p) for part in self.parts]).sum(0)

    def curvature(self, p: Tensor) -> Callable[[Tensor], Tensor]:
        """Sum of the parts."""
        products = [part.curvature(p) for part in self.parts]
        return lambda dp: torch.stack([product(dp) for product in products]).sum(0)

    def blocks(self, p: Tensor) -> Tensor:
        """Sum of the parts."""
        first, *others = [part.blocks(p) for part in self.parts]
        for other in others:
            first = first + other
        return first

    def select(self, index: Tensor) -> Self:
        """Return the priors of some batch items."""
        return replace(self, parts=tuple(part.select(index) for part in self.parts))

    def perturbation(self, p: Tensor, generator: torch.Generator) -> Tensor:
        """Sum of the parts, which are independent."""
        return torch.stack([part.perturbation(p, generator) for part in self.parts]).sum(0)


@dataclass(frozen=True, eq=False)
class Cohort:
    """What is known of the other subjects.

    Parameters
    ----------
    statistics
        Their voxel-wise mean and covariance.
    subjects
        Their maps, ``(subject, tissue, y, x)``.
    """

    statistics: Statistics
    subjects: Tensor


def needs_cohort(name: str) -> bool:
    """Whether a prior is made from other subjects."""
    return any(part in ("cohort", "pca", "neighbours") for part in name.split("+"))


def make_prior(
    name: str, settings: Mapping[str, Value] | None = None, cohort: Cohort | None = None
) -> SampledPrior | None:
    """Return a prior by name; None for ``none``.

    Parameters
    ----------
    name
        One of `PRIORS`.
    settings
        Settings of the prior, as `prior_settings` lists them.
    cohort
        The other subjects, needed by ``cohort``, ``pca`` and ``neighbours``.

    Raises
    ------
    InvalidInput
        For an unknown prior or setting, a wrong value, or a missing cohort.
    """
    check_settings(name, settings or {})
    if name == "none":
        return None
    parts = tuple(_part(part, _own(part, name, settings or {}), cohort) for part in name.split("+"))
    return parts[0] if len(parts) == 1 else SumPrior(parts)


def prior_settings(name: str) -> tuple[str, ...]:
    """Return the settings of a prior; in a sum they carry the part's name, ``tv.strength``."""
    require_choice("prior", name, PRIORS)
    parts = name.split("+")
    if len(parts) == 1:
        return tuple(_DEFAULTS[name])
    return tuple(f"{part}.{key}" for part in parts for key in _DEFAULTS[part])


def check_settings(name: str, settings: Mapping[str, Value]) -> None:
    """Refuse unknown settings and values that are no numbers.

    Raises
    ------
    InvalidInput
        Names the closest setting.
    """
    known = prior_settings(name)
    for key, value in settings.items():
        if not known:
            msg = f"prior '{name}' has no settings, got '{key}'; name a prior or leave it out"
            raise InvalidInput(msg)
        require_choice(f"a setting of prior '{name}'", key, known)
        whole = isinstance(_default(name, key), int)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (whole and value != int(value or 0)):
            kind = "a whole number" if whole else "a number"
            msg = f"prior setting {key} must be {kind}, got {value!r}; correct it"
            raise InvalidInput(msg)


def cross_validate(
    candidates: Iterable[Mapping[str, Value]],
    subjects: Sequence[str],
    error: Callable[[Mapping[str, Value], str], float],
) -> tuple[dict[str, Value], dict[str, float]]:
    """Choose settings on tune subjects alone, each fitted with itself left out of its cohort.

    Parameters
    ----------
    candidates
        Settings to choose from.
    subjects
        The tune subjects.
    error
        Error of the fit of one subject with some settings, the lower the better (for example the
        mean square error of its maps).

    Returns
    -------
    tuple
        The settings of the lowest geometric mean error, and that error per candidate.
    """
    if not subjects:
        msg = "cross-validation needs at least one tune subject, got none; name some"
        raise InvalidInput(msg)
    tried = [dict(candidate) for candidate in candidates]
    if not tried:
        msg = "cross-validation needs at least one candidate, got none; name some settings"
        raise InvalidInput(msg)
    means = [
        float(torch.tensor([error(c, s) for s in subjects], dtype=torch.float64).log().mean().exp())
        for c in tried
    ]
    best = min(range(len(tried)), key=means.__getitem__)
    return tried[best], {str(c): m for c, m in zip(tried, means, strict=True)}


def _part(name: str, settings: Mapping[str, Value], cohort: Cohort | None) -> SampledPrior:
    values: dict[str, Any] = {**_DEFAULTS[name], **settings}
    values = {key: type(default)(values[key]) for key, default in _DEFAULTS[name].items()}
    if name == "tv":
        return TotalVariation(**values)
    if cohort is None:
        msg = f"prior '{name}' needs at least 2 other subjects, got none; use prior 'tv' or 'none'"
        raise InvalidInput(msg)
    if name == "pca":
        if "components" not in settings:
            values["components"] = min(values["components"], len(cohort.subjects) - 1)
        return pca_prior(cohort.statistics, cohort.subjects, **values)
    if name == "neighbours":
        return neighbour_prior(cohort.statistics, cohort.subjects, **values)
    return gaussian_prior(cohort.statistics, **values)


def _own(part: str, name: str, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the settings of one part of a sum, without its name."""
    if part == name:
        return dict(settings)
    head = f"{part}."
    return {key.removeprefix(head): v for key, v in settings.items() if key.startswith(head)}


def _default(name: str, key: str) -> float | int:
    part, _, own = key.rpartition(".")
    return _DEFAULTS[part or name][own]


def _defaults(make: Callable[..., object]) -> dict[str, float | int]:
    """Return the numbers that a prior's maker has as defaults."""
    parameters = signature(make).parameters.values()
    return {p.name: p.default for p in parameters if type(p.default) in (int, float)}


_DEFAULTS: dict[str, dict[str, float | int]] = {
    "none": {},
    "cohort": _defaults(gaussian_prior),
    "tv": _defaults(TotalVariation),
    "pca": _defaults(pca_prior),
    "neighbours": _defaults(neighbour_prior),
}
