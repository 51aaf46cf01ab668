"""Signs of inversion recovery: what is known, the linear start, and the two-way search."""

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain, cohort_mean, psnr

from bmapest_ray.inversion.loss import MagnitudeImage
from bmapest_ray.inversion.problem import Problem
from bmapest_ray.inversion.refine import EXPLAINED, Refinement
from bmapest_ray.inversion.result import Status
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.sign_search import SignSearch, local_responses
from bmapest_ray.inversion.signs import sign_images, sign_start
from bmapest_ray.inversion.solve import BatchMeasurement, invert

MATRIX = 24
HEAD = brain(MATRIX).sum(0) > 0


@pytest.fixture(scope="module")
def operator():
    return SyntheticOperator(T1INV + T2PREP, MATRIX)


def _problem(operator, images):
    weights = torch.full((len(images),), 1 / float(images.abs().max()) ** 2)
    return Problem(MagnitudeImage(images.abs()[None], weights), operator)


def test_only_the_inversion_time_between_the_tissue_nulls_is_ambiguous(operator):
    signs = sign_images(operator, HEAD.new_zeros((3, MATRIX, MATRIX)).float())
    assert signs.ambiguous(HEAD) == ("t1inv[2]",)
    assert signs.coverage(HEAD, 7) == 1.0
    assert signs.coverage(HEAD, 8) < 0.02


def test_known_phases_are_those_of_any_mixture_of_smooth_maps(operator):
    signs = sign_images(operator, brain(MATRIX))
    mixture = torch.tensor([0.5, 0.2, 0.3])[:, None, None].expand(3, MATRIX, MATRIX)
    s = operator.forward(mixture)
    aligned = (s * signs.phase.conj()).real / s.abs()
    assert float(aligned[signs.known].min()) > 0.99


def test_phase_of_the_field_does_not_matter():
    turned = SyntheticOperator(T1INV, MATRIX, phase=3.0)
    straight = SyntheticOperator(T1INV, MATRIX, phase=0.0)
    like = brain(MATRIX)
    same = sign_images(turned, like).known == sign_images(straight, like).known
    assert float(same.float().mean()) > 0.98


def test_linear_start_is_close_whatever_the_given_start(operator):
    truth = brain(MATRIX)
    problem = _problem(operator, operator.forward(truth))
    signs = sign_images(operator, truth)
    starts = [torch.full_like(truth, 0.2)[None], cohort_mean(MATRIX)[None]]
    found = [sign_start(problem, SolverSettings(), x, signs, noise_known=False) for x in starts]
    inside = HEAD & (truth.sum(0) > 0.5)
    for start in found:
        assert "t1inv[2]" in start.message
        error = (start.x[0] - truth)[:, inside]
        assert float(error.square().mean().sqrt()) < 0.02
        assert start.products < 25


def test_start_is_kept_where_too_few_signs_are_known():
    operator = SyntheticOperator(T1INV[1:3] + T2PREP[:1], MATRIX)
    truth, x = brain(MATRIX), cohort_mean(MATRIX)[None]
    problem = _problem(operator, operator.forward(truth))
    signs = sign_images(operator, truth)
    start = sign_start(problem, SolverSettings(), x, signs, noise_known=False)
    assert start.x is x
    assert start.message.startswith("No sign start")
    assert "needs 3 contrasts" in start.message


def test_no_message_where_all_signs_are_known():
    operator = SyntheticOperator(T2PREP[:3], MATRIX)
    x = cohort_mean(MATRIX)[None]
    problem = _problem(operator, operator.forward(brain(MATRIX)))
    start = sign_start(problem, SolverSettings(), x, sign_images(operator, x), noise_known=False)
    assert start.message == ""
    assert start.x is x


def test_local_responses_are_those_of_single_voxels(operator):
    responses = local_responses(operator, brain(MATRIX), probes=20)
    impulse = torch.zeros((3, MATRIX, MATRIX))
    impulse[1, 11, 14] = 1.0
    exact = operator.forward(impulse)[:, 11, 14]
    error = (responses[1, :, 11, 14] - exact).abs().max()
    assert float(error) < 0.06 * float(exact.abs().max())


def test_search_turns_a_voxel_back_that_has_the_wrong_signs(operator):
    truth = brain(MATRIX)
    problem = _problem(operator, operator.forward(truth))
    wrong = truth.clone()
    wrong[:, 12, 7] = torch.tensor([0.9, 0.05, 0.05])
    assert float((wrong - truth).abs().max()) > 0.3
    search = SignSearch(
        problem, sign_images(operator, truth), local_responses(operator, truth, 20), False
    )
    better = search.propose(problem.point(wrong[None]))[0]
    change = (better - truth)[:, 12, 7].abs().max()
    assert float(change) < 0.3 * float((wrong - truth)[:, 12, 7].abs().max())


@pytest.mark.parametrize("contrasts", [T1INV, T1INV + T2PREP])
@pytest.mark.parametrize("seed", [0, 1])
def test_automatic_signs_reach_the_truth_and_never_do_worse(contrasts, seed):
    operator = SyntheticOperator(contrasts, MATRIX)
    truth, start = brain(MATRIX, seed), torch.full((3, MATRIX, MATRIX), 0.3)
    measurement = BatchMeasurement(operator.forward(truth).abs(), "magnitude")
    plain = invert(measurement, operator, solver=SolverSettings(signs="none"), start=start)
    signed = invert(measurement, operator, solver=SolverSettings(), start=start)
    if len(contrasts) == 4:
        assert min(psnr(plain.maps, truth)) < 30
    assert min(psnr(signed.maps, truth)) > 80
    assert signed.objective <= max(plain.objective, 1e-12)
    assert signed.status in (Status.CONVERGED, Status.MAX_ITERATIONS)
    assert "Sign start" in signed.message
    assert float(signed.maps.min()) >= 0


def test_refinement_ends_with_the_first_move_that_explains_the_data(operator, monkeypatch):
    truth = brain(MATRIX)
    wrong = truth.clone()
    wrong[:, 12, 7] = torch.tensor([0.9, 0.05, 0.05])
    problem = _problem(operator, operator.forward(truth))
    settings = SolverSettings()
    refinement = Refinement(problem, settings, sign_images(operator, truth), noise_known=False)
    fits, adapt = [], Refinement._adapt
    monkeypatch.setattr(
        Refinement, "_adapt", lambda self, *args: fits.append(adapt(self, *args)) or fits[-1]
    )
    found = refinement.run(torch.tensor([0]), wrong[None])
    assert float((found.p[0] - truth).abs().max()) < 1e-3
    enough = EXPLAINED * float(problem.fidelity.value(torch.zeros_like(found.s)))
    values = [float(fit.value) for fit in fits]
    assert values[-1] <= enough
    assert all(value > enough for value in values[:-1])
