"""The paper's preparations through the whole engine, against closed forms of the first line.

Times are those between pulse centres, which are longer than the delay blocks of the presets.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import FOV_M, plain_fields, scene_of

from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain
from bmapest_ray.simulate.chain import event_table
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.hearing import nominal_k_per_m
from bmapest_ray.simulate.reconstruct import kspace_of
from bmapest_ray.tissue.table import PAPER_3T

MATRIX = 16
"""At 8 the spoiler along z (1.5 readout areas) would not dephase a slice of 8 mm."""
TO_READOUT_S = 2.62e-3
"""From the centre of a preparation's last 1 ms pulse to that of the first excitation."""

TISSUE = {"GM": 0, "WM": 1, "CSF": 2}


def row_of(tissue, table=PAPER_3T):
    names = ("pd", "t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")
    return {name: getattr(table, name)[TISSUE[tissue]] for name in names}


def first_line(protocol, tissue, table=PAPER_3T):
    """Samples of the line ky = 0 of one pixel of pure tissue, and what they would be from M0."""
    operator = build_operator(
        scene_of(protocol, MATRIX, fields=plain_fields(MATRIX), table=table),
        EngineOptions(engine=Engine.EXACT, double=True),
    ).operator
    fractions = torch.zeros((3, MATRIX, MATRIX), dtype=torch.float64)
    fractions[TISSUE[tissue], 9, 12] = 1.0
    found = kspace_of(operator.forward(fractions))[0, MATRIX // 2].numpy()
    return found, _fully_relaxed(protocol, row_of(tissue, table))


def _fully_relaxed(protocol, row):
    events = event_table(protocol.chains[0], protocol.scanner, MATRIX, FOV_M)
    rep = next(rep for rep in events.repetitions if rep.adc.any())
    assert events.readouts[0].line == MATRIX // 2
    time = rep.time_s[rep.adc]
    kx = nominal_k_per_m(events, 0)[:, 0]
    x = (12 + 0.5 - MATRIX / 2) * FOV_M / MATRIX
    decay = np.exp(-time / row["t2_s"] - time / row["t2dash_s"])
    return row["pd"] * np.sin(rep.angle_rad) * decay * np.exp(-2j * np.pi * kx * x)


def only(preset, index=0, **parameters):
    """One contrast of a preset from equilibrium, perhaps with other parameters."""
    parsed = parse_protocol(f"{preset}[{index}]")
    contrast = parsed.contrasts[0].with_parameters(**parameters)
    return replace(parsed, chains=(Chain((contrast,)),))


def check(protocol, tissue, expected_mz, table=PAPER_3T):
    found, relaxed = first_line(protocol, tissue, table)
    # relative to the fully relaxed line: a null must be a null
    assert found / relaxed == pytest.approx(np.full(MATRIX, expected_mz), abs=1e-3)


@pytest.mark.parametrize("tissue", TISSUE)
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_inversion_recovery_reads_ti_plus_2_62_ms(index, tissue):
    inversion_time_s = (0.1, 0.5, 1.0, 2.7)[index] + TO_READOUT_S
    expected = 1 - 2 * np.exp(-inversion_time_s / row_of(tissue)["t1_s"])
    check(only("t1inv", index), tissue, expected)


def prepared(mz, echo_time_s, row, b_s_per_m2=0.0):
    """Magnetisation at the first pulse after 90, TE/2, 180, TE/2, -90 from ``mz``."""
    left = mz * np.exp(-echo_time_s / row["t2_s"] - b_s_per_m2 * row["diffusivity_m2_per_s"])
    return 1 - (1 - left) * np.exp(-TO_READOUT_S / row["t1_s"])


@pytest.mark.parametrize("tissue", TISSUE)
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_t2_preparation_reads_te_plus_2_24_ms(index, tissue):
    echo_time_s = (0.01, 0.05, 0.1, 0.3)[index] + 2.24e-3
    check(only("t2prep", index), tissue, prepared(1.0, echo_time_s, row_of(tissue)))


@pytest.mark.parametrize("tissue", ["GM", "CSF"])
def test_double_inversion_reads_both_times(tissue):
    row = row_of(tissue)
    for index, delay_s in enumerate((0.1, 0.5, 1.0, 2.7)):
        first_s, second_s = delay_s + 1.12e-3, 0.5 + TO_READOUT_S
        after_first = 1 - 2 * np.exp(-first_s / row["t1_s"])
        expected = 1 - (1 + after_first) * np.exp(-second_s / row["t1_s"])
        check(only("dir", index), tissue, expected)


@pytest.mark.parametrize("tissue", ["GM", "CSF"])
def test_flair_inverts_before_its_t2_preparation(tissue):
    row = row_of(tissue)
    inverted = 1 - 2 * np.exp(-(2.7 + 1.12e-3) / row["t1_s"])
    for index, delay_s in ((0, 0.01), (3, 0.3)):
        check(only("flair", index), tissue, prepared(inverted, delay_s + 2.24e-3, row))


def test_t2star_lengthens_the_echo_time_only():
    found = {}
    for index, extra_s in ((0, 5e-3), (3, 60e-3)):
        protocol = only("t2star", index)
        samples, relaxed = first_line(protocol, "WM")
        assert samples / relaxed == pytest.approx(np.ones(MATRIX), abs=1e-4)
        found[extra_s] = abs(samples[MATRIX // 2])
    row = row_of("WM")
    rate = 1 / row["t2_s"] + 1 / row["t2dash_s"]
    assert found[60e-3] / found[5e-3] == pytest.approx(np.exp(-55e-3 * rate), rel=1e-4)


def test_diffusion_preparation_follows_its_b_value():
    table = PAPER_3T.with_diffusivity_times(1e5)  # the paper's exaggeration: a visible effect
    protocol = only("dwi", 2)
    row = row_of("GM", table)
    events = event_table(protocol.chains[0], protocol.scanner, MATRIX, FOV_M)
    first, second = (rep.time_s[-1] for rep in events.repetitions[:2])
    area = 100.0  # per metre, played by each lobe
    assert abs(events.repetitions[0].k_per_m[-1, 0]) == pytest.approx(area, rel=1e-4)
    # Stejskal and Tanner for lobes of trapezoids: between a triangle's and a rectangle's
    b_low, b_high = ((2 * np.pi * area) ** 2 * (first - 10e-3 * share) for share in (0.37, 0.3))
    found, relaxed = first_line(protocol, "GM", table)
    left = 1 - (1 - np.real(found / relaxed)) * np.exp(TO_READOUT_S / row["t1_s"])
    b = -(np.log(left) + (first + second) / row["t2_s"]) / row["diffusivity_m2_per_s"]
    assert b == pytest.approx(np.full(MATRIX, b.mean()), rel=1e-3)
    assert b_low < b.mean() < b_high


@pytest.mark.parametrize("inversion_time_s", [0.1, 0.5])
def test_plain_inversion_recovery_flash_is_centre_to_centre(inversion_time_s):
    protocol = only("irflash", inversion_time_s=inversion_time_s)
    expected = 1 - 2 * np.exp(-inversion_time_s / row_of("WM")["t1_s"])
    check(protocol, "WM", expected)


def test_magnetisation_is_carried_over_from_contrast_to_contrast():
    chain = parse_protocol("t1inv")
    row = row_of("CSF")
    fields = plain_fields(MATRIX)
    operator = build_operator(
        scene_of(chain, MATRIX, fields=fields), EngineOptions(engine=Engine.EXACT, double=True)
    ).operator
    fractions = torch.zeros((3, MATRIX, MATRIX), dtype=torch.float64)
    fractions[2, 9, 12] = 1.0
    lines = kspace_of(operator.forward(fractions))[:, MATRIX // 2].numpy()
    relaxed = _fully_relaxed(chain, row)
    # the 180, TI and the train leave mz, which 10 s of pause bring back to 0.85-0.93 of M0
    inverted = (lines[1] / relaxed).real
    start = 1 - (1 - inverted) * np.exp((0.5 + TO_READOUT_S) / row["t1_s"])
    assert start == pytest.approx(np.full(MATRIX, start.mean()), abs=1e-3)
    assert -0.95 < start.mean() < -0.80
