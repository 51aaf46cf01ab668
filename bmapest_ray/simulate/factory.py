"""From a protocol and an object to an operator: the one place that chooses an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.score import Score
from bmapest_ray.simulate.assemble import FactorOperator, assemble
from bmapest_ray.simulate.average import AverageOperator
from bmapest_ray.simulate.average_coarse import CoarseAverageOperator
from bmapest_ray.simulate.average_following import FollowingOperator
from bmapest_ray.simulate.cache import FactorCache
from bmapest_ray.simulate.chain import HEAD, MeanTissue
from bmapest_ray.simulate.exact import CompartmentOperator
from bmapest_ray.simulate.factors import FactorBuilder, ImageFactors
from bmapest_ray.simulate.fork import may_fork, share_work
from bmapest_ray.simulate.reference import ReferenceOperator
from bmapest_ray.simulate.scene import Scene


class Engine(StrEnum):
    """How the signal is computed; ``AUTO`` takes the fastest that is exact enough."""

    AUTO = "auto"
    REFERENCE = "reference"
    EXACT = "exact"
    LOWRANK = "lowrank"


AnyOperator = (
    CompartmentOperator | FactorOperator | AverageOperator | FollowingOperator | ReferenceOperator
)


@dataclass(frozen=True)
class EngineOptions:
    """How an operator is computed; nothing here changes what it computes beyond its tolerance.

    Parameters
    ----------
    engine
        ``auto``, or one to force.
    tolerance
        Relative truncation error of the low-rank engine.
    device
        ``cpu`` or a CUDA device.
    double
        complex128 instead of complex64.
    memory_budget_gb
        Bound on temporary arrays.
    workers
        Threads that build or linearise chains, and apply a low-rank operator, side by side.
    """

    engine: Engine = Engine.AUTO
    tolerance: float = 1e-4
    device: str = "cpu"
    double: bool = False
    memory_budget_gb: float = 1.0
    workers: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1e-7 <= self.tolerance < 1:
            msg = f"the tolerance must be in [1e-7, 1), got {self.tolerance}; 1e-4 is the default"
            raise InvalidInput(msg)
        if not self.memory_budget_gb > 0:
            msg = f"memory_budget_gb must be positive, got {self.memory_budget_gb}; raise it"
            raise InvalidInput(msg)

    @property
    def dtype(self) -> torch.dtype:
        """Complex dtype of the computation."""
        return torch.complex128 if self.double else torch.complex64


@dataclass(frozen=True)
class BuiltOperator:
    """An operator with what it took to build it.

    Parameters
    ----------
    operator
        Fractions to images.
    engine
        The engine that was chosen.
    setup_seconds
        Time to build it, near zero from a cache.
    dwell_s
        Dwell time of every channel, shape ``(channel,)``: noise goes with its inverse root.
    """

    operator: AnyOperator
    engine: Engine
    setup_seconds: float
    dwell_s: torch.Tensor


def choose_engine(engine: Engine, scene: Scene) -> Engine:
    """Return the engine that ``AUTO`` stands for and refuse what an engine cannot do.

    Raises
    ------
    InvalidInput
        If ``lowrank`` is asked for a nonlinear mixing model or a finer object grid.
    """
    able = scene.mixing.is_linear and scene.acquisition == scene.voxels
    if engine is Engine.AUTO:
        return Engine.LOWRANK if able else Engine.EXACT
    if engine is Engine.LOWRANK and not able:
        msg = (
            "the lowrank engine needs compartments on the grid of the acquisition, got "
            f"{scene.mixing} on {scene.voxels.matrix} for {scene.acquisition.matrix}; "
            "use the exact engine"
        )
        raise InvalidInput(msg)
    return engine


def build_operator(
    scene: Scene,
    options: EngineOptions | None = None,
    cache: FactorCache | None = None,
) -> BuiltOperator:
    """Make the operator of a protocol on an object.

    Parameters
    ----------
    scene
        Protocol, grid, fields, tissue table and mixing model.
    options
        Engine, tolerance, device, precision, memory.
    cache
        For the factors of the low-rank engine.

    Raises
    ------
    InvalidInput
        If the parts do not fit together.
    SimulationError
        If a readout has no signal or a tolerance is missed.
    """
    start = time.perf_counter()
    options = options or EngineOptions()
    engine = choose_engine(options.engine, scene)
    operator = _operator(engine, scene, options, cache or FactorCache(None))
    scores = _scores(scene)
    return BuiltOperator(
        operator=operator,
        engine=engine,
        setup_seconds=time.perf_counter() - start,
        dwell_s=_dwell(scores, scene.fields.n_coils),
    )


def _operator(
    engine: Engine, scene: Scene, options: EngineOptions, cache: FactorCache
) -> AnyOperator:
    if engine is Engine.LOWRANK:
        return _lowrank(scene, options, cache)
    follows = scene.protocol.accuracy.follows_maps and not scene.mixing.is_linear
    if follows and engine is not Engine.REFERENCE:
        return FollowingOperator(partial(_average, scene, options), scene.table, scene.fields.b1)
    models = tuple(scene.model(chain) for chain in scene.protocol.chains)
    if engine is Engine.REFERENCE:
        return ReferenceOperator(models, scene.table, scene.fields, scene.mixing)
    if scene.mixing.is_linear:
        return CompartmentOperator(
            models,
            scene.table,
            scene.fields,
            dtype=options.dtype,
            device=options.device,
            memory_budget_gb=options.memory_budget_gb,
        )
    return _average(scene, options)


def _average(scene: Scene, options: EngineOptions, mean: MeanTissue = HEAD) -> AverageOperator:
    average: Callable[..., AverageOperator] = partial(AverageOperator, workers=options.workers)
    if scene.protocol.accuracy.is_for_mean:
        average = CoarseAverageOperator
    return average(
        tuple(scene.model(chain, mean) for chain in scene.protocol.chains),
        scene.table,
        scene.fields,
        mixing=scene.mixing,
        dtype=options.dtype,
        device=options.device,
        memory_budget_gb=options.memory_budget_gb,
    )


def _lowrank(scene: Scene, options: EngineOptions, cache: FactorCache) -> FactorOperator:
    chains = scene.protocol.chains
    keys = [scene.factor_key(chain, options.tolerance, options.dtype) for chain in chains]

    def factors_of(number: int) -> tuple[ImageFactors, ...]:
        def build() -> tuple[ImageFactors, ...]:
            model = scene.model(chains[number])
            builder = FactorBuilder(model, scene.table, scene.fields, options.tolerance)
            return builder.build(options.dtype)

        return cache.get(keys[number], build)

    numbers = range(len(chains))
    if options.workers > 1 and cache.directory is not None and may_fork():
        lacking = [number for number in numbers if not cache.holds(keys[number])]
        if lacking:
            share_work(factors_of, lacking, options.workers)
    with ThreadPoolExecutor(options.workers) as pool:
        factors = list(pool.map(factors_of, numbers))
    return assemble(
        scene.protocol,
        scene.acquisition,
        scene.fields,
        factors,
        dtype=options.dtype,
        device=options.device,
        memory_budget_gb=options.memory_budget_gb,
        workers=options.workers,
    )


def _scores(scene: Scene) -> list[Score]:
    grid, scanner = scene.acquisition, scene.protocol.scanner
    return [chain.write(grid.matrix, grid.fov_m, scanner) for chain in scene.protocol.chains]


def _dwell(scores: list[Score], n_coils: int) -> torch.Tensor:
    dwell: list[float] = []
    for score in scores:
        by_image = {readout.image: readout.dwell_s for readout in score.readouts}
        dwell += [by_image[image] for image in range(len(score.images)) for _ in range(n_coils)]
    return torch.tensor(dwell, dtype=torch.float64)
