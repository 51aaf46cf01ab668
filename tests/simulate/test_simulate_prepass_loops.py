"""The compiled loops against the same in numpy."""

import numpy as np
import pytest

from bmapest_ray.simulate.prepass_loops import add_passed_on, emit, fade, hear_through, mix


def normal(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.normal(size=shape) + 1j * draw.normal(size=shape)


@pytest.mark.parametrize("n_z", [500, 300, 1])
def test_a_pulse_sums_what_arrives_at_equal_dephasings(n_z: int) -> None:
    draw = np.random.default_rng(3)
    # keys that agree in their low bits, of both signs: only the whole key tells them apart
    keys = draw.integers(-20, 20, 500) * 2**40
    values, factor = normal(draw, 500, 2), normal(draw, 2, 3, 2)
    arrivals = 1000 - n_z
    inverse, first = np.empty((2, arrivals), dtype=np.int64)
    merged, strength = np.empty((2, arrivals, 2), dtype=np.complex128), np.empty((2, arrivals))
    count = mix(keys, values, n_z, factor, inverse, first, merged, strength)

    came = np.concatenate([keys, -keys[n_z:]])
    known: dict[int, int] = {}
    expected = [known.setdefault(int(key), len(known)) for key in came]
    assert count == len(known)
    assert inverse.tolist() == expected
    assert came[first[:count]].tolist() == list(known)
    sources = np.concatenate([values, values[n_z:].conj()])
    kinds = np.repeat([0, 1, 2], [n_z, 500 - n_z, 500 - n_z])
    for target in range(2):
        total = np.zeros((count, 2), dtype=np.complex128)
        np.add.at(total, inverse, factor[target, kinds] * sources)
        np.testing.assert_allclose(merged[target, :count], total, atol=1e-12)
        np.testing.assert_allclose(strength[target, :count], np.abs(total).max(axis=1))


def test_states_fade_by_diffusion_and_relaxation() -> None:
    draw = np.random.default_rng(4)
    attenuation, diffusivity = draw.random(7), np.array([0.5, 0.5, 2.0, 0.5])
    z_left, plus_left = draw.random((2, 4))
    out = np.empty((7, 4))
    fade(attenuation, diffusivity, z_left, plus_left, 3, out)
    left = np.where(np.arange(7)[:, None] < 3, z_left, plus_left)
    np.testing.assert_allclose(out, left * np.exp(-attenuation[:, None] * diffusivity))


def test_a_state_emits_where_one_sample_is_within_on_all_axes_and_it_is_strong() -> None:
    draw = np.random.default_rng(5)
    k_start, during, tau = (
        draw.normal(size=(200, 3)),
        draw.normal(size=(7, 3)),
        draw.normal(size=200),
    )
    values, limit, floor = normal(draw, 200, 3), np.array([0.4, 0.9, 1.5]), 1.3
    time, terms = draw.random(4), draw.random((4, 5))
    rates = np.array([[1.0, 1.0, 2.0], [0.3, 0.3, 0.3], [0.1, 0.1, 0.2]])
    out = np.zeros((200, 3))
    emit(k_start, tau, values, during, limit, floor, time, terms, rates, out)

    audible = (np.abs(k_start[:, None] + during) <= limit).all(axis=2).any(axis=1)
    heard = audible & (np.abs(values).max(axis=1) >= floor)
    assert 0 < heard.sum() < audible.sum() < len(audible)
    features = np.column_stack([(k_start**2).sum(axis=1), k_start, np.ones(200)])
    b = features @ terms.T
    exponent = (
        time[:, None] * rates[0]
        + np.abs(tau[:, None] + time)[..., None] * rates[1]
        + b[..., None] * rates[2]
    )
    loud = np.sqrt(2) * np.abs(values) * np.exp(-exponent.min(axis=1))
    np.testing.assert_allclose(out, np.where(heard[:, None], loud, 0.0))


def test_gains_pass_back_through_a_pulse() -> None:
    draw = np.random.default_rng(6)
    child = np.array([2, -1, 0, 2])
    factor = normal(draw, 3)
    gain = draw.random((3, 3))
    squares = np.ones((4, 3))
    add_passed_on(child, factor, gain, squares)
    passed = np.where(child[:, None] >= 0, np.abs(factor) * gain[child], 0.0)
    np.testing.assert_allclose(squares, 1 + passed**2)


def test_what_is_heard_through_a_state_adds_in_quadrature() -> None:
    draw = np.random.default_rng(7)
    emission, relaxation, squares = draw.random((3, 6, 2))
    values = normal(draw, 6, 2)
    values[0], emission[0] = 0.0, 0.0  # nothing is there, nothing emits
    gain, latent = squares.copy(), np.empty(6)
    hear_through(emission, values, relaxation, 0.5, gain, latent)
    size = np.maximum(np.abs(values), 1e-300)
    own = np.where(emission >= 0.5, emission, 0.0) / size
    expected = np.hypot(own, np.sqrt(squares) * relaxation)
    np.testing.assert_allclose(gain, expected)
    np.testing.assert_allclose(latent, (expected * size).max(axis=1))
