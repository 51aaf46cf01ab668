"""Every shipped sequence: equal to MR-zero's execution, and unchanged by a trip through a file."""

from dataclasses import replace

import pytest
from scenes import COARSE, FOV_M, analytic_fields, relative, scene_of, smooth_maps

from bmapest_ray.sequence.export import export_protocol
from bmapest_ray.sequence.parse import import_protocol, parse_protocol
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator

MATRIX = 16

SEQUENCES = [
    "t1inv[1]", "t2prep[1]", "t2star[0]", "dir[1]", "flair[0]", "dwi[3]", "irflash[0]", "gre_t1w",
    "gre_pdw", "gre_t2starw", "multi_echo_gre", "bssfp[0]", "mprage", "mp2rage", "fingerprinting",
    "se_t1w", "se_pdw", "tse_t2w", "tse_pdw", "flair_tse", "dir_tse", "diffusion_se[2]",
    "diffusion_epi[2]", "epi",
]  # fmt: skip
"""One contrast of every preset."""

NOT_HELD_YET = (
    "gre_t1w", "multi_echo_gre", "mprage", "mp2rage", "fingerprinting", "flair_tse", "dir_tse",
    "diffusion_epi[2]", "tse_pdw", "gre_t2starw",
)  # fmt: skip
"""What the parity tests of the engine leave out."""


OFF_GRID = ("radial", "spiral")


def images_of(protocol, engine=Engine.EXACT, accuracy=None):
    """Images of smooth maps in the analytic fields."""
    scene = scene_of(protocol, MATRIX, fields=analytic_fields(MATRIX), accuracy=accuracy)
    operator = build_operator(scene, EngineOptions(engine=engine)).operator
    return operator.forward(smooth_maps(MATRIX))


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_HELD_YET)
def test_sequences_equal_mr_zero(name):
    protocol = parse_protocol(name)
    coarse = replace(COARSE, max_state_count=protocol.accuracy.max_state_count)
    expected = images_of(protocol, Engine.REFERENCE, coarse)
    assert relative(images_of(protocol, accuracy=coarse), expected) <= 2e-5


def round_trip_error(name, folder):
    """Relative change of the images when a protocol goes through a Pulseq file."""
    protocol = parse_protocol(name)
    (path,) = export_protocol(protocol, MATRIX, FOV_M, folder)
    imported = replace(import_protocol(path), accuracy=protocol.accuracy)
    engine = Engine.LOWRANK if name.startswith(OFF_GRID) else Engine.EXACT
    return relative(images_of(imported, engine), images_of(protocol, engine))


@pytest.mark.parametrize("name", ["gre_t1w", "epi"])
def test_a_pulseq_file_gives_the_same_signal(name, tmp_path):
    assert round_trip_error(name, tmp_path) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [*(n for n in SEQUENCES if n not in ("gre_t1w", "epi")), "radial[0]", "spiral[1]"],
)
def test_every_exported_sequence_reads_back_to_the_same_signal(name, tmp_path):
    assert round_trip_error(name, tmp_path) <= 1e-4
