"""Gradients of the objective to every kind of continuous parameter, limits, studies."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.design.fisher import Bound
from bmapest_ray.design.objective import Criterion, DesignProblem, criterion_of, objective_of
from bmapest_ray.design.optimise import Effort, Limits, optimise, starting_points, within_time
from bmapest_ray.design.robust import Ranges, corners, only, random_scenarios, robust
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.variables import Variable, rounded_values, with_values
from bmapest_ray.design.voxels import choose_voxels
from bmapest_ray.sequence.build import build_chain
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, StateAccuracy
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.measurement import Signal
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX = 8
GRID = VoxelGrid(MATRIX, 0.216)

COARSE = StateAccuracy(5000, 1e-3, 1e-3, 2e-3)
FINE = StateAccuracy(50_000, 1e-8, 1e-9, 1e-9)
"""So fine that a state more or less in a graph built anew changes no difference quotient."""


def setting_of(**others):
    b1 = torch.linspace(0.85, 1.1, MATRIX**2, dtype=torch.float64).view(MATRIX, MATRIX)
    fields = Fields(torch.full_like(b1, 4.0), b1)
    maps = torch.full((3, MATRIX, MATRIX), 0.3, dtype=torch.float64)
    voxels = choose_voxels(maps, fields, GRID, 2)
    known = {
        "sigma": 0.01,
        "dwell_s": 30e-6,
        "columns": 2,
        "accuracy": StateAccuracy(5000, 1e-3, 1e-3, 2e-3),
    }
    return DesignSetting(acquisition=GRID, table=PAPER_3T, voxels=voxels, **{**known, **others})


def one_chain(text):
    known = parse_protocol(text)
    return replace(known, chains=(Chain(known.contrasts),), continuous=True)


PROTOCOL = one_chain("t1inv[0,3],t2prep[2],dir[1]")
VARIABLES = (
    Variable("t1inv[0]", "inversion_delay_s", 0.005, 4.0),
    Variable("t1inv[0]", "pause_s", 0.001, 10.0),
    Variable("t2prep[2]", "echo_delay_s", 0.004, 0.5),
    Variable("dir[1]", "second_delay_s", 0.005, 3.0),
    Variable("t1inv[3]", "flip_angle_deg", 2.0, 60.0),
    Variable("*", "flip_angle_deg", 2.0, 60.0),
)

PAUSES = tuple(Variable(c.name, "pause_s", 0.001, 10.0) for c in PROTOCOL.contrasts[1:])


def differences(problem, values):
    """Central differences of objectives of designs whose graphs are built anew."""
    found, known = [], problem.linearised(values)
    for place, variable in enumerate(problem.variables):
        step = 0.4 * variable.step(problem.protocol)
        sides = []
        for sign in (1, -1):
            moved = values.copy()
            moved[place] += sign * step
            sides.append(problem.linearised(moved, known).value(moved))
        found.append((sides[0] - sides[1]) / (2 * step))
    return np.array(found)


def test_gradients_match_differences_on_one_graph():
    problem = DesignProblem(PROTOCOL, VARIABLES, setting_of(nuisances={"b1": 0.1}))
    values = np.array([0.31, 1.7, 0.08, 0.43, 7.0, 9.0])
    design = problem.linearised(values)
    _, gradient = design.evaluate(values)
    for place, variable in enumerate(VARIABLES):
        step = np.zeros(len(values))
        step[place] = 0.1 * variable.step(PROTOCOL)
        sides = [design.value(values + sign * step) for sign in (1, -1)]
        difference = (sides[0] - sides[1]) / (2 * step[place])
        assert gradient[place] == pytest.approx(difference, rel=1e-3, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("criterion", "places", "others"),
    [
        (Criterion.A, range(6), {}),
        (Criterion.D, (0, 2, 5), {"nuisances": {"b1": 0.1}}),
        (Criterion.E, (1, 3, 4), {"signal": Signal.MAGNITUDE, "sigma": 1e-3}),
    ],
)
def test_gradients_to_every_parameter_match_designs_built_anew(criterion, places, others):
    variables = [VARIABLES[place] for place in places]
    problem = DesignProblem(PROTOCOL, variables, setting_of(accuracy=FINE, **others), criterion)
    values = np.array([0.31, 1.7, 0.08, 0.43, 7.0, 9.0])[list(places)]
    _, gradient = problem.linearised(values).evaluate(values)
    np.testing.assert_allclose(gradient, differences(problem, values), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "contrast", "parameter", "value"),
    [
        ("se_t1w,se_pdw", "se_t1w", "echo_time_s", 0.02),
        ("bssfp,mprage", "mprage", "inversion_time_s", 0.9),
    ],
)
def test_gradients_hold_for_spin_echoes_and_steady_states(protocol, contrast, parameter, value):
    known = parse_protocol(protocol)
    name = next(c.name for c in known.contrasts if c.name.startswith(contrast))
    variable = Variable(name, parameter, 0.9 * value, 1.1 * value)
    prior = torch.eye(3, dtype=torch.float64) * 10
    problem = DesignProblem(known, [variable], setting_of(prior=prior, accuracy=FINE))
    values = np.array([value])
    _, gradient = problem.linearised(values).evaluate(values)
    np.testing.assert_allclose(gradient, differences(problem, values), rtol=5e-3)


def test_scan_time_and_energy_are_those_of_the_protocol():
    problem = DesignProblem(PROTOCOL, VARIABLES, setting_of())
    values = np.array([0.31, 1.7, 0.08, 0.43, 9.0, 9.0])
    design = problem.linearised(values)
    moved = values + np.array([0.2, -0.3, 0.1, 0.05, 3.0, 3.0])
    protocol = problem.protocol_at(moved)
    assert design.scan_time_s(moved)[0] == pytest.approx(protocol.scan_time_s(MATRIX, 0.216))
    energy, slope = design.rf_energy_t2_s(moved)
    # sinc pulses of all contrasts move with "*"; t1inv[3] moves with its own variable too
    own = protocol.rf_energy_t2_s(MATRIX, 0.216)
    assert energy > own
    assert slope[5] > 0
    assert slope[0] == 0


def test_directions_of_a_design_nearby_are_taken_over():
    problem = DesignProblem(PROTOCOL, VARIABLES[:4], setting_of())
    values = np.array([0.31, 1.7, 0.08, 0.43])
    first = problem.linearised(values)
    second = problem.linearised(values + 0.02, first)
    assert second._chains[0].directions is first._chains[0].directions
    fresh = problem.linearised(values + 0.02)
    assert second.evaluate(values + 0.02)[1] == pytest.approx(fresh.evaluate(values + 0.02)[1])


def test_an_optimised_design_is_better_fits_its_limits_and_can_be_played():
    problem = DesignProblem(PROTOCOL, (*VARIABLES[:5], *PAUSES), setting_of())
    limits = Limits(6.0, rf_energy_t2_s=1.2e-12)
    start = starting_points(problem, limits, 2, seed=0)[1]
    found = optimise(problem, start, limits, Effort(2, 8))
    assert found.history[-1] < found.history[0] - 0.1
    assert found.score.scan_time_s <= 6.0
    assert found.score.rf_energy_t2_s <= 1.2e-12 * 1.01
    assert np.log(found.score.mean_variance) == pytest.approx(found.objective, abs=0.01)
    built = build_chain(found.protocol.chains[0], MATRIX, 0.216, found.protocol.scanner)
    assert built.duration_s == pytest.approx(found.score.scan_time_s, abs=1e-3)


def test_robust_settings_average_scenarios_and_one_alone_is_that_scenario():
    setting = setting_of(accuracy=FINE)
    some = corners(Ranges(), 3)[:7:6]
    wide = robust(setting, some)
    assert len(wide.voxels) == 6
    assert wide.voxels.scenarios == 3
    problem = DesignProblem(PROTOCOL, VARIABLES[:2], wide)
    values = problem.start
    alone = [setting, *(only(setting, scenario) for scenario in some)]
    problems = [DesignProblem(PROTOCOL, VARIABLES[:2], one) for one in alone]
    parts = [one.linearised(values).value(values) for one in problems]
    assert problem.linearised(values).value(values) == pytest.approx(np.mean(parts), rel=1e-3)
    assert np.ptp(parts) > 0.1
    assert len(random_scenarios(Ranges(), 3, 4, 0)) == 4


def test_criteria_of_a_diagonal_covariance():
    covariance = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    expected = {Criterion.A: 7 / 3, Criterion.D: 2.0, Criterion.E: 4.0}
    for criterion, value in expected.items():
        assert float(criterion_of(covariance, criterion).exp()) == pytest.approx(value)
    both = Bound(torch.stack([covariance, 4 * covariance]))
    assert float(objective_of(both, Criterion.D, 1).exp()) == pytest.approx(5.0)
    assert float(objective_of(both, Criterion.D, 2).exp()) == pytest.approx(4.0)


def test_values_are_put_on_the_raster_and_into_the_protocol():
    values = rounded_values(PROTOCOL, VARIABLES, [0.310007, 12.0, 0.08, 0.43, 7.004, 9.0])
    assert values[:2] == [0.31, 10.0]
    changed = with_values(PROTOCOL, VARIABLES[:2], values[:2])
    assert dict(changed.contrasts[0].parameters)["inversion_delay_s"] == 0.31
    assert changed.contrasts[0].pause_s == 10.0


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (("t1inv[0]", "inversion_delay_s", -1.0, 4.0), r"must lie in 0\.\.60 s, got -1"),
        (("t1inv[9]", "pause_s", 0.1, 4.0), "must be one of"),
        (("t1inv[0]", "echo_delay_s", 0.1, 4.0), "must be one of"),
        (("*", "flip_angle_deg", 4.0, 4.0), "must rise"),
    ],
)
def test_variables_outside_the_limits_are_refused(variable, words):
    with pytest.raises(InvalidInput, match=words):
        DesignProblem(PROTOCOL, [Variable(*variable)], setting_of())


def test_impossible_budgets_are_refused_with_the_shortest_time():
    problem = DesignProblem(PROTOCOL, (*VARIABLES[:4], *PAUSES), setting_of())
    with pytest.raises(InvalidInput, match=r"shortest design, \d+\.?\d* s, got a budget of 2 s"):
        within_time(problem, problem.start, 2.0)
    fits = within_time(problem, problem.start, 16.0)
    assert problem.protocol_at(fits).scan_time_s(MATRIX, 0.216) == pytest.approx(16.0, abs=1e-3)
    with pytest.raises(InvalidInput, match="RF energy must allow the smallest flip angles"):
        optimise(problem, problem.start, Limits(16.0, rf_energy_t2_s=1e-15), Effort(1, 1))
