"""Pulses, relaxation, echoes and diffusion of single voxels against their closed forms."""

import numpy as np
import pytest
from scenes import Spin, crush, heard, pulse, sample, wait

DEG = np.pi / 180


@pytest.mark.parametrize("angle", [0.5, 5.0, 60.0, 90.0, 135.0])
@pytest.mark.parametrize("phase", [0.0, 50.0, 90.0, 180.0])
def test_free_induction_decay(angle, phase):
    spin = Spin(b1=0.9, b0_hz=37.0)
    times = np.array([2e-3, 3e-3])
    (found,) = heard(spin, pulse(angle, phase, sample(2e-3), sample(1e-3)))
    decay = np.exp(-times / spin.t2_s - times / spin.t2dash_s - 2j * np.pi * spin.b0_hz * times)
    # the receiver's phase makes the signal right after the pulse real and positive
    assert found == pytest.approx(np.sin(0.9 * angle * DEG) * decay, abs=1e-9)


@pytest.mark.parametrize("b1", [0.7, 1.0])
@pytest.mark.parametrize("inversion_time_s", [1e-7, 0.1, 0.9, 5.0])
def test_inversion_recovery(inversion_time_s, b1):
    spin = Spin(b1=b1, t2_s=1e3, t2dash_s=1e3)
    played = [
        pulse(180, 90, crush(inversion_time_s)),
        pulse(90, 0, sample(1e-9), sample(1e-9)),
    ]
    left = 1 - (1 - np.cos(np.pi * b1)) * np.exp(-inversion_time_s / spin.t1_s)
    assert heard(spin, *played)[0] == pytest.approx(left * np.sin(b1 * np.pi / 2), abs=1e-7)


def test_inversion_without_delay_gives_minus_equilibrium():
    (found,) = heard(Spin(), pulse(180, 90, crush(0.0)), pulse(90, 0, sample(0), sample(0)))
    assert found == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize("b0_hz", [0.0, 80.0])
@pytest.mark.parametrize("b1", [0.8, 1.0])
def test_spin_echo_refocuses_t2dash_and_b0_and_keeps_t2(b0_hz, b1):
    spin = Spin(b0_hz=b0_hz, b1=b1)
    half, offset = 0.01, 1e-3
    along = (0.0, 0.0, 500.0)
    (found,) = heard(
        spin,
        pulse(90, 0, wait(half, along)),
        pulse(180, 90, wait(half - offset, along), sample(0), sample(2 * offset)),
    )
    time = half + np.array([-offset, offset])
    from_echo = time - half
    expected = (
        np.sin(b1 * np.pi / 2)
        * np.sin(b1 * np.pi / 2) ** 2
        * np.exp(-(half + time) / spin.t2_s - np.abs(from_echo) / spin.t2dash_s)
        * np.exp(-2j * np.pi * b0_hz * from_echo)
    )
    # 90 about x, 180 about y: the echo forms along -y, a quarter turn behind the 180's receiver
    assert found == pytest.approx(-1j * expected, abs=1e-9)


@pytest.mark.parametrize("angle", [90.0, 50.0])
def test_stimulated_echo_is_half_the_cube_of_the_sine(angle):
    spin = Spin(diffusivity_m2_per_s=2e-9)
    tau, mixing_time, k = 5e-3, 0.3, 80.0
    along = (0.0, 0.0, k)
    (found,) = heard(
        spin,
        pulse(angle, 0, wait(tau, along)),
        pulse(angle, 0, crush(mixing_time)),
        pulse(angle, 0, wait(tau, along), sample(0), sample(0)),
    )
    b = (2 * np.pi * k) ** 2 * (mixing_time + tau - tau / 3)
    expected = 0.5 * np.sin(angle * DEG) ** 3
    expected *= np.exp(-2 * tau / spin.t2_s - mixing_time / spin.t1_s)
    expected *= np.exp(-b * spin.diffusivity_m2_per_s)
    assert abs(found) == pytest.approx([expected] * 2, rel=1e-9)


@pytest.mark.parametrize("gap_s", [0.0, 8e-3])
def test_diffusion_follows_stejskal_and_tanner(gap_s):
    lobe, k = 10e-3, 20_000.0
    played = [
        pulse(90, 0, wait(lobe, (k, 0.0, 0.0)), wait(gap_s / 2)),
        pulse(180, 90, wait(gap_s / 2), wait(lobe, (k, 0.0, 0.0)), sample(0), sample(0)),
    ]
    b = (2 * np.pi * k) ** 2 * (lobe + gap_s - lobe / 3)
    free = heard(Spin(), *played)
    slowed = heard(Spin(diffusivity_m2_per_s=0.8e-9), *played)
    assert b * 1e-6 > 50  # s/mm2: a b-value worth testing
    assert np.abs(slowed / free) == pytest.approx(np.exp(-b * 0.8e-9), rel=1e-6)


def test_spoiled_train_follows_its_recursion():
    spin = Spin(t1_s=0.9)
    flip, repetition_time = 25 * DEG, 0.02
    played = [
        pulse(25, 0, sample(0), sample(0), crush(repetition_time, number)) for number in range(8)
    ]
    found = heard(spin, *played)[:, 0]
    mz, expected = 1.0, []
    for _ in played:
        expected.append(mz * np.sin(flip))
        mz = 1 + (mz * np.cos(flip) - 1) * np.exp(-repetition_time / spin.t1_s)
    assert found == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("angle", [20.0, 50.0])
def test_balanced_train_reaches_freeman_and_hill(angle):
    spin = Spin(t1_s=0.15, t2_s=0.06, t2dash_s=1e6)
    repetition_time, flip = 0.01, angle * DEG
    played = [pulse(angle / 2, 0, wait(repetition_time / 2))]
    for number in range(80):
        events = (sample(repetition_time / 2), sample(0.0), wait(repetition_time / 2))
        last = number == 79
        silent = (wait(repetition_time),)
        played.append(pulse(angle, 180 * (number + 1), *(events if last else silent)))
    e1, e2 = np.exp(-repetition_time / spin.t1_s), np.exp(-repetition_time / spin.t2_s)
    steady = np.sin(flip) * (1 - e1) / (1 - (e1 - e2) * np.cos(flip) - e1 * e2) * np.sqrt(e2)
    (found,) = heard(spin, *played)
    assert np.abs(found) == pytest.approx([steady] * 2, rel=2e-3)


def test_longitudinal_magnetisation_diffuses_and_relaxes():
    spin = Spin(diffusivity_m2_per_s=1e-9)
    k, mixing_time = 20_000.0, 0.5
    played = [
        pulse(90, 0, wait(0.0, (0.0, 0.0, k))),
        pulse(90, 0, crush(mixing_time)),
        pulse(90, 0, wait(0.0, (0.0, 0.0, k)), sample(0.0), sample(0.0)),
    ]
    expected = 0.5 * np.exp(-mixing_time * ((2 * np.pi * k) ** 2 * 1e-9 + 1 / spin.t1_s))
    assert np.abs(heard(spin, *played)) == pytest.approx(expected, rel=1e-9)


def test_adc_phase_turns_the_signal():
    spin = Spin()
    turned = pulse(30, 0, sample(1e-3), sample(1e-3))
    turned.adc_phase_rad[:] += 0.7
    straight = heard(spin, pulse(30, 0, sample(1e-3), sample(1e-3)))
    assert heard(spin, turned) == pytest.approx(straight * np.exp(0.7j), abs=1e-12)
