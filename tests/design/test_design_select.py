"""Choosing contrasts: against brute force, and a bound that holds."""

from itertools import combinations

import pytest
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.design.catalogue import Catalogue, check_catalogue, trace_of_inverse
from bmapest_ray.design.select import MAX_SUBSETS, count_maximal, exhaustive, greedy, select
from bmapest_ray.sequence.parse import parse_protocol

CONTRASTS = parse_protocol("t1inv,t2prep,dir").contrasts


def catalogue_of(count=10, rank=1, seed=0):
    """Contrasts of random signals at five points."""
    draw = generator("catalogue", seed)
    rows = torch.randn(count, 5, rank, 3, generator=draw, dtype=torch.complex128)
    rows += torch.tensor([1.0, 0.9, 0.8])
    information = (rows.mH @ rows) * 100
    return Catalogue(
        contrasts=CONTRASTS[:count],
        seconds=1 + 2 * torch.rand(count, generator=draw, dtype=torch.float64),
        information=information,
        weight=torch.full((5,), 0.2, dtype=torch.float64),
        weak=torch.eye(3, dtype=torch.complex128) * 1e-2,
    )


def brute_force(catalogue, budget):
    best = float("inf")
    for size in range(1, len(catalogue) + 1):
        for chosen in combinations(range(len(catalogue)), size):
            shares = torch.zeros(len(catalogue), dtype=torch.float64)
            shares[list(chosen)] = 1
            if float(shares @ catalogue.seconds) <= budget:
                best = min(best, float(catalogue.variance(shares)))
    return best


@pytest.mark.parametrize("budget", [5.0, 9.0, 14.0])
def test_exhaustive_is_brute_force_and_the_bound_holds(budget):
    catalogue = catalogue_of()
    best = exhaustive(catalogue, budget)
    assert best.variance == pytest.approx(brute_force(catalogue, budget), rel=1e-9)
    assert best.seconds <= budget
    found = greedy(catalogue, budget)
    assert best.variance <= found.variance * (1 + 1e-12)
    assert found.variance <= 1.05 * best.variance
    assert found.bound is not None
    assert 0.3 * best.variance < found.bound <= best.variance


def test_the_bound_is_tight_where_everything_fits():
    catalogue = catalogue_of()
    found = greedy(catalogue, float(catalogue.seconds.sum()) + 1)
    assert found.chosen == tuple(range(10))
    assert found.bound == pytest.approx(found.variance, rel=1e-3)


def test_small_catalogues_are_tried_one_by_one():
    catalogue = catalogue_of()
    assert select(catalogue, 9.0).method == "exhaustive"
    assert count_maximal(catalogue, 9.0, MAX_SUBSETS) == exhaustive(catalogue, 9.0).tried
    assert count_maximal(catalogue, 9.0, 5) == 6


def test_trace_of_inverse_has_a_closed_form():
    draw = generator("trace", 0)
    half = torch.randn(7, 3, 3, generator=draw, dtype=torch.complex128)
    matrix = half @ half.mH
    expected = torch.linalg.inv(matrix).diagonal(dim1=-2, dim2=-1).sum(-1).real
    assert torch.allclose(trace_of_inverse(matrix), expected)


def test_slope_is_the_derivative():
    catalogue = catalogue_of()
    shares = torch.full((10,), 0.4, dtype=torch.float64)
    value, gradient = catalogue.slope(shares)
    assert value == pytest.approx(float(catalogue.variance(shares)), rel=1e-9)
    step = torch.zeros(10, dtype=torch.float64)
    step[3] = 1e-5
    difference = (catalogue.variance(shares + step) - catalogue.variance(shares - step)) / 2e-5
    assert float(gradient[3]) == pytest.approx(float(difference), rel=1e-5)


def test_too_little_time_and_useless_catalogues_are_refused_with_numbers():
    with pytest.raises(InvalidInput, match=r"got 1\.5 s.*3 shortest contrasts take"):
        exhaustive(catalogue_of(), 1.5)
    with pytest.raises(InvalidInput, match=r"got 0\.5 s"):
        greedy(catalogue_of(), 0.5)
    same = catalogue_of(2)
    with pytest.raises(InvalidInput, match=r"identify 3 tissues, got 2 contrast"):
        check_catalogue(same)
