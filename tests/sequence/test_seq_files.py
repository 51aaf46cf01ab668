"""Pulseq files: presets survive a round trip, files of others import, broken ones are named."""

import math
import re

import numpy as np
import pytest
from plain_files import plain_epi, plain_gre, plain_tse

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.sequence.build import build_chain
from bmapest_ray.sequence.export import export_protocol
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol_file import from_yaml, to_yaml
from bmapest_ray.sequence.scanner import SCANNERS

MATRIX, FOV_M = 16, 0.2

PRESETS = [
    "t2prep[0:2]", "dwi[3]", "gre_t1w", "multi_echo_gre", "bssfp[0]", "mp2rage", "se_t1w",
    "tse_t2w", "dir_tse", "diffusion_se[2]", "diffusion_epi", "epi",
]  # fmt: skip


def build(path, matrix=MATRIX, fov_m=FOV_M):
    protocol = parse_protocol(str(path))
    return build_chain(protocol.chains[0], matrix, fov_m, protocol.scanner)


@pytest.mark.parametrize("name", PRESETS)
def test_an_exported_chain_imports_as_the_same_sequence(name, tmp_path):
    protocol = parse_protocol(name)
    (path,) = export_protocol(protocol, MATRIX, FOV_M, tmp_path)
    made = build_chain(protocol.chains[0], MATRIX, FOV_M, protocol.scanner)
    read = build(path)
    assert read.duration_s == pytest.approx(made.duration_s)
    assert len(read.images) == len(made.images)
    for ours, theirs in zip(made.readouts, read.readouts, strict=True):
        assert (ours.image, ours.line, ours.reverse) == (theirs.image, theirs.line, theirs.reverse)
        assert ours.centre_s == pytest.approx(theirs.centre_s)
        assert ours.dwell_s == pytest.approx(theirs.dwell_s)
    for ours, theirs in zip(made.pulses, read.pulses, strict=True):
        assert ours.centre_s == pytest.approx(theirs.centre_s, abs=1e-9)
        assert ours.pulse.flip_angle_deg == pytest.approx(theirs.pulse.flip_angle_deg, rel=1e-5)
        turn = math.radians(ours.pulse.phase_deg - theirs.pulse.phase_deg)
        assert math.cos(turn) == pytest.approx(1.0, abs=1e-6)
        assert ours.pulse.use == theirs.pulse.use
        assert ours.energy_t2_s == pytest.approx(theirs.energy_t2_s, rel=1e-4)


def test_a_plain_gradient_echo_imports(tmp_path):
    import pypulseq

    plain_gre(pypulseq, tmp_path / "gre.seq")
    built = build(tmp_path / "gre.seq")
    order = np.random.default_rng(0).permutation(MATRIX)
    assert [r.line for r in built.readouts] == list(order)
    assert built.images == ("gre",)
    assert not any(r.reverse for r in built.readouts)


def test_a_plain_file_of_an_older_version_imports(tmp_path):
    import pypulseq

    plain_gre(pypulseq, tmp_path / "new.seq")
    plain_gre(pypulseq, tmp_path / "old.seq", v141_compat=True)
    assert "minor 4" in (tmp_path / "old.seq").read_text()
    old, new = build(tmp_path / "old.seq"), build(tmp_path / "new.seq")
    assert [r.line for r in old.readouts] == [r.line for r in new.readouts]
    assert [p.pulse.use for p in old.pulses] == ["excitation"] * MATRIX
    assert old.rf_energy_t2_s == pytest.approx(new.rf_energy_t2_s)


def test_a_plain_epi_imports_with_its_reversed_lines(tmp_path):
    import pypulseq

    plain_epi(pypulseq, tmp_path / "epi.seq")
    built = build(tmp_path / "epi.seq")
    assert [r.line for r in built.readouts] == list(range(MATRIX))
    assert [r.reverse for r in built.readouts] == [False, True] * (MATRIX // 2)


def test_a_plain_turbo_spin_echo_imports(tmp_path):
    import pypulseq

    plain_tse(pypulseq, tmp_path / "tse.seq")
    built = build(tmp_path / "tse.seq")
    assert sorted(r.line for r in built.readouts) == list(range(MATRIX))
    assert [r.line for r in built.readouts[:4]] == [0, 4, 8, 12]


VERSION_1_2 = """# Pulseq sequence file
[VERSION]
major 1
minor 2
revision 0

[DEFINITIONS]
FOV 200 200 8

# D RF GX GY GZ ADC
[BLOCKS]
{blocks}

[RF]
1 250 1 2 100 0 0

[TRAP]
1 250000 40 320 40 0
2 -93750 40 440 40 0
{trap}

[ADC]
1 16 20000 40 0 0

[DELAYS]
1 5000

[SHAPES]

shape_id 1
num_samples 1000
1
0
0
997

shape_id 2
num_samples 1000
0
0
998
"""


def version_1_2(path):
    lines = range(4, 12)
    blocks, trap = [], []
    for number, line in enumerate(lines):
        start = 4 * number
        blocks += [f"{start + 1} 0 1 0 0 0 0", f"{start + 2} 0 0 2 {number + 3} 0 0"]
        blocks += [f"{start + 3} 0 0 1 0 0 1", f"{start + 4} 1 0 0 0 0 0"]
        trap.append(f"{number + 3} {(line - 8) / FOV_M / 480e-6:.6g} 20 460 20 0")
    path.write_text(VERSION_1_2.format(blocks="\n".join(blocks), trap="\n".join(trap)))


def test_a_file_of_version_1_2_imports(tmp_path):
    version_1_2(tmp_path / "old.seq")
    built = build(tmp_path / "old.seq")
    assert [r.line for r in built.readouts] == list(range(4, 12))
    assert built.pulses[0].pulse.flip_angle_deg == pytest.approx(90.0, rel=1e-3)


def test_an_imported_protocol_keeps_its_content_in_yaml_and_digest(tmp_path):
    import pypulseq

    plain_gre(pypulseq, tmp_path / "gre.seq")
    protocol = parse_protocol(str(tmp_path / "gre.seq"))
    again = from_yaml(to_yaml(protocol), "again", parse_protocol)
    assert again.digest == protocol.digest
    plain_gre(pypulseq, tmp_path / "gre.seq", fov=0.25)
    assert parse_protocol(str(tmp_path / "gre.seq")).digest != protocol.digest
    with pytest.raises(InvalidInput, match="must be the file that was imported"):
        protocol.chains[0].write(MATRIX, FOV_M, protocol.scanner)


def broken(path, change):
    import pypulseq

    plain_gre(pypulseq, path)
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: re.sub(r"\[ADC\][^[]*", "", text), "error in block 3 "),
        (lambda text: text[: text.index("[SHAPES]")], "error in block 1 "),
        (lambda text: text[: text.index("[RF]")], "error in block 1 "),
        (lambda text: text[: len(text) * 2 // 3], "must be a whole Pulseq file"),
        (lambda text: text.replace("minor 5", "minor 9"), r"got version 1\.9"),
        (lambda text: text.replace("[VERSION]", "[VERSIONS]"), "got version none"),
        (lambda _: "no Pulseq at all", "got version none"),
        (lambda _: "", "got version none"),
        (lambda text: text.replace("[TRAP]", "[TROP]"), "Unknown section code"),
        (lambda text: text.replace("FOV 0.2 0.2", "FOV 0.3 0.3"), r"the 0\.3 m that .* got 0\.2 m"),
        (lambda text: text.replace("FOV 0.2 0.2", "FOV wide wide"), "FOV definition .* in metres"),
        (lambda text: text.replace("FOV 0.2 0.2", "FOV -1 -1"), "FOV definition .* in metres"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path, change, sentence):
    path = broken(tmp_path / "bad.seq", change)
    with pytest.raises(InvalidInput, match=sentence):
        build(path)


def test_every_cut_of_a_file_is_refused_or_whole(tmp_path):
    import pypulseq

    plain_gre(pypulseq, tmp_path / "whole.seq", n=8)
    text = (tmp_path / "whole.seq").read_text()
    signature = text.index("[SIGNATURE]")
    for end in range(0, signature - 10, 97):
        (tmp_path / "cut.seq").write_text(text[:end])
        with pytest.raises(InvalidInput):
            build(tmp_path / "cut.seq", matrix=8)


def test_absurd_gradients_are_named(tmp_path):
    import pypulseq

    strong = pypulseq.Opts(max_grad=900, grad_unit="mT/m", max_slew=9000, slew_unit="T/m/s")
    seq = pypulseq.Sequence(strong)
    pulse = pypulseq.make_block_pulse(1.0, duration=1e-3, system=strong, use="excitation")
    seq.add_block(pulse)
    seq.add_block(pypulseq.make_trapezoid("y", amplitude=3e7, duration=2e-3, system=strong))
    gx = pypulseq.make_trapezoid("x", flat_area=80, flat_time=320e-6, system=strong)
    seq.add_block(gx, pypulseq.make_adc(16, duration=320e-6, delay=gx.rise_time, system=strong))
    seq.write(str(tmp_path / "absurd.seq"))
    with pytest.raises(
        InvalidInput, match=r"gy in block 2 .* must be at most 100 mT/m, got 704\.6 mT/m"
    ):
        build(tmp_path / "absurd.seq")


def test_what_does_not_fit_the_grid_is_said_with_the_grid_of_the_file(tmp_path):
    import pypulseq

    plain_gre(pypulseq, tmp_path / "gre.seq")
    with pytest.raises(InvalidInput, match=r"16 samples 5 1/m apart \(FOV 0\.2 m\)"):
        build(tmp_path / "gre.seq", matrix=32)


def test_a_scanner_judges_an_imported_file(tmp_path):
    import pypulseq

    plain_gre(pypulseq, tmp_path / "gre.seq")
    protocol = parse_protocol(str(tmp_path / "gre.seq"))
    with pytest.raises(InvalidInput, match=r"gx in block 3 .* at most 125 T/m/s"):
        build_chain(protocol.chains[0], MATRIX, FOV_M, SCANNERS["clinical-1.5t"])
    with pytest.raises(InvalidInput, match=r"timing check, .* first in block 1: "):
        build_chain(protocol.chains[0], MATRIX, FOV_M, SCANNERS["clinical-3t"])


def test_files_without_readouts_or_not_there_are_refused(tmp_path):
    import pypulseq

    seq = pypulseq.Sequence()
    seq.add_block(pypulseq.make_block_pulse(1.0, duration=1e-3, use="excitation"))
    seq.write(str(tmp_path / "silent.seq"))
    with pytest.raises(InvalidInput, match="got no ADC"):
        parse_protocol(str(tmp_path / "silent.seq"))
    with pytest.raises(MissingInput, match=r"nowhere\.seq"):
        parse_protocol(str(tmp_path / "nowhere.seq"))
