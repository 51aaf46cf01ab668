"""Event tables: what they refuse, their digest, and k moved onto the grid of the images."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import pulse, sample, table_of, wait

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.events import AdcReadout
from bmapest_ray.simulate.events import SNAP_TOLERANCE, EventTable

FOV_M = 0.2


def played(*k_steps, adc=None):
    """A repetition whose events end at ``k_steps`` (steps of 1/FOV, x, y and z)."""
    k = np.array(k_steps, dtype=float) / FOV_M
    moment = np.diff(k, axis=0, prepend=0.0)
    sampled = [True] * len(k) if adc is None else adc
    return pulse(5.0, 0.0, *((1e-5, tuple(m), a) for m, a in zip(moment, sampled, strict=True)))


def steps(rep):
    return rep.k_per_m * FOV_M


def test_time_and_k_accumulate_from_the_pulse():
    rep = pulse(5.0, 0.0, wait(2e-3, (1.0, 0.0, 2.0)), wait(3e-3, (-4.0, 1.0, 0.0)))
    assert rep.time_s.tolist() == pytest.approx([2e-3, 5e-3])
    assert rep.k_per_m.tolist() == [[1.0, 0.0, 2.0], [-3.0, 1.0, 2.0]]


def test_k_near_the_half_grid_is_moved_onto_it():
    table = table_of(played((-0.5002, 3.0001, 0.0), (0.4999, 3.0001, 0.0), (1.4998, 2.9999, 0.0)))
    snapped = table.snapped().repetitions[0]
    assert steps(snapped) == pytest.approx(
        np.array([[-0.5, 3.0, 0.0], [0.5, 3.0, 0.0], [1.5, 3.0, 0.0]]), abs=1e-12
    )


def test_k_far_from_the_half_grid_is_left_alone():
    far = 0.25 + SNAP_TOLERANCE
    table = table_of(played((far, 0.0, 7.123), (1 + far, 0.0, 7.123)))
    assert steps(table.snapped().repetitions[0]) == pytest.approx(
        steps(table.repetitions[0]), abs=1e-12
    )


def test_only_samples_and_ends_are_anchors_and_the_way_to_them_is_bent():
    rep = played(
        (0.0, 0.0, 0.0), (-1.001, 0.0, 0.0), (-1.002, 0.0, 0.0), (4.002, 0.0, 0.0),
        adc=[False, False, True, False],
    )  # fmt: skip
    found = steps(table_of(replace(rep, adc_phase_rad=rep.adc_phase_rad)).snapped().repetitions[0])
    assert found[2, 0] == pytest.approx(-1.0, abs=1e-12)
    assert found[3, 0] == pytest.approx(4.0, abs=1e-12)
    # a part of the shift of 2e-3 is already made at the events before the first sample
    assert found[0, 0] == pytest.approx(2e-3 / 3)
    assert found[1, 0] == pytest.approx(-1.001 + 2 * 2e-3 / 3)


def test_durations_phases_and_moments_to_the_tolerance_survive():
    generator = np.random.default_rng(0)
    exact = np.array([[j - 3.5, 2.0, 0.0] for j in range(8)])
    rough = exact + generator.uniform(-2e-4, 2e-4, exact.shape)
    table = table_of(played(*rough))
    before, after = table.repetitions[0], table.snapped().repetitions[0]
    assert np.array_equal(after.duration_s, before.duration_s)
    assert np.array_equal(after.adc_phase_rad, before.adc_phase_rad)
    assert (after.angle_rad, after.phase_rad) == (before.angle_rad, before.phase_rad)
    assert np.abs(steps(after) - steps(before)).max() <= SNAP_TOLERANCE
    assert steps(after) == pytest.approx(exact, abs=1e-12)
    total = np.abs(after.moment_per_m.sum(0) - before.moment_per_m.sum(0)) * FOV_M
    assert total.max() <= SNAP_TOLERANCE


def test_snapping_twice_is_snapping_once():
    generator = np.random.default_rng(1)
    table = table_of(played(*generator.normal(size=(6, 3)).round(1))).snapped()
    again = table.snapped()
    assert again.repetitions[0].moment_per_m == pytest.approx(
        table.repetitions[0].moment_per_m, abs=1e-12
    )


def test_the_digest_tells_what_decides_the_signal():
    table = table_of(pulse(5, 0, sample(1e-3), sample(1e-3)), pulse(5, 50, wait(1e-3)))
    same = table_of(pulse(5, 0, sample(1e-3), sample(1e-3)), pulse(5, 50, wait(1e-3)))
    assert table.digest == same.digest
    others = [
        table_of(pulse(6, 0, sample(1e-3), sample(1e-3)), pulse(5, 50, wait(1e-3))),
        table_of(pulse(5, 0, sample(1e-3), sample(2e-3)), pulse(5, 50, wait(1e-3))),
        table_of(pulse(5, 0, sample(1e-3), sample(1e-3)), pulse(5, 51, wait(1e-3))),
        table_of(pulse(5, 0, sample(1e-3), sample(1e-3)), pulse(5, 50, wait(1e-3, (1, 0, 0)))),
        replace(table, fov_m=0.21),
        replace(table, images=("other",)),
    ]
    assert len({table.digest, *(other.digest for other in others)}) == 7


def test_a_table_without_samples_is_refused():
    with pytest.raises(InvalidInput, match="at least one ADC sample, got none; add a readout"):
        EventTable((pulse(5, 0, wait(1e-3)),), ("image",), (), 8, FOV_M)


def test_readouts_must_account_for_the_samples():
    rep = pulse(5, 0, sample(1e-3), sample(1e-3))
    readouts = (AdcReadout(0, 0, False, 3, 1e-5),)
    with pytest.raises(InvalidInput, match="got 3 declared and 2 played; correct the list"):
        EventTable((rep,), ("image",), readouts, 8, FOV_M)
