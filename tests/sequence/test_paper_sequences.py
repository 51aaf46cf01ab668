"""The paper's sequences have the times, phases and order of lines of BMapEst."""

import math
from itertools import pairwise

import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.build import build_chain
from bmapest_ray.sequence.order import ky_order, spoiling_phases_deg
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Contrast
from bmapest_ray.sequence.scanner import PAPER_SCANNER, Scanner

FOV_M = 0.216


def played(expression, matrix=64):
    (chain,) = parse_protocol(expression).chains
    return chain.write(matrix, FOV_M, PAPER_SCANNER)


def gaps_s(score):
    centres = [p.centre_s for p in score.pulses]
    return [b - a for a, b in pairwise(centres)]


def test_the_24_contrasts_take_277_8_s_of_which_240_s_are_pauses():
    protocol = parse_protocol("paper")
    assert len(protocol.contrasts) == 24
    assert sum(c.pause_s for c in protocol.contrasts) == 240.0
    assert protocol.scan_time_s(64, FOV_M) == pytest.approx(277.8, abs=0.05)


def test_repetition_and_echo_time_of_the_readout():
    score = played("t1inv[0]")
    assert gaps_s(score)[1:] == pytest.approx([5.60e-3] * 63, abs=1e-9)
    echoes = [
        r.centre_s - p.centre_s for r, p in zip(score.readouts, score.pulses[1:], strict=True)
    ]
    assert echoes == pytest.approx([2.51e-3] * 64, abs=1e-9)


@pytest.mark.parametrize(
    ("expression", "first_gaps_s"),
    [
        ("t1inv[0]", [0.1 + 2.62e-3]),
        ("t1inv[3]", [2.7 + 2.62e-3]),
        ("t2prep[0]", [0.005 + 1.12e-3, 0.005 + 1.12e-3, 2.62e-3]),
        ("t2prep[3]", [0.15 + 1.12e-3, 0.15 + 1.12e-3, 2.62e-3]),
        ("dir[1]", [0.5 + 1.12e-3, 0.50262]),
        ("flair[0]", [2.70112, 0.005 + 1.12e-3, 0.005 + 1.12e-3, 2.62e-3]),
        ("dwi[2]", [0.010 + 1.12e-3, 0.010 + 1.12e-3, 2.62e-3]),
        ("irflash[2]", [0.3]),
    ],
)
def test_times_between_pulse_centres(expression, first_gaps_s):
    gaps = gaps_s(played(expression))
    assert gaps[: len(first_gaps_s)] == pytest.approx(first_gaps_s, abs=1e-9)


@pytest.mark.parametrize(
    ("index", "echo_s", "repetition_s"),
    [(0, 7.51e-3, 10.6e-3), (1, 12.51e-3, 15.6e-3), (3, 62.51e-3, 65.6e-3)],
)
def test_t2star_lengthens_echo_and_repetition_alike(index, echo_s, repetition_s):
    score = played(f"t2star[{index}]")
    assert gaps_s(score) == pytest.approx([repetition_s] * 63, abs=1e-9)
    assert score.readouts[0].centre_s - score.pulses[0].centre_s == pytest.approx(echo_s, abs=1e-9)


@pytest.mark.parametrize(("index", "b_s_per_mm2"), [(0, 3e-5), (1, 8e-4), (2, 3e-3), (3, 0.028)])
def test_diffusion_weighting_is_the_tiny_one_of_the_paper(index, b_s_per_mm2):
    score = played(f"dwi[{index}]")
    area = dict(parse_protocol("dwi").contrasts[index].parameters)["lobe_area_per_m"]
    separation_s, width_s = gaps_s(score)[0], 10e-3
    b_s_per_m2 = (2 * math.pi * area) ** 2 * (separation_s - width_s / 3)
    assert b_s_per_m2 * 1e-6 == pytest.approx(b_s_per_mm2, rel=0.05)


def test_phases_of_the_preparations_and_uses():
    pulses = [p.pulse for p in played("flair[0]").pulses[:5]]
    assert [p.flip_angle_deg for p in pulses] == [180, 90, 180, 90, 5]
    assert [p.phase_deg for p in pulses] == [90, 0, 90, 180, 0]
    assert [p.use for p in pulses[-2:]] == ["preparation", "excitation"]


def test_lines_are_read_from_the_centre_out():
    lines = [r.line - 32 for r in played("t2star[0]").readouts]
    assert lines[:5] == [0, -1, 1, -2, 2]
    assert lines[-2:] == [31, -32]
    assert sorted(ky_order(8, "linear")) == sorted(ky_order(8)) == list(range(8))
    assert ky_order(8, "reversed") == tuple(range(7, -1, -1))


def test_spoiling_phases_follow_the_recursion_and_restart_in_each_contrast():
    phase, increment, expected = 0.0, 0.0, []
    for _ in range(64):
        expected.append(phase)
        increment = (increment + 50.0) % 360.0
        phase = (phase + increment) % 360.0
    assert expected[:5] == [0, 50, 150, 300, 140]
    assert list(spoiling_phases_deg(64, 50.0)) == pytest.approx(expected)
    excitations = [p.pulse.phase_deg for p in played("t1inv").pulses if p.pulse.use == "excitation"]
    assert excitations == pytest.approx(expected * 4)


def test_receiver_phase_is_the_pulse_phase():
    score = played("t1inv[0]")
    receive = [b.adc.phase_deg for b in score.blocks if b.adc is not None]
    assert receive == [p.pulse.phase_deg for p in score.pulses[1:]]


@pytest.mark.parametrize(("matrix", "stretched"), [(192, False), (224, True), (256, True)])
def test_spoilers_are_stretched_where_the_limits_need_it(matrix, stretched):
    area = played("t2star[0]", matrix).readout_area(30e-6)
    spoiler = played("t2star[0]", matrix).lobes(z=1.5 * area, at_least_s=1.5e-3)
    assert (spoiler.steps > 150) == stretched
    ((_, lobe),) = spoiler.gradients
    assert lobe.area_per_m(10e-6) == pytest.approx(1.5 * area)
    assert lobe.amplitude_hz_per_m <= PAPER_SCANNER.max_gradient_hz_per_m
    assert lobe.amplitude_hz_per_m <= lobe.ramp * 10e-6 * PAPER_SCANNER.max_slew_hz_per_m_s


def test_a_centre_to_centre_time_that_cannot_be_kept_is_refused_with_the_numbers():
    chain = Chain((Contrast("ir", "irflash", (("inversion_time_s", 0.002),)),))
    with pytest.raises(InvalidInput, match=r"at least 0\.00262 s for matrix 64 .* got 0\.002 s"):
        chain.write(64, FOV_M, PAPER_SCANNER)


def test_a_readout_beyond_the_gradient_limit_is_refused():
    chain = Chain((Contrast("fast", "t1inv", (("dwell_s", 5e-6),)),))
    weak = Scanner("weak", max_gradient_t_per_m=0.01, max_slew_t_per_m_s=50.0)
    with pytest.raises(InvalidInput, match=r"at most 10 mT/m, got 21\.75 mT/m; raise dwell_s"):
        chain.write(64, FOV_M, weak)


@pytest.mark.parametrize("expression", ["t1inv", "t2prep[1]", "dir[0]", "flair[0]", "dwi[3]"])
def test_samples_lie_where_the_readouts_say(expression):
    (chain,) = parse_protocol(expression).chains
    built = build_chain(chain, 16, FOV_M, PAPER_SCANNER)
    k = built.seq.calculate_kspace()[0].T.reshape(len(built.readouts), 16, 3)
    for measured, readout in zip(k * FOV_M, built.readouts, strict=True):
        assert measured[:, 0] == pytest.approx([j + 0.5 - 8 for j in range(16)], abs=1e-6)
        assert measured[:, 1] == pytest.approx([readout.line - 8] * 16, abs=1e-6)
    assert built.images == tuple(c.name for c in chain.contrasts)
    assert [r.image for r in built.readouts] == [
        i for i in range(len(built.images)) for _ in range(16)
    ]
    assert built.seq.duration()[0] == pytest.approx(built.duration_s)
