"""Which lines are read and when: orders, masks, echo trains, real times, diagrams, off the grid."""

import numpy as np
import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.build import build_chain
from bmapest_ray.sequence.diagram import diagram
from bmapest_ray.sequence.lobes import lobe, shortest_lobe
from bmapest_ray.sequence.order import Cartesian, echo_trains
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Contrast
from bmapest_ray.sequence.scanner import SCANNERS, Scanner
from bmapest_ray.sequence.score import Score
from bmapest_ray.sequence.timings import image_timings

SCANNER = SCANNERS["clinical-3t"]
FOV_M = 0.2


def write(sequence, matrix=16, **parameters):
    return Chain((Contrast("c", sequence, tuple(parameters.items())),)).write(
        matrix, FOV_M, SCANNER
    )


def test_partial_fourier_leaves_out_the_most_negative_lines():
    assert Cartesian(partial_fourier=0.75).lines(16) == tuple(range(4, 16))


def test_acceleration_keeps_the_centre_and_calibration():
    lines = Cartesian(acceleration=3, calibration_lines=4).lines(16)
    assert set(lines) == {2, 5, 6, 7, 8, 9, 11, 14}
    assert Cartesian(acceleration=4, order="centric").lines(16)[0] == 8


def test_a_mask_is_read_as_stated():
    assert Cartesian(mask="0-15/4,7-9").lines(16) == (0, 4, 7, 8, 9, 12)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mask": "0-6"}, r"ky = 0 \(index 8\) must be read"),
        ({"mask": "0-16"}, "lines below 16, got '0-16'"),
        ({"mask": "a"}, "must read like 0-15/2"),
    ],
)
def test_masks_without_centre_or_sense_are_refused(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        Cartesian(**options).lines(16)


@pytest.mark.parametrize("centre_echo", [0, 2, 4, 7])
def test_echo_trains_read_every_line_once_with_the_centre_where_asked(centre_echo):
    trains = echo_trains(tuple(range(32)), 32, 8, centre_echo)
    assert sorted(line for train in trains for line in train) == list(range(32))
    assert any(train[centre_echo] == 16 for train in trains)
    for train in trains:  # neighbouring echoes of the train read neighbouring segments
        distance = np.abs(np.array(train) - 16)
        away = np.argsort(np.abs(np.arange(8) - centre_echo), kind="stable")
        assert np.all(np.diff(distance[away]) >= -5)


def test_echo_trains_must_divide_the_lines():
    with pytest.raises(InvalidInput, match="must divide the 32 lines, got 5"):
        echo_trains(tuple(range(32)), 32, 5, 0)


@pytest.mark.parametrize(
    ("sequence", "parameters", "sentence"),
    [
        ("tse", {"echo_time_s": 0.09}, r"1 to 16 times echo_spacing_s 0\.0125 s, got 0\.09 s"),
        ("tse", {"order": "centric"}, "must be linear"),
        ("epi", {"order": "centric"}, "must be linear or reversed"),
        ("epi", {"echo_time_s": 0.001}, r"echo_time_s of c must be at least 0\.00\d+ s"),
        ("bssfp", {"repetition_time_s": 0.002}, r"repetition_time_s of c must be at least 0\.0"),
        ("mprage", {"inversion_time_s": 0.01}, r"inversion_time_s of c must be at least 0\.0"),
        ("dir_tse", {"second_inversion_time_s": 3.45}, "second_inversion_time_s of c must be"),
        (
            "diffusion_se",
            {"b_value_s_per_mm2": 4000, "echo_time_s": 0.04},
            r"b_value_s_per_mm2 must be at most \d+",
        ),
        ("spin_echo", {"repetition_time_s": 0.01}, "repetition_time_s of c must be at least"),
        ("spiral", {"dwell_s": 1e-4}, r"must be in 1e-06\.\.2e-05 s, got 0\.0001"),
    ],
)
def test_requested_times_that_cannot_be_kept_are_refused(sequence, parameters, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        write(sequence, **parameters)


@pytest.mark.parametrize(
    ("sequence", "name", "too_short_s"),
    [
        ("spin_echo", "echo_time_s", 0.001),
        ("bssfp", "repetition_time_s", 0.001),
        ("diffusion_epi", "echo_time_s", 0.001),
        ("multi_echo_gre", "echo_spacing_s", 0.0005),
    ],
)
def test_the_least_time_a_refusal_names_is_the_least_that_works(sequence, name, too_short_s):
    base = {"b_value_s_per_mm2": 0.0} if sequence.startswith("diffusion") else {}
    value_s = too_short_s
    for _ in range(6):  # an echo time has several parts that may be too short in turn
        try:
            write(sequence, **base, **{name: value_s})
        except InvalidInput as error:
            named_s = float(str(error).split("at least ")[1].split(" s")[0])
            assert named_s > value_s
            value_s = named_s
        else:
            break
    write(sequence, **base, **{name: value_s})
    with pytest.raises(InvalidInput):
        write(sequence, **base, **{name: value_s - 4e-5})


@pytest.mark.parametrize(
    ("name", "echo_s", "repetition_s", "inversion_s"),
    [
        ("gre_t1w", 0.005, 0.15, None),
        ("mprage", 0.0035, 0.008, 1.1),
        ("se_t1w", 0.015, 0.6, None),
        ("tse_t2w", 0.1, 5.0, None),
        ("flair_tse", 0.1, 9.0, 2.41),
        ("dir_tse", 0.025, 9.0, 0.55),
        ("bssfp", 0.003, 0.006, None),
        ("epi", 0.035, None, None),
    ],
)
def test_presets_have_the_times_their_titles_say(name, echo_s, repetition_s, inversion_s):
    protocol = parse_protocol(name)
    timing = image_timings(protocol.chains[0].write(64, 0.216, protocol.scanner))[0]
    assert timing.echo_time_s == pytest.approx(echo_s, abs=1e-5)
    assert timing.repetition_time_s == (repetition_s and pytest.approx(repetition_s, abs=1e-5))
    assert timing.inversion_time_s == (inversion_s and pytest.approx(inversion_s, abs=1e-5))


def test_every_readout_centre_is_where_the_echo_time_puts_it():
    score = write("multi_echo_gre", echoes=3)
    timings = image_timings(score)
    assert [t.echo_time_s for t in timings] == pytest.approx([0.005, 0.013, 0.021])
    assert [t.image for t in timings] == ["c.echo1", "c.echo2", "c.echo3"]
    assert {t.lines for t in timings} == {16}


@pytest.mark.parametrize("area_per_m", [0.3, 40.0, -500.0, 3000.0])
@pytest.mark.parametrize("extra", [0, 1, 50])
def test_lobes_keep_area_and_limits(area_per_m, extra):
    scanner = Scanner("s", max_gradient_t_per_m=0.03, max_slew_t_per_m_s=120.0)
    shortest = shortest_lobe(area_per_m, scanner)
    found = lobe(area_per_m, shortest.steps + extra, scanner)
    assert found.area_per_m(1e-5) == pytest.approx(area_per_m)
    assert found.steps == shortest.steps + extra
    assert abs(found.amplitude_hz_per_m) <= scanner.max_gradient_hz_per_m * (1 + 1e-9)
    slew = abs(found.amplitude_hz_per_m) / (found.ramp * 1e-5)
    assert slew <= scanner.max_slew_hz_per_m_s * (1 + 1e-9)
    with pytest.raises(InvalidInput, match="must last at least"):
        lobe(area_per_m, shortest.steps - 1, scanner)


@pytest.mark.parametrize("options", [{}, {"golden_angle": True}])
def test_spokes_run_through_the_centre_at_their_angles(options):
    chain = Chain((Contrast("c", "radial", (("spokes", 5), *options.items())),))
    built = build_chain(chain, 16, FOV_M, SCANNER)
    k = built.seq.calculate_kspace()[0].T.reshape(5, 16, 3) * FOV_M
    step_deg = 111.24611797 if options else 36.0
    for number, samples in enumerate(k):
        angle = np.deg2rad(number * step_deg)
        along = samples[:, 0] * np.cos(angle) + samples[:, 1] * np.sin(angle)
        assert along == pytest.approx(np.arange(16) - 7.5, abs=1e-4)
        assert np.abs(samples[:, 1] * np.cos(angle) - samples[:, 0] * np.sin(angle)).max() < 1e-4
    assert not any(readout.on_grid for readout in built.readouts)


@pytest.mark.parametrize("scanner", ["paper", "clinical-3t"])
def test_spirals_cover_k_space_without_gaps_and_return(scanner):
    chain = Chain((Contrast("c", "spiral", (("interleaves", 4),)),))
    built = build_chain(chain, 32, FOV_M, SCANNERS[scanner])
    k = built.seq.calculate_kspace()[0].T.reshape(4, -1, 3) * FOV_M
    plane = k[..., 0] + 1j * k[..., 1]
    assert np.abs(plane[:, 0]).max() < 0.1
    assert np.abs(plane[:, -1]).min() > 15.5
    assert np.abs(np.diff(plane, axis=1)).max() <= 1.01
    grid = (np.arange(-11, 11)[:, None] + 1j * np.arange(-11, 11)).ravel()
    gaps = np.abs(grid[:, None] - plane.ravel()[None]).min(axis=1)
    assert gaps.max() < 0.75
    assert len(built.readouts) == 4


@pytest.mark.parametrize(("sequence", "echo_s"), [("spiral", 0.002), ("radial", 0.005)])
def test_echo_times_off_the_grid_are_those_of_the_centre_of_k_space(sequence, echo_s):
    (timing,) = image_timings(write(sequence))
    assert timing.echo_time_s == pytest.approx(echo_s, abs=1e-5)
    assert timing.repetition_time_s == pytest.approx(0.025, abs=1e-5)


def test_a_diagram_shows_what_is_played():
    score = write("spoiled_gre", matrix=8)
    drawn = diagram(score, end_s=0.025)
    assert drawn.pulses[:, 2].tolist() == [25.0]
    assert drawn.windows[:, 2].tolist() == [0.0]
    time_s, height = drawn.gradients["y"].T
    assert np.trapezoid(height, time_s) == pytest.approx(0.0, abs=1e-12)
    assert len(diagram(score).windows) == 8
    spiral = diagram(write("spiral", interleaves=2))
    assert np.abs(spiral.gradients["x"][:, 1]).max() <= SCANNER.max_gradient_t_per_m


@pytest.mark.parametrize(
    ("matrix", "fov_m", "sentence"),
    [
        (63, 0.2, r"even and in 4\.\.1024, got 63"),
        (2, 0.2, "got 2"),
        (64, 216, r"fov_m must be in 0\.01\.\.1 m, got 216"),
    ],
)
def test_grids_that_make_no_sense_are_refused(matrix, fov_m, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        Score(matrix, fov_m, SCANNER)
