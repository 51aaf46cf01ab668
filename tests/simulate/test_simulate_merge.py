"""The hash table numbers and sums arrivals as a dictionary does."""

import numpy as np

from bmapest_ray.simulate.merge import add_arrivals, number_equal


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
