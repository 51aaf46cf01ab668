"""Protocol and inversion searched together: better than the start, within bounds, repeatable."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.design.objective import DesignProblem
from bmapest_ray.design.optimise import Limits
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.variables import Variable
from bmapest_ray.design.voxels import choose_voxels
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, StateAccuracy
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.study.design_joint import PRIOR, Head, JointStudy
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX = 8
BUDGET_S = 8.0
START = (0.05, 0.0364, 60.0, 5.0, 1.0)


def head(subject: str, shift: float) -> TissueMaps:
    """Three blobs that lie a little elsewhere in every subject."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, MATRIX)] * 2, indexing="ij")
    places = ((0.4, 0.0), (-0.3, 0.4), (-0.3, -0.4))
    blobs = [torch.exp(-3 * ((y - a - shift) ** 2 + (x - b) ** 2)) for a, b in places]
    fraction = torch.stack(blobs)
    affine = np.diag([27.0, 27.0, 5.0, 1.0])
    return TissueMaps(fraction / fraction.sum(0).clamp(min=1.0), affine, subject, "blobs")


def study() -> JointStudy:
    maps = [head(f"{n:02d}", 0.1 * n - 0.1) for n in range(3)]
    field = torch.ones(MATRIX, MATRIX, dtype=torch.float64)
    fields, grid = Fields(0 * field, field), VoxelGrid(MATRIX, 0.216)
    voxels = choose_voxels(maps[0].fraction, fields, grid, 1)
    setting = DesignSetting(grid, PAPER_3T, voxels, sigma=0.02, dwell_s=30e-6, columns=2)
    known = parse_protocol("t2prep[2],t1inv[1]")
    protocol = replace(
        known,
        chains=(Chain((known.contrasts[0], replace(known.contrasts[1], pause_s=0.0))),),
        continuous=True,
        accuracy=StateAccuracy(5000, 1e-3, 1e-3, 2e-3),
    )
    variables = (
        Variable("t1inv[1]", "inversion_delay_s", 0.005, 5.0),
        Variable("t2prep[2]", "echo_delay_s", 0.004, 1.0),
        Variable("t2prep[2]", "flip_angle_deg", 2.0, 60.0),
        Variable("t1inv[1]", "flip_angle_deg", 2.0, 60.0),
        Variable("t2prep[2]", "pause_s", 0.001, 10.0),
    )
    problem = DesignProblem(protocol, variables, setting)
    heads = (Head(maps[0], tuple(maps[1:])),)
    return JointStudy(problem, Limits(BUDGET_S), fields, heads, draws=1)


def test_a_small_search_improves_on_its_start_within_the_scan_time():
    known = study()
    found = known.search(5, START, seed=3)
    assert len(found.history) == 5
    assert found.error < 0.9 * found.history[0]
    played = known.problem.protocol_at(np.array(found.values))
    assert played.scan_time_s(MATRIX, 0.216) <= BUDGET_S
    again = known.errors(found.values, found.inversion, known.heads, "tune")
    assert np.mean(again) == pytest.approx(found.error, rel=1e-6)


def test_with_a_fixed_protocol_only_the_inversion_is_searched_and_a_seed_repeats_it():
    known = study()
    found = known.search(4, START, fixed=True)
    np.testing.assert_allclose(found.values, START, rtol=0.02)
    assert found.error <= found.history[0]
    plain = np.mean(known.errors(found.values, {PRIOR: "none"}, known.heads, "tune"))
    assert found.history[0] == pytest.approx(plain, rel=1e-6)
    assert known.search(4, START, fixed=True) == found
    assert known.search(4, START, fixed=True, seed=1).history != found.history


@pytest.mark.slow
def test_a_seed_repeats_a_joint_search():
    assert study().search(10, START, seed=3) == study().search(10, START, seed=3)


def test_a_start_outside_its_bounds_is_refused():
    with pytest.raises(InvalidInput, match=r"t2prep\[2\].flip_angle_deg must lie in 2..60, got 90"):
        study().search(2, (0.05, 0.0364, 90.0, 5.0, 1.0))


def test_an_energy_limit_and_a_search_without_subjects_are_refused():
    known = study()
    with pytest.raises(InvalidInput, match="at least one subject"):
        replace(known, heads=())
    with pytest.raises(InvalidInput, match="no limit of RF energy"):
        replace(known, limits=Limits(BUDGET_S, 1e-9))
