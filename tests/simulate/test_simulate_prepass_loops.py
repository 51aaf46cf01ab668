"""The compiled loops against the same in numpy."""

import numpy as np

from bmapest_ray.simulate.prepass_loops import (
    add_arrivals,
    add_passed_on,
    audible,
    number_equal,
    strongest,
)


def test_equal_keys_share_a_number_and_sum_up():
    draw = np.random.default_rng(3)
    # keys that agree in their low bits: only the whole key tells them apart
    keys = draw.integers(0, 40, 500) * 2**40 - 7
    inverse, first = np.empty_like(keys), np.empty_like(keys)
    count = number_equal(keys, inverse, first)
    known: dict[int, int] = {}
    expected = [known.setdefault(int(key), len(known)) for key in keys]
    assert count == len(known)
    assert inverse.tolist() == expected
    assert keys[first[:count]].tolist() == list(known)
    values = draw.normal(size=(500, 2)) + 1j * draw.normal(size=(500, 2))
    factor = np.array([2.0, 1j])
    total = np.zeros((count, 2), dtype=np.complex128)
    add_arrivals(values, factor, inverse, total)
    for number in range(count):
        np.testing.assert_allclose(total[number], factor * values[inverse == number].sum(axis=0))


def test_the_strongest_probe_of_a_state():
    draw = np.random.default_rng(4)
    values = draw.normal(size=(30, 5)) + 1j * draw.normal(size=(30, 5))
    np.testing.assert_allclose(strongest(values), np.abs(values).max(axis=1))
    assert strongest(values[:0]).shape == (0,)


def test_a_state_is_audible_where_one_sample_is_within_on_all_axes():
    draw = np.random.default_rng(5)
    k_start, during = draw.normal(size=(200, 3)), draw.normal(size=(7, 3))
    limit = np.array([0.4, 0.9, 1.5])
    within = np.abs(k_start[:, None] + during) <= limit
    expected = within.all(axis=2).any(axis=1)
    assert 0 < expected.sum() < len(expected)
    assert audible(k_start, during, limit).tolist() == expected.tolist()


def test_gains_pass_back_through_a_pulse():
    draw = np.random.default_rng(6)
    child = np.array([2, -1, 0, 2])
    factor = draw.normal(size=3) + 1j * draw.normal(size=3)
    gain = draw.random((3, 3))
    squares = np.ones((4, 3))
    add_passed_on(child, factor, gain, squares)
    passed = np.where(child[:, None] >= 0, np.abs(factor) * gain[child], 0.0)
    np.testing.assert_allclose(squares, 1 + passed**2)
