"""Gauss-Newton on a non-linear model: tangents, the linear model as start, Adam for comparison."""

import pytest
import torch
from synthetic import T1INV, T2PREP, CurvedOperator, SyntheticOperator, brain, cohort_mean, psnr

from bmapest_ray.inversion.loss import MagnitudeImage
from bmapest_ray.inversion.problem import Problem
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert, invert_batch
from bmapest_ray.inversion.tangent import StackedModel, tangent_of

MATRIX = 16


class CountingOperator(CurvedOperator):
    """Counts what a solver asks for."""

    def __init__(self, linear: SyntheticOperator) -> None:
        super().__init__(linear)
        self.forwards = self.tangents = 0

    def forward(self, p):
        self.forwards += 1
        return super().forward(p)

    def _linearise(self, p):
        self.tangents += 1
        forwards = self.forwards
        found = super()._linearise(p)
        self.forwards = forwards
        return found


@pytest.fixture(scope="module")
def linear():
    return SyntheticOperator(T1INV + T2PREP, MATRIX)


def test_tangents_are_the_derivative_of_each_item(linear):
    curved = CurvedOperator(linear)
    p = torch.stack([brain(MATRIX, 0), brain(MATRIX, 1)])
    dp = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    tangent = tangent_of(curved, p)
    assert isinstance(tangent, StackedModel)
    torch.testing.assert_close(tangent.jvp(p, dp), curved.jvp(p, dp))
    s = curved.forward(p)
    torch.testing.assert_close(tangent.vjp(p, s), curved.vjp(p, s))
    assert tangent_of(linear, p) is linear


@pytest.mark.parametrize("tangents", [True, False])
def test_objective_gradient_matches_central_differences(tangents):
    linear = SyntheticOperator(T1INV + T2PREP, 8, torch.complex128)
    curved = CurvedOperator(linear, tangents=tangents)
    data = curved.forward(brain(8).double()).abs()[None]
    problem = Problem(MagnitudeImage(data, torch.ones(8, dtype=torch.float64)), curved)
    x = 0.2 + 0.3 * brain(8, 1).double()[None]
    dx = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-6
    ends = [problem.point(x + sign * step * dx).value for sign in (1, -1)]
    slope = (problem.linearise(problem.point(x)).gradient * dx).sum()
    torch.testing.assert_close(slope, (ends[0] - ends[1])[0] / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tangents", [True, False])
def test_non_linear_fit_reaches_the_truth_from_the_linear_one(linear, tangents):
    curved = CurvedOperator(linear, tangents=tangents)
    truths = torch.stack([brain(MATRIX, 0), brain(MATRIX, 1)])
    measurement = BatchMeasurement(curved.forward(truths), "complex")
    results = invert_batch(
        measurement, curved, solver=SolverSettings(), start=cohort_mean(MATRIX),
        preconditioner=linear,
    )  # fmt: skip
    for result, truth in zip(results, truths, strict=True):
        assert result.converged, result.message
        assert "linear model" in result.message
        assert min(psnr(result.maps, truth)) > 100


def test_an_iteration_costs_one_tangent_and_nothing_else(linear):
    curved = CountingOperator(linear)
    measurement = BatchMeasurement(CurvedOperator(linear).forward(brain(MATRIX)), "complex")
    settings = SolverSettings(max_iterations=3, decrease_tolerance=1e-12)
    result = invert(measurement, curved, solver=settings, start=cohort_mean(MATRIX))
    assert (curved.forwards, curved.tangents) == (0, 1 + result.iterations)


def test_without_blocks_a_scalar_metric_still_solves(linear):
    curved = CurvedOperator(linear, tangents=False)
    truth = 0.8 * brain(MATRIX) + 0.05
    settings = SolverSettings(inner_iterations=60, max_iterations=60)
    result = invert(
        BatchMeasurement(curved.forward(truth), "complex"), curved, solver=settings,
        start=cohort_mean(MATRIX), constraints="none",
    )  # fmt: skip
    assert min(psnr(result.maps, truth)) > 60
