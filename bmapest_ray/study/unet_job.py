"""Training a U-Net on the cohort of a job, once, and estimating with it."""

import fcntl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.simulate.cache import default_directory
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.data import simulate_data
from bmapest_ray.study.spec import AnatomyPart, JobSpec

if TYPE_CHECKING:
    from bmapest_ray.baselines.unet import Lesson, TrainedUnet
    from bmapest_ray.baselines.unet_recipe import Recipe
    from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

_DEPTHS_MM = range(-20, 21, 5)
"""Slices that a strong network is trained on, relative to the one that is estimated."""


class Estimator(Protocol):
    """What estimates maps from a measurement; every `Baseline` does."""

    def estimate(
        self, measurement: "MeasurementLike", operator: "ForwardModel", cohort: Tensor
    ) -> Tensor:
        """Return maps ``(tissue, y, x)``."""
        ...


@dataclass(frozen=True, eq=False)
class UnetEstimator:
    """A trained network in the place of a baseline."""

    trained: "TrainedUnet"

    def estimate(
        self,
        measurement: "MeasurementLike",
        operator: "ForwardModel",  # noqa: ARG002 - it has learnt the scanner
        cohort: Tensor,  # noqa: ARG002 - and the cohort
    ) -> Tensor:
        """Return maps ``(tissue, y, x)``."""
        return self.trained.estimate(measurement.images)


def unet_of(spec: JobSpec, settings: Mapping[str, Any], cache: JobCache) -> UnetEstimator:
    """Return the network for a job, training it if no job before has.

    Parameters
    ----------
    settings
        ``train`` and ``validate``, subjects with commas between them, and fields of `Recipe`.

    Raises
    ------
    InvalidInput
        If the splits share a subject or hold the one under test.
    MissingInput
        If MONAI is not installed.
    """
    from bmapest_ray.baselines.unet import check_split, train
    from bmapest_ray.baselines.unet_recipe import Recipe

    trained_on, validated_on = (
        tuple(str(settings[key]).split(",")) for key in ("train", "validate")
    )
    check_split(trained_on, validated_on, spec.anatomy.subject)
    known = {f.name for f in fields(Recipe)}
    recipe = Recipe(**{k: v for k, v in settings.items() if k in known})
    folder = (cache.folder or default_directory()) / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_key(spec, trained_on, validated_on, recipe)}.pt"
    with _locked(path):
        lesson = _lesson(spec, trained_on, validated_on, recipe, cache)
        return UnetEstimator(train(lesson, recipe, path, cache.device))


def _key(
    spec: JobSpec, trained_on: tuple[str, ...], validated_on: tuple[str, ...], recipe: "Recipe"
) -> str:
    """Return the digest of all that decides the weights; the subject under test does not."""
    anatomy = open_anatomy(spec.anatomy.source)
    return digest(
        {
            "protocol": spec.protocol,
            "data": spec.data,
            "noise": replace(spec.noise, draw=0),
            "slice": spec.anatomy.slice,
            "matrix": [spec.anatomy.matrix, spec.anatomy.fov_mm],
            "train": [[s, anatomy.digest(s)] for s in trained_on],
            "validate": [[s, anatomy.digest(s)] for s in validated_on],
            "recipe": asdict(recipe),
        }
    )


class _locked:  # noqa: N801 - used as a function
    """One process at a time trains a network; the others wait and then find it."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_suffix(".lock")

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _lesson(
    spec: JobSpec,
    trained_on: tuple[str, ...],
    validated_on: tuple[str, ...],
    recipe: "Recipe",
    cache: JobCache,
) -> "Lesson":
    from bmapest_ray.baselines.unet import Lesson

    first = simulate_data(replace(spec, anatomy=_of(spec.anatomy, validated_on[0])), cache)
    if first.sigma is None:
        raise InvalidInput("a U-Net is trained for a noise level, got noise-free data; give an SNR")
    depths = _DEPTHS_MM if recipe.name == "strong" else (0,)
    return Lesson(
        simulate=first.operator.forward,
        sigma=first.sigma,
        training=torch.stack([_maps(spec.anatomy, s, d) for s in trained_on for d in depths]),
        validation=torch.stack([_maps(spec.anatomy, s, 0) for s in validated_on]),
    )


def _of(part: AnatomyPart, subject: str) -> AnatomyPart:
    content = open_anatomy(part.source).digest(subject)
    return replace(part, subject=subject, content=content)


def _maps(part: AnatomyPart, subject: str, deeper_mm: float) -> Tensor:
    where = SliceSpec.parse(part.slice)
    moved = replace(where, value=where.value + deeper_mm) if deeper_mm else where
    return load_slice(open_anatomy(part.source), subject, moved, part.matrix, part.fov_mm).fraction
