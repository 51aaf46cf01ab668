"""How the low-rank engine's cost grows with size, contrasts and subjects, beside its bare FFTs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import make_fields
from bmapest_ray.tissue.table import PAPER_3T

SIX = ("t1inv", "t2prep", "t2star", "dir", "flair", "dwi")
_REPEATS = 9


@dataclass(frozen=True)
class CostCase:
    """One point of the table.

    Parameters
    ----------
    matrix
        Pixels along one side.
    sequences
        How many of the six sequences of four contrasts; 0 is ``t1inv[0]`` alone.
    subjects
        Maps in one batch.
    """

    matrix: int
    sequences: int
    subjects: int

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return ",".join(SIX[: self.sequences]) if self.sequences else "t1inv[0]"

    @property
    def key(self) -> str:
        """Name of the case."""
        return f"{self.matrix}/{self.sequences}/{self.subjects}"


@dataclass(frozen=True)
class CostRow:
    """Figures of one case; times are medians in seconds, for the whole batch.

    Parameters
    ----------
    build_s
        Set-up of all chains, per chain.
    rank
        Mean rank per contrast.
    forward_s, adjoint_s, bare_s
        The operator, and one fft2 and ifft2 per contrast, rank and subject.
    """

    matrix: int
    contrasts: int
    subjects: int
    build_s: float
    rank: float
    forward_s: float
    adjoint_s: float
    bare_s: float

    @property
    def ratio(self) -> float:
        """Forward and adjoint over the bare transforms."""
        return (self.forward_s + self.adjoint_s) / self.bare_s

    def as_dict(self) -> dict[str, float]:
        """Return the fields."""
        return asdict(self)


def cases() -> tuple[CostCase, ...]:
    """Return the points of the table: size, number of contrasts, subjects in a batch."""
    sizes = [CostCase(matrix, 6, 1) for matrix in (32, 64, 128, 256)]
    contrasts = [CostCase(64, sequences, 1) for sequences in (0, 1, 2, 4)]
    subjects = [CostCase(64, 2, batch) for batch in (1, 4, 16)]
    return tuple(dict.fromkeys([*sizes, *contrasts, *subjects]))


def measure_cost(case: CostCase, workers: int = 1) -> CostRow:
    """Build and time the operator of one case with the present number of torch threads."""
    operator, fractions, build_s = _build(case, workers)
    images = operator.forward(fractions)
    ranks = sum(operator.ranks)
    shape = (case.subjects, ranks, case.matrix, case.matrix)
    fields = torch.randn(shape, dtype=torch.complex64, generator=generator("cost", case.key))
    forward_s, adjoint_s, bare_s = _medians(
        lambda: operator.forward(fractions),
        lambda: operator.adjoint(images),
        lambda: torch.fft.ifft2(torch.fft.fft2(fields)),
    )
    return CostRow(
        matrix=case.matrix,
        contrasts=len(operator.ranks),
        subjects=case.subjects,
        build_s=build_s,
        rank=ranks / len(operator.ranks),
        forward_s=forward_s,
        adjoint_s=adjoint_s,
        bare_s=bare_s,
    )


def _build(case: CostCase, workers: int) -> tuple[LowRankOperator, torch.Tensor, float]:
    anatomy = open_anatomy("mni152")
    where = SliceSpec.parse("below-top:75")
    maps = load_slice(anatomy, "mni152", where, case.matrix, 216.0)
    fields = make_fields("analytic", "analytic", maps)
    protocol = parse_protocol(case.protocol)
    scene = Scene(protocol, VoxelGrid(case.matrix, 0.216), fields, PAPER_3T)
    built = build_operator(scene, EngineOptions(workers=workers))
    operator = built.operator
    assert isinstance(operator, LowRankOperator)  # noqa: S101 - compartments on their own grid
    fractions = maps.fraction.expand(case.subjects, -1, -1, -1).contiguous()
    return operator, fractions, built.setup_seconds / len(protocol.chains)


def _medians(*calls: Callable[[], object]) -> list[float]:
    """Time calls in turn, so that their ratios hold where the machine's speed drifts."""
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(1 + _REPEATS):
        for call, mine in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if number:  # the first plans transforms
                mine.append(time.perf_counter() - start)
    return [statistics.median(mine) for mine in seconds]
