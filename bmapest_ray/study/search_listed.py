"""TPE on a space of few points, all listed: the best of those that are left, not of random draws.

In a small space a sampler that draws soon draws what was tried, or what takes too long on the
scanner, and would end up taking anything else at random. Here the ratio of TPE's two densities is
worked out at every point that is left, and the highest is proposed. The densities are Optuna's
for categories: a mixture over trials of products over dimensions, and the uniform one as a prior.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bmapest_ray.study.space import Choices, Space, Value

MOST_POINTS = 4096
GOOD_SHARE = 0.1
"""Part of the trials that the numerator describes, as Optuna has it."""

Point = Mapping[str, Value]


@dataclass(frozen=True)
class Tried:
    """A point that was proposed; `loss` is None while it runs and infinite where it failed."""

    point: Point
    loss: float | None


def is_listed(space: Space) -> bool:
    """Whether a space is made of choices alone and has few points."""
    sizes = [len(d.choices) if isinstance(d, Choices) else MOST_POINTS + 1 for d in space.values()]
    return math.prod(sizes) <= MOST_POINTS


def most_promising(free: Sequence[Point], tried: Sequence[Tried], draw: int) -> int:
    """Return the index of the free point where good trials are densest beside the others.

    Parameters
    ----------
    free
        What may be proposed; at least one point.
    tried
        What was proposed before.
    draw
        Decides between equal points.
    """
    ended = sorted((t for t in tried if t.loss is not None), key=lambda t: float(t.loss or 0.0))
    count = math.ceil(GOOD_SHARE * len(ended))
    good = [t.point for t in ended[:count]]
    others = [t.point for t in (*ended[count:], *(t for t in tried if t.loss is None))]
    paths = list(dict.fromkeys(path for point in free for path in point))
    ratio = _log_density(free, good, paths) - _log_density(free, others, paths)
    best = np.flatnonzero(ratio >= ratio.max() - 1e-9)
    return int(best[draw % len(best)])


def _log_density(at: Sequence[Point], seen: Sequence[Point], paths: Sequence[str]) -> np.ndarray:
    """Return the logarithm of the density of `seen`, up to a constant, at each point."""
    kernels = len(seen) + 1
    small = 1.0 / kernels
    log_mix = np.zeros((len(at), kernels))  # the last column is the prior
    for path in paths:
        values = [_key(point, path) for point in (*at, *seen)]
        levels = sorted(set(values))
        codes = np.array([levels.index(value) for value in values])
        same = codes[: len(at), None] == codes[None, len(at) :]
        weights = np.where(same, 1.0 + small, small) / (1.0 + len(levels) * small)
        log_mix[:, :-1] += np.log(weights)
        log_mix[:, -1] -= math.log(len(levels))
    top = log_mix.max(1)
    mixed: np.ndarray = top + np.log(np.exp(log_mix - top[:, None]).mean(1))
    return mixed


def _key(point: Point, path: str) -> str:
    """Return a value as text; a setting that does not count here is a level of its own."""
    return repr(point[path]) if path in point else ""
