"""Regret of designs: the scenarios are balanced, the robust design is better on their mean."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from bmapest_ray.design.job import Circumstances, DesignJob
from bmapest_ray.design.optimise import Effort, Limits
from bmapest_ray.design.regret import RegretStudy
from bmapest_ray.design.robust import Ranges
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.variables import Variable
from bmapest_ray.design.voxels import choose_voxels
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, StateAccuracy
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX = 8
RANGES = Ranges()


def study_of(**others):
    b1 = torch.linspace(0.85, 1.1, MATRIX**2, dtype=torch.float64).view(MATRIX, MATRIX)
    grid = VoxelGrid(MATRIX, 0.216)
    maps = torch.full((3, MATRIX, MATRIX), 0.3, dtype=torch.float64)
    setting = DesignSetting(
        acquisition=grid,
        table=PAPER_3T,
        voxels=choose_voxels(maps, Fields(torch.full_like(b1, 4.0), b1), grid, 1),
        sigma=0.01,
        dwell_s=30e-6,
        columns=2,
        accuracy=StateAccuracy(5000, 1e-3, 1e-3, 2e-3),
    )
    known = parse_protocol("t2prep[2],t1inv[1],t2star[0]")
    contrasts = tuple(replace(c, pause_s=2.0) for c in known.contrasts)
    protocol = replace(known, chains=(Chain(contrasts),), continuous=True)
    names = ("t2prep[2]", "t1inv[1]", "t2star[0]")
    job = DesignJob(
        label="small",
        circumstances=Circumstances(reference=protocol),
        protocol=protocol,
        variables=tuple(Variable(name, "flip_angle_deg", 2.0, 60.0) for name in names),
        limits=Limits(20.0),
        effort=Effort(2, 10),
    )
    return RegretStudy(job, setting, RANGES, starts=1, **others)


def test_scenarios_are_corners_in_which_every_pair_is_balanced():
    signs = [
        (one.t1[0] - 1, one.t2[0] - 1, one.b1 - 1) for one in study_of().scenarios
    ]  # shares of T1, T2, B1
    np.testing.assert_allclose(np.abs(signs), [[0.1, 0.1, 0.2]] * 4)
    for first, second in combinations(np.sign(signs).T, 2):
        assert float(first @ second) == 0.0
        assert float(first.sum()) == 0.0


@pytest.mark.slow
def test_a_robust_design_is_better_on_the_mean_and_keeps_its_nominal_loss():
    free, guarded = study_of(unknown=True), study_of(unknown=True, most_loss=0.02)
    nominal = free.nominal()
    designs = [
        nominal,
        free.robust(nominal.values, nominal.objective),
        guarded.robust(nominal.values, nominal.objective),
    ]
    values = [one.values for one in designs]
    tables = [free.compare(scenario, values) for scenario in free.scenarios[:2]]
    for reached, optimum in tables:
        assert min(reached) - optimum >= 0
    means = np.array([reached for reached, _ in tables]).mean(0)
    assert means[1] < means[2] < means[0] - 1e-3
    costs = [free.value(v) - nominal.objective for v in values]
    assert costs[0] == pytest.approx(0.0, abs=5e-3)
    assert costs[1] > costs[2]
    assert costs[2] < 0.02 + 5e-3  # the graph is built anew and flips are rounded
