"""An engine in a process of its own, which answers with the time of a pass and its memory."""

from __future__ import annotations

import multiprocessing
import resource
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TypeVar

import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput, SimulationError
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Protocol, StateAccuracy
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.reference import ReferenceOperator
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import make_fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import PAPER_3T

Answer = TypeVar("Answer")

PAPER_ACCURACY = StateAccuracy(
    max_state_count=5000, min_state_mag=1e-3, min_latent_signal=1e-2, min_emitted_signal=1e-2
)


@dataclass(frozen=True)
class BenchmarkRequest:
    """What is timed.

    Parameters
    ----------
    protocol, anatomy, matrix, fov_mm, mixing
        The scene; the slice is ``below-top:75`` of the first subject.
    threads
        Torch threads of every engine.
    pairs
        Times that reference and engine alternate.
    memory_gb
        The reference is skipped where it would need more.
    engines
        What is timed.
    memory_budget_gb
        Bound on temporary arrays of the exact and the low-rank engine.
    """

    protocol: str
    anatomy: str = "mni152"
    subject: str = "mni152"
    matrix: int = 64
    fov_mm: float = 216.0
    mixing: Mixing = Mixing.COMPARTMENTS
    threads: int = 1
    pairs: int = 3
    memory_gb: float = 20.0
    engines: tuple[Engine, ...] = (Engine.REFERENCE, Engine.EXACT, Engine.LOWRANK)
    memory_budget_gb: float = 1.0

    def __post_init__(self) -> None:
        """Leave out the engine that cannot do what is asked."""
        able = self.mixing.is_linear
        engines = tuple(e for e in self.engines if able or e is not Engine.LOWRANK)
        if not engines or Engine.AUTO in engines:
            msg = (
                f"engines to time must be reference, exact or (for compartments) lowrank, got "
                f"{','.join(self.engines) or 'none'} for {self.mixing}; name one that can do it"
            )
            raise InvalidInput(msg)
        object.__setattr__(self, "engines", engines)

    @property
    def resolved(self) -> Protocol:
        """The protocol with the thresholds of the benchmark."""
        return replace(parse_protocol(self.protocol), accuracy=PAPER_ACCURACY)


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass."""

    seconds: float
    images: torch.Tensor
    gradient: torch.Tensor


class _Bench:
    """One engine in its process."""

    def __init__(self, request: BenchmarkRequest, engine: Engine) -> None:
        torch.set_num_threads(request.threads)
        anatomy = open_anatomy(request.anatomy)
        where = SliceSpec.parse("below-top:75")
        maps = load_slice(anatomy, request.subject, where, request.matrix, request.fov_mm)
        self.fractions = maps.fraction
        scene = Scene(
            request.resolved,
            VoxelGrid(request.matrix, request.fov_mm / 1000),
            make_fields("analytic", "analytic", maps),
            PAPER_3T,
            request.mixing,
        )
        options = EngineOptions(
            engine=engine,
            memory_budget_gb=request.memory_budget_gb,
            workers=request.threads,
        )
        built = build_operator(scene, options)
        self.operator = built.operator
        self.setup_seconds = built.setup_seconds
        channels = len(self.operator.channels)
        shape = (channels, request.matrix, request.matrix)
        self.weights = torch.randn(
            shape, dtype=torch.complex64, generator=generator("benchmark", request.matrix)
        )

    def run(self) -> Pass:
        """Time one forward and backward pass."""
        if isinstance(self.operator, ReferenceOperator):
            return self._run_reference(self.operator)
        start = time.perf_counter()
        images = self.operator.forward(self.fractions)
        gradient = self.operator.vjp(self.fractions, self.weights)
        return Pass(time.perf_counter() - start, images, gradient)

    def _run_reference(self, operator: ReferenceOperator) -> Pass:
        """Run the chains one after the other, so that one at a time is held in memory."""
        gradient = torch.zeros_like(self.fractions)
        images = []
        seconds, first = 0.0, 0
        for model in operator.models:
            start = time.perf_counter()
            point = self.fractions.clone().requires_grad_()
            part = operator.chain_images(model, operator.sim_data(point))
            weights = self.weights[first : first + len(part)]
            gradient += torch.autograd.grad(part, point, weights)[0]
            seconds += time.perf_counter() - start
            images.append(part.detach())
            first += len(part)
        return Pass(seconds, torch.cat(images), gradient)

    def bare_seconds(self) -> float:
        """Time the bare transforms of the low-rank operator: fft2 and ifft2 of every rank."""
        assert isinstance(self.operator, LowRankOperator)  # noqa: S101 - asked of it only
        matrix = self.operator.matrix
        shape = (sum(self.operator.ranks), matrix, matrix)
        fields = torch.randn(shape, dtype=torch.complex64, generator=generator("bare-fft", matrix))
        start = time.perf_counter()
        torch.fft.ifft2(torch.fft.fft2(fields))
        return time.perf_counter() - start


def _serve(connection: Connection, request: BenchmarkRequest, engine: Engine) -> None:
    """Build an operator, then answer ``run``, ``bare`` and ``peak`` until ``stop``."""
    try:
        bench = _Bench(request, engine)
        connection.send(bench.setup_seconds)
        while (command := connection.recv()) != "stop":
            if command == "run":
                connection.send(bench.run())
            elif command == "bare":
                connection.send(bench.bare_seconds())
            elif command == "rank" and isinstance(bench.operator, LowRankOperator):
                connection.send(sum(bench.operator.ranks) / len(bench.operator.ranks))
            else:
                connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    except Exception as error:  # noqa: BLE001 - handed to the parent, which raises
        connection.send(error)


class Remote:
    """A benchmark process."""

    def __init__(self, request: BenchmarkRequest, engine: Engine) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, request, engine), daemon=True)
        self._process.start()
        theirs.close()
        self.setup_seconds = self._receive(float)

    def ask(self, command: str) -> float:
        """Send a command that is answered by a number."""
        self._connection.send(command)
        return self._receive(float)

    def run(self) -> Pass:
        """Run one forward and backward pass."""
        self._connection.send("run")
        return self._receive(Pass)

    def stop(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._connection.send("stop")
            self._process.join(10)

    def _receive(self, kind: type[Answer]) -> Answer:
        try:
            answer = self._connection.recv()
        except EOFError as error:
            msg = (
                "a benchmark process must live to its end, got killed (out of memory?); "
                "lower the matrix or the number of contrasts"
            )
            raise SimulationError(msg) from error
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, kind)  # noqa: S101 - both ends are in this file
        return answer
