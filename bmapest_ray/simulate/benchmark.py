"""Engines timed side by side, each in a process of its own, on the same object and states.

The reference keeps every sample of every voxel for its backward pass: one contrast at 128x128 takes
about 15 GB. The states are therefore those of the thresholds of BMapEst (arXiv 2404.14739) for all
engines, chains run one after the other, and what does not fit into memory is skipped, not
extrapolated.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TypedDict

from bmapest_ray.simulate.benchmark_process import BenchmarkRequest, Pass, Remote
from bmapest_ray.simulate.factory import Engine

_REFERENCE_GB_PER_SAMPLE = 8e-8
"""Measured: memory of the reference's forward and backward pass per sample and voxel."""


class EngineFigures(TypedDict, total=False):
    """Figures of one engine; ``seconds`` is the median of forward and backward."""

    seconds: float
    peak_gb: float
    setup_seconds: float
    time_ratio: float
    signal_error: float
    gradient_error: float
    rank: float
    bare_fft_ratio: float
    skipped: str


class BenchmarkFigures(TypedDict, total=False):
    """The whole benchmark."""

    matrix: int
    contrasts: int
    threads: int
    mixing: str
    reference: EngineFigures
    exact: EngineFigures
    lowrank: EngineFigures


def reference_gb(request: BenchmarkRequest) -> float:
    """Estimate the memory of the reference for its largest chain."""
    contrasts = max(len(chain.contrasts) for chain in request.resolved.chains)
    return contrasts * request.matrix**4 * _REFERENCE_GB_PER_SAMPLE * 0.85


def run_benchmark(
    request: BenchmarkRequest, told: Callable[[str], None] = lambda _: None
) -> BenchmarkFigures:
    """Time the engines of a request alternately and compare their results.

    The reference is skipped with a reason where it does not fit into ``memory_gb``. ``told`` is
    called with what is done next.
    """
    figures: BenchmarkFigures = {
        "matrix": request.matrix,
        "contrasts": len(request.resolved.contrasts),
        "threads": request.threads,
        "mixing": str(request.mixing),
    }
    wanted = request.engines
    if Engine.REFERENCE in wanted and (needed := reference_gb(request)) > request.memory_gb:
        reason = f"needs about {needed:.0f} GB, more than {request.memory_gb:.0f} GB"
        figures["reference"] = {"skipped": reason}
        wanted = tuple(engine for engine in wanted if engine is not Engine.REFERENCE)
    remotes: dict[Engine, Remote] = {}
    try:
        for engine in wanted:
            told(f"building {engine} in a process of its own")
            remotes[engine] = Remote(request, engine)
        passes = _alternate(request, remotes, told)
        for engine, remote in remotes.items():
            theirs = passes.get(Engine.REFERENCE, [])
            if engine is Engine.REFERENCE:
                figures["reference"] = _figures(remote, theirs)
            else:
                compared = _compared(remote, passes[engine], theirs)
                figures["exact" if engine is Engine.EXACT else "lowrank"] = compared
        if Engine.LOWRANK in remotes:
            remote = remotes[Engine.LOWRANK]
            bare = statistics.median(remote.ask("bare") for _ in range(9))
            figures["lowrank"]["rank"] = remote.ask("rank")
            figures["lowrank"]["bare_fft_ratio"] = figures["lowrank"]["seconds"] / bare
    finally:
        for remote in remotes.values():
            remote.stop()
    return figures


def _alternate(
    request: BenchmarkRequest, remotes: dict[Engine, Remote], told: Callable[[str], None]
) -> dict[Engine, list[Pass]]:
    for engine, remote in remotes.items():
        if engine is not Engine.REFERENCE:
            remote.run()  # first calls plan their transforms
    passes: dict[Engine, list[Pass]] = {engine: [] for engine in remotes}
    for number in range(request.pairs):
        for engine, remote in remotes.items():
            told(f"pass {number + 1}/{request.pairs} of {engine}")
            # a short pass is repeated so that its median is not one lucky call
            repeated = [remote.run() for _ in range(5 if engine is Engine.LOWRANK else 1)]
            passes[engine].append(sorted(repeated, key=lambda one: one.seconds)[len(repeated) // 2])
    return passes


def _figures(remote: Remote, passes: list[Pass]) -> EngineFigures:
    return {
        "seconds": statistics.median(one.seconds for one in passes),
        "peak_gb": remote.ask("peak"),
        "setup_seconds": remote.setup_seconds,
    }


def _compared(remote: Remote, passes: list[Pass], theirs: list[Pass]) -> EngineFigures:
    figures = _figures(remote, passes)
    if theirs:
        ratios = [r.seconds / o.seconds for r, o in zip(theirs, passes, strict=True)]
        images, gradient = theirs[-1].images, theirs[-1].gradient
        held = gradient != 0  # the reference has no gradient where there are no protons
        figures["time_ratio"] = statistics.median(ratios)
        figures["signal_error"] = float((passes[-1].images - images).norm() / images.norm())
        difference = (passes[-1].gradient - gradient)[held]
        figures["gradient_error"] = float(difference.norm() / gradient[held].norm())
    return figures
