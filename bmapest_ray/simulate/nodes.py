"""Interpolation in time: a voxel's factor is smooth during a readout, a few nodes carry it.

With Chebyshev nodes on a window of length T the error of interpolating ``exp(s t)`` is at most
``2^(1-L) (|s| T / 2)^L / L!``. The factor ``exp(-|tau| / T2')`` has a cusp where an echo
(tau = 0) falls into the window, so the window is split there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bmapest_ray.simulate.plan import Floats

MAX_NODES = 24


@dataclass(frozen=True)
class NodeSet:
    """Interpolation nodes of one readout.

    Parameters
    ----------
    time_s
        Node times from the pulse. Shape ``(node,)``.
    weights
        Lagrange weights: ``f(sample) = sum_node weights[node, sample] f(node)``.
        Shape ``(node, sample)``.
    """

    time_s: Floats
    weights: Floats


def nodes_needed(
    rate_per_s: float, window_s: float, tolerance: float, most: int = MAX_NODES
) -> int:
    """Return how many Chebyshev nodes interpolate ``exp(s t)``, ``|s| <= rate``, to tolerance."""
    half = abs(rate_per_s) * window_s / 2
    for count in range(1, most):
        if 2.0 ** (1 - count) * half**count / math.factorial(count) <= tolerance:
            return count
    return most


def barycentric_matrix(nodes: Floats, points: Floats) -> Floats:
    """Return Lagrange weights of ``nodes`` at ``points``, shape ``(node, point)``."""
    if len(nodes) == 1:
        return np.ones((1, len(points)))
    differences = nodes[:, None] - nodes[None, :]
    scale = np.ptp(nodes) / 4
    np.fill_diagonal(differences, scale)
    weight = 1 / np.prod(differences / scale, axis=1)
    gap = points[None, :] - nodes[:, None]
    hit = np.abs(gap) <= 1e-14 * max(1.0, float(np.abs(nodes).max()))
    ratio = weight[:, None] / np.where(hit, 1.0, gap)
    matrix: Floats = ratio / ratio.sum(axis=0)
    columns = hit.any(axis=0)
    matrix[:, columns] = hit[:, columns].astype(float)
    return matrix


def chebyshev_points(low: float, high: float, count: int) -> Floats:
    """Return Chebyshev points of the first kind on ``[low, high]``, ascending."""
    angle = (2 * np.arange(count, 0, -1) - 1) * np.pi / (2 * count)
    points: Floats = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    return points


@lru_cache(maxsize=512)
def node_set(
    first_s: float, dwell_s: float, samples: int, echo_s: float, rate_per_s: float, tolerance: float
) -> NodeSet:
    """Return the nodes of a readout of evenly spaced samples.

    Parameters
    ----------
    first_s, dwell_s, samples
        Sample times, counted from the pulse.
    echo_s
        Time from the pulse at which the state refocuses; outside the window it does not matter.
    rate_per_s
        Largest ``|s|`` of the factors ``exp(s t)``.
    tolerance
        Largest interpolation error.
    """
    time: Floats = first_s + dwell_s * np.arange(samples, dtype=np.float64)
    inside = time[0] + 1e-6 * dwell_s < echo_s < time[-1] - 1e-6 * dwell_s
    cut = int(np.searchsorted(time, echo_s)) if inside else samples
    parts: list[Floats] = [part for part in (time[:cut], time[cut:]) if len(part)]
    count = nodes_needed(rate_per_s, max(float(np.ptp(part)) for part in parts), tolerance)
    all_nodes = []
    weights = np.zeros((0, samples))
    start = 0
    for part in parts:
        points = part
        if len(part) > count:
            points = chebyshev_points(float(part[0]), float(part[-1]), count)
        rows = np.zeros((len(points), samples))
        rows[:, start : start + len(part)] = barycentric_matrix(points, part)
        all_nodes.append(points)
        weights = np.concatenate([weights, rows])
        start += len(part)
    return NodeSet(time_s=np.concatenate(all_nodes), weights=weights)
