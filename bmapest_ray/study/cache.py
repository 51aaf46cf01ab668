"""What a worker keeps between jobs: operators above all, because setting them up is the cost."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.cohort import (
    CohortStatistics,
    cohort_mean,
    cohort_statistics,
    leave_one_out,
)
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.cache import FactorCache
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.study.spec import AnatomyPart, ModelPart, SolvePart
from bmapest_ray.tissue.fields import Fields, make_fields
from bmapest_ray.tissue.mixing import Mixing

if TYPE_CHECKING:
    from bmapest_ray.inversion.parametrisation import Parametrisation
    from bmapest_ray.inversion.prior_choice import Cohort, SampledPrior
    from bmapest_ray.simulate.factory import BuiltOperator

T = TypeVar("T")


class Remembered:
    """The most recently used values, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key, making it if it is not there."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
        return cast(T, self._values[key])


@dataclass
class JobCache:
    """Caches of one worker.

    Parameters
    ----------
    device
        Where operators live: ``cpu`` or ``cuda``.
    folder
        Where factors of operators are kept between processes; None keeps none.
    operators
        Most operators in memory.
    workers
        Threads that set an operator up.
    """

    device: str = "cpu"
    folder: Path | None = None
    operators: int = 8
    workers: int = 1
    setup_seconds: float = 0.0
    """Time spent on setting operators up, ever."""
    _operators: Remembered = field(init=False)
    _small: Remembered = field(init=False)
    _factors: FactorCache = field(init=False)

    def __post_init__(self) -> None:
        """Start empty."""
        self._factors = FactorCache(self.folder)
        self._operators = Remembered(self.operators)
        self._small = Remembered(256)

    def truth(self, part: AnatomyPart, matrix: int | None = None) -> TissueMaps:
        """Return the true maps of a slice, on the matrix of the job or another one.

        Raises
        ------
        InvalidInput
            If the files have changed since the job was made.
        """
        anatomy = open_anatomy(part.source)
        if anatomy.digest(part.subject) != part.content:
            raise InvalidInput(
                f"the maps of subject {part.subject} must stay as they were when the study was "
                f"planned, {part.source} has changed; start a new study"
            )
        where = SliceSpec.parse(part.slice)
        return load_slice(anatomy, part.subject, where, matrix or part.matrix, part.fov_mm)

    def operator(
        self, protocol: Protocol, model: ModelPart, maps: TissueMaps, matrix: int, fov_m: float
    ) -> "BuiltOperator":
        """Return the operator of a protocol, setting it up at most once per worker.

        Parameters
        ----------
        maps
            The slice, for the fields on its pixels; finer than `matrix` where data are made so.
        matrix, fov_m
            The images.
        """
        fields = _fields(model, maps)
        key = (
            protocol.digest,
            model.tissue,
            model.mixing,
            model.matrix,
            matrix,
            fov_m,
            fields.digest,
            model.engine,
            model.tolerance,
            model.sequence_fov_m,
            model.voxel_fov_m,
        )
        return self._operators.get(key, lambda: self._build(protocol, model, fields, matrix, fov_m))

    def start(self, part: AnatomyPart, solve: SolvePart) -> Tensor:
        """Return the maps that a solve starts from, shape `(tissue, y, x)`."""
        from bmapest_ray.inversion.starts import cohort_brains, is_simple_start, simple_start

        if is_simple_start(solve.start):
            return simple_start(solve.start, part.matrix)
        if solve.start == "truth":
            return self.truth(part).fraction
        brains = cohort_brains(solve.start)
        if brains is not None:
            key = ("mean", part, solve.cohort, brains)
            return self._small.get(
                key, lambda: cohort_mean(_others(part, solve), part.subject, brains)
            )
        from bmapest_ray.anatomy.bids_io import read_maps

        maps = read_maps(Path(solve.start), part.subject)
        if maps.matrix != part.matrix:
            raise InvalidInput(
                f"a start must have the matrix of the study, {part.matrix}, got {maps.matrix} in "
                f"{solve.start}; resample it"
            )
        return maps.fraction

    def prior(
        self, part: AnatomyPart, solve: SolvePart, device: torch.device
    ) -> "SampledPrior | None":
        """Return the prior of a solve, made of other subjects alone; None where it has none.

        Raises
        ------
        InvalidInput
            For an unknown prior or setting, or a cohort that is too small.
        """
        from bmapest_ray.inversion.prior_choice import make_prior, needs_cohort

        cohort = None
        if needs_cohort(solve.prior):
            key = ("cohort", part, solve.cohort, str(device))
            cohort = self._small.get(key, lambda: _cohort(part, solve, device))
        return make_prior(solve.prior, dict(solve.prior_settings), cohort)

    def others(self, part: AnatomyPart, solve: SolvePart) -> Tensor:
        """Return the maps of the other subjects, ``(subject, tissue, y, x)``.

        Raises
        ------
        InvalidInput
            If there are none, or the subject under test is among them.
        """
        key = ("others", part, solve.cohort)
        return self._small.get(
            key, lambda: torch.stack([maps.fraction for maps in _others(part, solve)])
        )

    def parametrisation(
        self, part: AnatomyPart, solve: SolvePart, truth: TissueMaps, device: torch.device
    ) -> "Parametrisation | None":
        """Return the unknowns of a solve; None for the fractions themselves.

        Parameters
        ----------
        truth
            Where a single tissue is fitted, the others are known: the paper's ablation.
        """
        from bmapest_ray.inversion.parametrisations import NEEDS_COHORT, make_parametrisation

        cohort = None
        if solve.parametrisation in NEEDS_COHORT:
            cohort = self.others(part, solve).to(device)
        return make_parametrisation(
            solve.parametrisation,
            dict(solve.parametrisation_settings),
            cohort=cohort,
            known=truth.fraction.to(device),
            matrix=part.matrix,
        )

    def _build(
        self,
        protocol: Protocol,
        model: ModelPart,
        fields: Fields,
        matrix: int,
        fov_m: float,
    ) -> "BuiltOperator":
        from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
        from bmapest_ray.simulate.scene import Scene

        started = time.perf_counter()
        scene = Scene(
            protocol=protocol,
            acquisition=VoxelGrid(matrix, model.sequence_fov_m or fov_m),
            fields=fields,
            table=model.tissue_table,
            mixing=Mixing(model.mixing),
            grid=VoxelGrid(model.matrix, model.voxel_fov_m or fov_m),
        )
        engine = Engine(model.engine)
        options = EngineOptions(engine, model.tolerance, self.device, workers=self.workers)
        built = build_operator(scene, options, self._factors)
        self.setup_seconds += time.perf_counter() - started
        return built


def _cohort(part: AnatomyPart, solve: SolvePart, device: torch.device) -> "Cohort":
    from bmapest_ray.inversion.prior_choice import Cohort

    others = _others(part, solve)
    known = cohort_statistics(others, part.subject)
    mean, covariance = known.mean.to(device), known.covariance.to(device)
    subjects = torch.stack([maps.fraction for maps in others]).to(device)
    return Cohort(CohortStatistics(mean, covariance, known.count), subjects)


def _fields(model: ModelPart, maps: TissueMaps) -> Fields:
    coils = model.coils.choice
    if coils.isdigit():
        return make_fields(model.b0.choice, model.b1.choice, maps, n_coils=int(coils))
    return make_fields(model.b0.choice, model.b1.choice, maps, coils=Path(coils))


def _others(part: AnatomyPart, solve: SolvePart) -> tuple[TissueMaps, ...]:
    names = [subject for subject, _ in solve.cohort]
    where = SliceSpec.parse(part.slice)
    anatomy = open_anatomy(part.source)
    return leave_one_out(anatomy, part.subject, where, part.matrix, part.fov_mm, names)
