"""What cannot be simulated is refused in one sentence with the rule, the value and the remedy."""

from dataclasses import replace

import pytest
import torch
from scenes import analytic_fields, images_like, operator_of, plain_fields, scene_of, smooth_maps

from bmapest_ray.base.errors import BmapestError, InvalidInput, SimulationError
from bmapest_ray.simulate import mrzero
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX = 8
OPERATORS = [
    ("exact", "compartments"),
    ("lowrank", "compartments"),
    ("exact", "average"),
    ("reference", "compartments"),
]
every = pytest.mark.parametrize(("engine", "mixing"), OPERATORS)


def one_sentence(error):
    text = str(error)
    assert "\n" not in text
    assert text[0].islower() or text.startswith(("T1", "T2", "PD", "D ", "ADC", "MR"))
    assert ";" in text, f"no remedy in: {text}"
    assert " got" in text
    assert not text.endswith(".")


def refuse(message, action, kind=InvalidInput):
    with pytest.raises(kind, match=message) as caught:
        action()
    assert isinstance(caught.value, BmapestError)
    assert caught.value.exit_code == 2
    one_sentence(caught.value)


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_fractions_that_are_no_numbers(engine, mixing, bad):
    operator = operator_of("t1inv[0]", MATRIX, engine, mixing)
    maps = smooth_maps(MATRIX)
    maps[1, 3, 4] = bad
    refuse("fractions must be finite, got NaN", lambda: operator.forward(maps))


@every
@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 8, 8), (8, 8), (3, 8, 6), (4, 6, 8, 8)])
def test_fractions_of_another_shape(engine, mixing, shape):
    operator = operator_of("t1inv[0]", MATRIX, engine, mixing)
    wanted = r"shape \(\.\.\., 3, 8, 8\), got \(" + ", ".join(map(str, shape))
    refuse(wanted, lambda: operator.forward(torch.zeros(shape)))


@pytest.mark.parametrize(("engine", "mixing"), OPERATORS[:3])
def test_images_of_another_shape(engine, mixing):
    operator = operator_of("t1inv[0,2]", MATRIX, engine, mixing)
    maps, images = smooth_maps(MATRIX), images_like(operator)
    for wrong in (images[:1], images[..., :6, :6], images[0]):
        refuse(
            r"images must have shape \(\.\.\., 2, 8, 8\), got \(",
            lambda wrong=wrong: operator.vjp(maps, wrong),
        )


@pytest.mark.parametrize("engine", ["exact", "lowrank", "reference"])
def test_field_maps_of_another_matrix(engine):
    scene = scene_of("t1inv[0]", MATRIX, fields=analytic_fields(12))
    options = EngineOptions(engine=Engine(engine))
    refuse(
        r"matrix of the object \(8\), got 12; resample",
        lambda: build_operator(scene, options),
    )


def test_fields_that_cannot_be():
    fields = plain_fields(MATRIX)
    holed = fields.b0_hz.clone()
    holed[2, 2] = float("nan")
    refuse("b0_hz must be finite everywhere, got NaN", lambda: Fields(holed, fields.b1))
    refuse(
        r"b1 must be at least 0 .*got -0.2; check", lambda: Fields(fields.b0_hz, fields.b1 - 1.2)
    )


def test_a_tissue_of_negative_t2():
    refuse(
        "T2 of WM must be positive and finite, got -0.07; correct t2_s",
        lambda: replace(PAPER_3T, t2_s=(0.09, -0.07, 1.65)),
    )


def test_an_unfinished_sequence_file(tmp_path):
    path = tmp_path / "broken.seq"
    path.write_text("[VERSION]\nmajor 1\nminor 4\n[BLOCKS]\n1 2 3")
    refuse(
        r"MR-zero must be able to read the sequence, got: .*; check the file .*broken.seq",
        lambda: mrzero.import_seq_file(path),
        SimulationError,
    )


def test_a_b1_of_zero_everywhere():
    scene = scene_of("t1inv[0]", MATRIX, fields=plain_fields(MATRIX, b1=0.0))
    refuse(
        "must emit a signal, got none in any readout; check its pulses",
        lambda: build_operator(scene),
        SimulationError,
    )


@pytest.mark.parametrize("tolerance", [0.0, -1e-3, 1.0, 1e-9, float("nan")])
def test_a_tolerance_out_of_range(tolerance):
    refuse(
        rf"tolerance must be in \[1e-7, 1\), got {tolerance}; 1e-4",
        lambda: EngineOptions(tolerance=tolerance),
    )


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_a_memory_budget_out_of_range(budget):
    refuse(
        f"memory_budget_gb must be positive, got {budget}; raise",
        lambda: EngineOptions(memory_budget_gb=budget),
    )


@pytest.mark.parametrize("matrix", [0, -8, 7, 1])
def test_an_odd_matrix(matrix):
    refuse(
        f"matrix must be even and at least 2, got {matrix}; choose", lambda: VoxelGrid(matrix, 0.2)
    )


@pytest.mark.parametrize("fov_m", [0.0, -0.2, 216.0, float("nan")])
def test_a_field_of_view_in_millimetres(fov_m):
    refuse(rf"in \(0, 10\) m, got {fov_m}; mind the unit", lambda: VoxelGrid(8, fov_m))


def test_lowrank_of_averaged_voxels():
    scene = scene_of("t1inv[0]", MATRIX, mixing="average")
    refuse(
        "lowrank engine needs compartments .*got average on 8 for 8; use the exact engine",
        lambda: build_operator(scene, EngineOptions(engine=Engine.LOWRANK)),
    )
