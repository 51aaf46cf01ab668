"""A voxel's signal in every sequence against its closed form, and the order of tissue contrast."""

import numpy as np
import pytest

from bmapest_ray.sequence.nulling import double_inversion_times_s, inversion_time_s
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Contrast
from bmapest_ray.sequence.scanner import SCANNERS

SCANNER = SCANNERS["clinical-3t"]
FOV_M = 0.2
TISSUES = {"GM": (0.8, 1.55, 0.09), "WM": (0.7, 0.83, 0.07), "CSF": (1.0, 4.16, 1.65)}
DEG = np.pi / 180


def chain_of(sequence, matrix=16, **parameters):
    chain = Chain((Contrast("c", sequence, tuple(parameters.items())),))
    return chain.write(matrix, FOV_M, SCANNER)


def test_ernst_signal_of_the_spoiled_gradient_echo(central_signals):
    t1_s, t2_s, tr_s, flip = 0.8, 0.01, 0.025, 25 * DEG
    score = chain_of("spoiled_gre", dummy_pulses=150)
    e1 = np.exp(-tr_s / t1_s)
    expected = np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1) * np.exp(-0.005 / t2_s)
    assert abs(central_signals(score, t1_s, t2_s)["c"]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("sequence", "te_s"), [("radial", 0.005), ("spiral", 0.002)])
def test_spokes_and_spirals_reach_the_ernst_signal_too(central_signals, sequence, te_s):
    t1_s, t2_s, tr_s, flip = 0.8, 0.01, 0.025, 25 * DEG
    score = chain_of(sequence, dummy_pulses=150)
    e1 = np.exp(-tr_s / t1_s)
    expected = np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1) * np.exp(-te_s / t2_s)
    assert abs(central_signals(score, t1_s, t2_s)["c"]) == pytest.approx(expected, rel=0.02)


def test_diffusion_spin_echo_without_diffusion_decays_with_t2(central_signals):
    score = chain_of("diffusion_se", b_value_s_per_mm2=0.0)
    found = abs(central_signals(score, 0.3, 0.08, spins=2000)["c"])
    assert found == pytest.approx(np.exp(-0.08 / 0.08), rel=0.02)


def test_echoes_decay_with_t2(central_signals):
    for bipolar in (False, True):
        score = chain_of("multi_echo_gre", bipolar=bipolar, echoes=4)
        signals = central_signals(score, 1.0, 0.04)
        decay = [abs(signals[f"c.echo{i + 2}"] / signals[f"c.echo{i + 1}"]) for i in range(3)]
        assert decay == pytest.approx([np.exp(-0.008 / 0.04)] * 3, rel=0.01)


def test_balanced_steady_state_of_freeman_and_hill(central_signals):
    t1_s, t2_s, tr_s, flip = 0.3, 0.1, 0.006, 40 * DEG
    score = chain_of("bssfp", dummy_pulses=300, dwell_s=1e-5)
    e1, e2 = np.exp(-tr_s / t1_s), np.exp(-tr_s / t2_s)
    expected = np.sin(flip) * (1 - e1) / (1 - (e1 - e2) * np.cos(flip) - e1 * e2) * np.sqrt(e2)
    assert abs(central_signals(score, t1_s, t2_s, spins=1)["c"]) == pytest.approx(
        expected, rel=0.02
    )


def test_balanced_band_lies_where_the_phase_per_repetition_is_half_a_turn(central_signals):
    score = chain_of("bssfp", dummy_pulses=300, dwell_s=1e-5)
    banded = central_signals(score, 0.3, 0.1, spins=1, b0_hz=0.5 / 0.006)["c"]
    assert abs(banded) < 0.2 * abs(central_signals(score, 0.3, 0.1, spins=1)["c"])


@pytest.mark.parametrize("t1_s", [0.83, 4.16])
def test_mprage_reads_the_inversion_recovery_at_ti(central_signals, t1_s):
    score = chain_of("mprage", order="centric", dummy_shots=0, inversion_time_s=0.9)
    expected = np.sin(9 * DEG) * abs(1 - 2 * np.exp(-0.9 / t1_s)) * np.exp(-0.0035 / 0.08)
    assert abs(central_signals(score, t1_s, 0.08)["c"]) == pytest.approx(expected, rel=0.02)


def test_mp2rage_second_train_follows_the_flash_recursion(central_signals):
    t1_s, flips = 0.83, (4 * DEG, 5 * DEG)
    score = chain_of("mp2rage", order="centric", dummy_shots=0)
    mz = 1 - 2 * np.exp(-0.7 / t1_s)
    for _ in range(16):
        mz = 1 + (mz * np.cos(flips[0]) - 1) * np.exp(-0.008 / t1_s)
    mz = 1 + (mz - 1) * np.exp(-(2.5 - 0.7 - 16 * 0.008) / t1_s)
    signals = central_signals(score, t1_s, 0.02)
    expected = mz * np.sin(flips[1]) * np.exp(-0.0035 / 0.02)
    assert abs(signals["c.inv2"]) == pytest.approx(expected, rel=0.02)
    assert list(signals) == ["c.inv1", "c.inv2"]


def test_fingerprinting_begins_with_the_inversion_recovery(central_signals):
    score = chain_of("fingerprinting", order="centric", frames=2, min_flip_angle_deg=10.0)
    expected = np.sin(10 * DEG) * (2 * np.exp(-0.02 / 0.83) - 1) * np.exp(-0.0035 / 0.08)
    assert abs(central_signals(score, 0.83, 0.08)["c.frame1"]) == pytest.approx(expected, rel=0.02)
    flips = [p.pulse.flip_angle_deg for p in score.pulses[1:]]
    assert min(flips) == 10.0
    assert max(flips) == pytest.approx(60.0, abs=1.0)


@pytest.mark.parametrize(("t1_s", "t2_s"), [(0.83, 0.07), (4.16, 1.65)])
def test_spin_echo_recovers_with_t1_and_decays_with_t2(central_signals, t1_s, t2_s):
    te_s, tr_s = 0.015, 1.0
    score = chain_of("spin_echo", repetition_time_s=tr_s, dummy_pulses=2)
    recovered = 1 - 2 * np.exp(-(tr_s - te_s / 2) / t1_s) + np.exp(-tr_s / t1_s)
    found = abs(central_signals(score, t1_s, t2_s, spins=2000)["c"])
    assert found == pytest.approx(recovered * np.exp(-te_s / t2_s), rel=0.02)


def test_turbo_spin_echo_reads_the_centre_at_its_effective_echo_time(central_signals):
    t1_s, t2_s = 0.5, 0.08
    for te_s in (0.0125, 0.05, 0.1):
        score = chain_of("tse", echo_time_s=te_s, echo_train_length=8, dummy_shots=0)
        found = abs(central_signals(score, t1_s, t2_s)["c"])
        assert found == pytest.approx(np.exp(-te_s / t2_s), rel=0.02)


def test_echo_planar_images_decay_with_t2_to_the_echo_time(central_signals):
    found = abs(central_signals(chain_of("epi"), 1.0, 0.05)["c"])
    assert found == pytest.approx(np.exp(-0.035 / 0.05), rel=0.01)
    weighted = chain_of("diffusion_epi", b_value_s_per_mm2=800.0)
    assert abs(central_signals(weighted, 1.0, 0.05)["c"]) == pytest.approx(
        np.exp(-0.09 / 0.05), rel=0.02
    )


@pytest.mark.parametrize(("matrix", "trains"), [(32, 16)])
def test_shipped_inversion_times_null_what_they_say(central_signals, matrix, trains):
    found = {}
    for name in ("flair_tse", "dir_tse", "tse_t2w"):
        (chain,) = parse_protocol(name).chains
        score = chain.write(matrix, FOV_M, SCANNER)
        for tissue, (pd, t1_s, t2_s) in TISSUES.items():
            found[name, tissue] = pd * abs(central_signals(score, t1_s, t2_s)[name])
    assert found["flair_tse", "CSF"] < 0.02 * found["tse_t2w", "CSF"]
    assert found["dir_tse", "CSF"] < 0.05 * found["dir_tse", "GM"]
    assert found["dir_tse", "WM"] < 0.05 * found["dir_tse", "GM"]
    train_s = (trains - 0.5) * 0.0125
    assert inversion_time_s(4.16, 9.0, train_s) == pytest.approx(2.41, abs=0.005)
    pair_s = double_inversion_times_s(0.83, 4.16, 9.0, train_s)
    assert pair_s == pytest.approx((3.45, 0.55), abs=0.005)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("gre_t1w", "WM GM CSF"),
        ("gre_pdw", "CSF GM WM"),
        ("mprage", "WM GM CSF"),
        ("se_t1w", "WM GM CSF"),
        ("tse_t2w", "CSF GM WM"),
        ("flair_tse", "GM WM CSF"),
        ("epi", "CSF GM WM"),
    ],
)
def test_tissues_are_ordered_as_a_radiologist_expects(central_signals, name, order):
    (chain,) = parse_protocol(name).chains
    score = chain.write(16, FOV_M, SCANNER)
    signal = {
        tissue: pd * abs(central_signals(score, t1_s, t2_s)[name])
        for tissue, (pd, t1_s, t2_s) in TISSUES.items()
    }
    assert sorted(signal, key=signal.get, reverse=True) == order.split()


@pytest.mark.parametrize("sequence", ["diffusion_se", "diffusion_epi"])
@pytest.mark.parametrize("b_s_per_mm2", [0.0, 500.0, 1000.0])
def test_b_value_is_the_integral_of_the_played_gradients(sequence, b_s_per_mm2):
    score = chain_of(sequence, b_value_s_per_mm2=b_s_per_mm2)
    step_s, k, b, sign = 2e-6, np.zeros(3), 0.0, 1.0
    axes = {"x": 0, "y": 1, "z": 2}
    for block in score.blocks:
        if block.adc is not None:
            break
        if block.pulse is not None:
            sign = -sign if block.pulse.use == "refocusing" else sign
            b += block.steps * 1e-5 * (k**2).sum()
            continue
        time = (np.arange(block.steps * 5) + 0.5) * step_s
        wave = np.zeros((3, time.size))
        for axis, lobe in block.gradients:
            corners = np.cumsum([0, lobe.ramp, lobe.flat, lobe.ramp]) * 1e-5
            height = lobe.amplitude_hz_per_m
            wave[axes[axis]] = np.interp(time, corners, [0, height, height, 0])
        path = k[:, None] + sign * np.cumsum(wave, axis=1) * step_s
        b += (path**2).sum() * step_s
        k = path[:, -1] if time.size else k
    assert b * (2 * np.pi) ** 2 * 1e-6 == pytest.approx(b_s_per_mm2, rel=0.01, abs=0.2)
