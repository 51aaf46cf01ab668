"""Interpolation within a readout: bounds, cusps and exactness at the nodes."""

import numpy as np
import pytest

from bmapest_ray.simulate.nodes import (
    MAX_NODES,
    barycentric_matrix,
    chebyshev_points,
    node_set,
    nodes_needed,
)

DWELL, SAMPLES = 30e-6, 64


def interpolated(function, **changes):
    """Largest error of interpolating a function of time at the samples of a readout."""
    arguments = {
        "first_s": 1.6e-3, "dwell_s": DWELL, "samples": SAMPLES,
        "echo_s": -1.0, "rate_per_s": 300.0, "tolerance": 1e-6,
    }  # fmt: skip
    arguments.update(changes)
    nodes = node_set(*arguments.values())
    time = arguments["first_s"] + arguments["dwell_s"] * np.arange(arguments["samples"])
    return np.abs(function(nodes.time_s) @ nodes.weights - function(time)).max(), nodes


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 17])
def test_weights_sum_to_one_and_are_one_at_their_node(count):
    nodes = chebyshev_points(-1.3, 2.1, count)
    points = np.linspace(-1.3, 2.1, 41)
    matrix = barycentric_matrix(nodes, points)
    assert matrix.shape == (count, 41)
    assert matrix.sum(0) == pytest.approx(np.ones(41), abs=1e-12)
    assert barycentric_matrix(nodes, nodes) == pytest.approx(np.eye(count), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_polynomials_below_the_number_of_nodes_are_exact(scale):
    nodes = chebyshev_points(2 * scale, 5 * scale, 6)
    points = np.linspace(2 * scale, 5 * scale, 13)
    matrix = barycentric_matrix(nodes, points)
    for degree in range(6):
        exact = (points / scale) ** degree
        assert (nodes / scale) ** degree @ matrix == pytest.approx(exact, rel=1e-10)


def test_chebyshev_points_ascend_inside_their_interval():
    points = chebyshev_points(1.0, 3.0, 7)
    assert (np.diff(points) > 0).all()
    assert 1.0 < points[0] < points[-1] < 3.0
    assert points + points[::-1] == pytest.approx(np.full(7, 4.0))


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
def test_the_error_of_an_exponential_stays_below_its_bound(count):
    window, rate = 1.9e-3, 320.0
    half = rate * window / 2
    bound = 2.0 ** (1 - count) * half**count / np.prod(np.arange(1.0, count + 1))
    time = np.linspace(0, window, 200)
    nodes = chebyshev_points(0.0, window, count)
    matrix = barycentric_matrix(nodes, time)
    errors = []
    for s in (-rate, 1j * rate, rate * np.exp(2.5j)):
        # centred: the bound is on the variation within the window
        centred = np.exp(s * (time - window / 2))
        errors.append(np.abs(np.exp(s * (nodes - window / 2)) @ matrix - centred).max())
    assert max(errors) <= bound * np.exp(half)
    assert max(errors) >= bound / 100


def test_more_nodes_are_asked_for_as_the_tolerance_falls():
    counts = [nodes_needed(300.0, 1.9e-3, 10.0**-n) for n in range(1, 13)]
    assert counts == sorted(counts)
    assert counts[0] < counts[5] < counts[-1]
    assert nodes_needed(0.0, 1.9e-3, 1e-9) == 1
    assert nodes_needed(1e9, 1.0, 1e-9) == MAX_NODES


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_precession_and_decay_are_interpolated_to_tolerance(tolerance):
    for s in (2j * np.pi * 45, -2j * np.pi * 11, -30.0, -15 + 250j):
        error, nodes = interpolated(lambda t, s=s: np.exp(s * t), tolerance=tolerance)
        assert error <= 1.5 * tolerance
    assert len(nodes.time_s) < 10


@pytest.mark.parametrize("place", [0.01, 0.3, 0.49, 0.5, 10.0, 31.5, 40.02, 62.49, 62.8, 62.99])
def test_an_echo_inside_the_window_does_not_spoil_the_interpolation(place):
    echo = 1.6e-3 + place * DWELL
    error, nodes = interpolated(lambda t: np.exp(-np.abs(t - echo) / 0.03), echo_s=echo)
    assert error < 1e-6
    assert len(nodes.time_s) <= 14
    unsplit, _ = interpolated(lambda t: np.exp(-np.abs(t - echo) / 0.03))
    assert unsplit > 1e-5


def test_an_echo_outside_the_window_needs_no_split():
    inside = interpolated(np.exp, echo_s=2e-3)[1]
    for echo in (-3e-3, 1e-3, 9e-3):
        outside = interpolated(np.exp, echo_s=echo)[1]
        assert len(outside.time_s) < len(inside.time_s)


def test_few_samples_are_their_own_nodes():
    error, nodes = interpolated(lambda t: np.sin(9e9 * t), samples=3, rate_per_s=1e5)
    assert error == 0
    assert nodes.weights.tolist() == np.eye(3).tolist()
