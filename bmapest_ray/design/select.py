"""Which contrasts to play within a scan time: exhaustive, greedy with swaps, and a bound.

The mean variance is convex in the share of each contrast. With shares in [0, 1] instead of yes or
no it bounds every choice from below, and so does any of its tangents: Frank & Wolfe, Nav. Res.
Logist. Q. 3, 95 (1956).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.design.catalogue import Catalogue

MAX_SUBSETS = 3_000_000
"""Choices that are tried one by one."""
_BATCH = 20_000


@dataclass(frozen=True)
class Selection:
    """Chosen contrasts.

    Parameters
    ----------
    chosen
        Indices into the catalogue, ascending.
    variance
        Mean over tissues, voxels and frequencies.
    seconds
        Scan time.
    method
        ``exhaustive``, ``greedy`` or ``search``.
    tried
        Choices that were evaluated.
    bound
        No choice within the time has a variance below this; None where it is the best.
    """

    chosen: tuple[int, ...]
    variance: float
    seconds: float
    method: str
    tried: int
    bound: float | None = None


def select(catalogue: Catalogue, budget_s: float) -> Selection:
    """Choose exhaustively where that is feasible, else greedily.

    Raises
    ------
    InvalidInput
        If no choice within the budget identifies the tissues.
    """
    if count_maximal(catalogue, budget_s, MAX_SUBSETS) <= MAX_SUBSETS:
        return exhaustive(catalogue, budget_s)
    return greedy(catalogue, budget_s)


def exhaustive(catalogue: Catalogue, budget_s: float) -> Selection:
    """Try every choice to which nothing can be added (more information never harms)."""
    best, variance, tried = None, float("inf"), 0
    for batch in _batches(catalogue, budget_s):
        values = catalogue.variance(batch)
        tried += len(batch)
        place = int(values.argmin())
        if float(values[place]) < variance:
            best, variance = batch[place], float(values[place])
    if best is None:
        raise _too_short(catalogue, budget_s)
    return _selection(catalogue, best, budget_s, "exhaustive", tried)


def greedy(catalogue: Catalogue, budget_s: float, *, with_bound: bool = True) -> Selection:
    """Add what lowers the log variance most per second, then swap while that helps."""
    chosen = torch.zeros(len(catalogue), dtype=torch.float64)
    tried = 0
    while (open_ := _fitting(catalogue, chosen, budget_s)).numel():
        values = catalogue.variance(_with_each(chosen, open_))
        gain = (catalogue.variance(chosen) / values).log() / catalogue.seconds[open_]
        chosen[open_[gain.argmax()]] = 1
        tried += len(values)
    better, count = _swapped(catalogue, chosen, budget_s)
    bound = lower_bound(catalogue, budget_s) if with_bound else None
    return _selection(catalogue, better, budget_s, "greedy", tried + count, bound)


def lower_bound(catalogue: Catalogue, budget_s: float, steps: int = 200) -> float:
    """Return a variance that no choice within the budget can beat."""
    shares = _knapsack(catalogue, torch.ones(len(catalogue), dtype=torch.float64), budget_s)
    shares = 0.5 * shares + 0.5 * budget_s / float(catalogue.seconds.sum())
    shares = shares.clamp(max=1.0)
    shares = shares * min(1.0, budget_s / float(shares @ catalogue.seconds))
    best = 0.0
    for number in range(steps):
        value, gradient = catalogue.slope(shares)
        corner = _knapsack(catalogue, -gradient, budget_s)
        best = max(best, value + float(gradient @ (corner - shares)))
        shares = shares + 2 / (number + 3) * (corner - shares)
    return best


def _knapsack(catalogue: Catalogue, worth: Tensor, budget_s: float) -> Tensor:
    """Return the shares that are worth most within the budget."""
    shares, left = torch.zeros_like(worth), budget_s
    for place in torch.argsort(worth / catalogue.seconds, descending=True).tolist():
        share = min(1.0, left / float(catalogue.seconds[place]))
        if share <= 0 or float(worth[place]) <= 0:
            break
        shares[place] = share
        left -= share * float(catalogue.seconds[place])
    return shares


def _fitting(catalogue: Catalogue, chosen: Tensor, budget_s: float) -> Tensor:
    left = budget_s - float(chosen @ catalogue.seconds)
    return torch.nonzero((chosen == 0) & (catalogue.seconds <= left + 1e-9))[:, 0]


def _with_each(chosen: Tensor, places: Tensor) -> Tensor:
    rows = chosen.repeat(len(places), 1)
    rows[torch.arange(len(places)), places] = 1
    return rows


def _swapped(catalogue: Catalogue, chosen: Tensor, budget_s: float) -> tuple[Tensor, int]:
    """Exchange one contrast for another, or two for others, while that lowers the variance."""
    tried = 0
    variance = float(catalogue.variance(chosen))
    while True:
        rows = list(_neighbours(catalogue, chosen, budget_s))
        if not rows:
            return chosen, tried
        values = catalogue.variance(torch.stack(rows))
        tried += len(rows)
        place = int(values.argmin())
        if float(values[place]) >= variance * (1 - 1e-9):
            return chosen, tried
        chosen, variance = rows[place], float(values[place])


def _neighbours(catalogue: Catalogue, chosen: Tensor, budget_s: float) -> Iterator[Tensor]:
    for inside in torch.nonzero(chosen)[:, 0].tolist():
        without = chosen.clone()
        without[inside] = 0
        for other in _fitting(catalogue, without, budget_s).tolist():
            if other != inside:
                row = without.clone()
                row[other] = 1
                for extra in _fitting(catalogue, row, budget_s).tolist()[:1]:
                    row[extra] = 1
                yield row


def count_maximal(catalogue: Catalogue, budget_s: float, limit: int) -> int:
    """Return how many choices `exhaustive` tries, or more than `limit`."""
    return sum(1 for _, _ in zip(_maximal(catalogue, budget_s), range(limit + 1), strict=False))


def _batches(catalogue: Catalogue, budget_s: float) -> Iterator[Tensor]:
    rows: list[int] = []
    for subset in _maximal(catalogue, budget_s):
        rows.append(subset)
        if len(rows) == _BATCH:
            yield _shares(rows, len(catalogue))
            rows = []
    if rows:
        yield _shares(rows, len(catalogue))


def _shares(subsets: list[int], count: int) -> Tensor:
    bits = np.array(subsets, dtype=np.int64)[:, None] >> np.arange(count)
    return torch.from_numpy((bits & 1).astype(np.float64))


def _maximal(catalogue: Catalogue, budget_s: float) -> Iterator[int]:
    """Yield, as bits, the subsets within the budget that leave room for no other contrast."""
    seconds = catalogue.seconds.tolist()
    order = sorted(range(len(seconds)), key=lambda i: -seconds[i])
    tail = np.concatenate([np.cumsum([seconds[i] for i in order][::-1])[::-1], [0.0]]).tolist()
    stack: list[tuple[int, float, int, float]] = [(0, budget_s + 1e-9, 0, float("inf"))]
    while stack:
        place, left, subset, shortest_out = stack.pop()
        if left - tail[place] >= shortest_out:
            continue  # whatever follows, something left out would still fit
        if place == len(order):
            if subset:
                yield subset
            continue
        item = order[place]
        stack.append((place + 1, left, subset, min(shortest_out, seconds[item])))
        if seconds[item] <= left:
            stack.append((place + 1, left - seconds[item], subset | 1 << item, shortest_out))


def _selection(
    catalogue: Catalogue,
    shares: Tensor,
    budget_s: float,
    method: str,
    tried: int,
    bound: float | None = None,
) -> Selection:
    variance = float(catalogue.variance(shares))
    if not shares.any() or variance > 1.0:
        raise _too_short(catalogue, budget_s, variance)
    return Selection(
        chosen=tuple(torch.nonzero(shares)[:, 0].tolist()),
        variance=variance,
        seconds=float(shares @ catalogue.seconds),
        method=method,
        tried=tried,
        bound=bound,
    )


def _too_short(
    catalogue: Catalogue, budget_s: float, variance: float = float("inf")
) -> InvalidInput:
    shortest = catalogue.seconds.sort().values[: catalogue.weak.shape[-1]]
    fits = f"whose best choice leaves a standard deviation of {variance**0.5:.3g}"
    if not np.isfinite(variance):
        fits = "in which no contrast fits"
    return InvalidInput(
        f"the scan time must allow contrasts that identify {catalogue.weak.shape[-1]} tissues, got "
        f"{budget_s:.4g} s, {fits}; "
        f"the {len(shortest)} shortest contrasts take {float(shortest.sum()):.4g} s"
    )
