"""Which states a graph keeps: none twice, none lost that makes signal, fewer when told to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import (
    FINE,
    Spin,
    crush,
    heard,
    images_like,
    plan_of,
    pulse,
    relative,
    sample,
    scene_of,
    smooth_maps,
    table_of,
    wait,
)

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator


def operator_at(protocol, factor, matrix=8, engine=Engine.EXACT):
    parsed = parse_protocol(protocol)
    shipped = parsed.accuracy
    accuracy = StateAccuracy(
        20_000,
        shipped.min_state_mag * factor,
        shipped.min_latent_signal * factor,
        shipped.min_emitted_signal * factor,
    )
    options = EngineOptions(engine=engine, double=engine is Engine.EXACT)
    return build_operator(scene_of(replace(parsed, accuracy=accuracy), matrix), options).operator


def states_of(operator):
    return sum(model.plan.n_states for model in operator.models)


def echo_train(pulses, spin_echo=True):
    """A balanced train of 50 degrees, or 90 and 120 degree refocusing pulses with crushers."""
    if not spin_echo:
        silent = [pulse(50, 180 * n, wait(0.01)) for n in range(pulses - 1)]
        last = pulse(50, 180 * (pulses - 1), sample(5e-3), sample(0.0), wait(5e-3))
        return [pulse(25, 180, wait(5e-3)), *silent, last]
    half = wait(4e-3, (0.0, 0.0, 400.0))
    silent = [pulse(120, 90, half, half) for _ in range(pulses - 1)]
    last = pulse(120, 90, half, sample(0.0), sample(0.0))
    return [pulse(90, 0, half), *silent, last]


def bloch_of_balanced(pulses, spin):
    """Magnetisation half a repetition after the last pulse of `echo_train(spin_echo=False)`."""
    m = np.array([0.0, 1.0])  # in the plane of the rotation: transversal, longitudinal

    def relax(m, time):
        return m * np.exp([-time / spin.t2_s, -time / spin.t1_s]) + [
            0.0,
            -np.expm1(-time / spin.t1_s),
        ]

    def rotate(m, angle):
        c, s = np.cos(angle), np.sin(angle)
        return np.array([c * m[0] - s * m[1], s * m[0] + c * m[1]])

    m = relax(rotate(m, -np.deg2rad(25)), 5e-3)
    for number in range(pulses):
        m = rotate(m, np.deg2rad(50) * (-1) ** number)
        m = relax(m, 5e-3 if number == pulses - 1 else 0.01)
    return abs(m[0])


@pytest.mark.parametrize("spin_echo", [True, False])
def test_thresholds_of_zero_hear_every_state_once(spin_echo):
    played = echo_train(6, spin_echo)
    everything = heard(Spin(), *played, accuracy=StateAccuracy(10_000, 0.0, 0.0, 0.0))
    assert everything == pytest.approx(heard(Spin(), *played, accuracy=FINE), rel=1e-9)
    plan = plan_of(table_of(*played), Spin(), StateAccuracy(10_000, 0.0, 0.0, 0.0))
    for rep in plan.repetitions:
        assert len(set(rep.heard.tolist())) == len(rep.heard) <= rep.n_transversal
        assert not (rep.heard < 0).any()


def test_many_weak_paths_are_not_lost():
    # every dummy pulse of a balanced train splits the signal into more and weaker paths
    spin = Spin(t1_s=0.15, t2_s=0.06, t2dash_s=1e6)
    found = heard(spin, *echo_train(60, spin_echo=False), accuracy=StateAccuracy())
    assert np.abs(found[0, 0]) == pytest.approx(bloch_of_balanced(60, spin), rel=3e-3)
    exact = heard(spin, *echo_train(60, spin_echo=False), accuracy=FINE)
    assert np.abs(exact[0, 0]) == pytest.approx(bloch_of_balanced(60, spin), rel=1e-7)


def test_states_of_different_dephasing_are_never_taken_for_one():
    # states k1 and k2 after the third pulse differ by (120, -61, -318) * 5e-3 / m and 487 us,
    # a difference that a hash of small multipliers cannot tell from none
    counts = []
    for difference in ((0.6, -0.305, -1.59), (0.7, -0.405, -1.69)):
        first = np.array([41.0, 17.0, 29.0])
        played = [
            pulse(60, 0, wait(5e-3, tuple(first))),
            pulse(60, 40, wait(5.487e-3, tuple(first + difference))),
            pulse(60, 80, wait(1e-3, tuple(-first)), sample(0.0), sample(0.0)),
        ]
        plan = plan_of(table_of(*played), Spin(), StateAccuracy(1000, 0.0, 0.0, 0.0))
        counts.append(len(plan.repetitions[-1].k_per_m))
    assert counts[0] == counts[1]


def test_states_are_kept_in_the_order_z0_z_plus_and_are_unique():
    plan = plan_of(table_of(*echo_train(5)), Spin())
    for rep in plan.repetitions:
        assert not rep.k_per_m[0].any()
        assert rep.tau_s[0] == 0
        assert len(rep.k_per_m) == rep.n_longitudinal + rep.n_transversal
        rows = np.column_stack([rep.k_per_m, rep.tau_s * 1e6]).round(6)
        for part in (rows[: rep.n_longitudinal], rows[rep.n_longitudinal :]):
            assert len(np.unique(part, axis=0)) == len(part)
        for edges in rep.edges:
            assert (edges.target < len(rows)).all()


@pytest.mark.parametrize("protocol", ["t1inv[0,1]", "t2prep[1]"])
def test_the_error_falls_with_the_thresholds_and_shipped_ones_are_fine(protocol):
    maps = smooth_maps(8)
    finest = operator_at(protocol, 0.01)
    coarse, middle, shipped = (operator_at(protocol, f) for f in (300.0, 20.0, 1.0))
    errors = [relative(o.forward(maps), finest.forward(maps)) for o in (coarse, middle, shipped)]
    states = [states_of(o) for o in (coarse, middle, shipped, finest)]
    assert states == sorted(states)
    assert states[0] < states[-1]
    assert errors[0] > 3 * errors[2]
    assert errors[2] <= errors[1] <= errors[0]
    assert errors[2] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        *("t1inv", "t2prep", "t2star", "dir", "flair", "dwi", "irflash"),
        *("bssfp", "gre_t1w", "multi_echo_gre", "mprage", "mp2rage", "fingerprinting"),
        *("se_t1w", "tse_t2w", "flair_tse", "dir_tse", "epi", "diffusion_se", "diffusion_epi"),
    ],
)
def test_shipped_thresholds_are_within_1e_3_of_ten_times_finer(preset):
    maps = smooth_maps(16)
    shipped, finer = (operator_at(preset, f, matrix=16).forward(maps) for f in (1.0, 0.1))
    assert relative(shipped, finer) < 1e-3


def test_the_largest_number_of_states_is_kept_to():
    played = echo_train(8)
    plan = plan_of(table_of(*played), Spin(), StateAccuracy(4, 0.0, 0.0, 0.0))
    for rep in plan.repetitions:
        assert rep.n_longitudinal <= 4
        assert rep.n_transversal <= 4
    assert plan.n_states < plan_of(table_of(*played), Spin()).n_states


def test_one_graph_serves_every_tissue_where_a_mean_tissue_would_not():
    # at TI = T1 ln 2 of the mean tissue its signal is zero, but not that of the others
    mean_t1_s = (1.55 + 0.83 + 4.16) / 3
    crossing = f"{mean_t1_s * np.log(2) - 2.62e-3:.6f}"
    parsed = parse_protocol("t1inv[0]")
    contrast = parsed.contrasts[0].with_parameters(inversion_delay_s=float(crossing))
    protocol = replace(parsed, chains=(replace(parsed.chains[0], contrasts=(contrast,)),))
    operator = build_operator(scene_of(protocol, 8), EngineOptions(engine=Engine.EXACT)).operator
    kspace = torch.fft.fft2(operator.forward(torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8)))
    lines = kspace.abs().amax(dim=-1)  # (tissue, channel, line)
    assert bool((lines > 1e-4 * lines.max()).all())
    assert images_like(operator).shape == kspace.shape[1:]


def test_a_readout_without_signal_names_the_remedy():
    silent = pulse(0.0, 0.0, sample(1e-3), sample(1e-3))
    loud = pulse(5.0, 0.0, sample(1e-3), sample(1e-3), crush(1e-3))
    with pytest.raises(SimulationError, match="got none in any readout; check its pulses"):
        plan_of(table_of(silent), Spin())
    with pytest.raises(
        SimulationError, match=r"every ADC line .*got .* a pulse of 0 degrees; lower"
    ):
        plan_of(table_of(loud, silent), Spin())
