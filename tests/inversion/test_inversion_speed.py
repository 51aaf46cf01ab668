"""What makes a fit cheap must not change where it ends: stand-ins, early sign searches."""

from dataclasses import replace

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain, cohort_mean, psnr

from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.coarse import Blend
from bmapest_ray.inversion.leap import HELPFUL, LeapingGaussNewton
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert, invert_batch

MATRIX = 24
ALL = T1INV + T2PREP


class Rough(SyntheticOperator):
    """An operator whose stand-in has weights that are off by a given share."""

    def __init__(self, error, contrasts=ALL):
        super().__init__(contrasts, MATRIX)
        self.error, self.cheap = error, SyntheticOperator(contrasts, MATRIX)
        draw = torch.randn(self.weights.shape, generator=generator("rough"), dtype=torch.float64)
        self.cheap.weights = self.weights * (1 + error * draw).to(self.weights.dtype)
        self.asked = []

    def coarse(self, tolerance):
        self.asked.append(tolerance)
        return self.cheap


def solved(operator, maps, *, noise=0.0, **settings):
    images = operator.forward(maps)
    rng = generator("speed")
    draw = torch.randn((2, *images.shape), generator=rng)
    images = images + noise * torch.complex(*draw)
    sigma = torch.full((len(operator.channels),), noise) if noise else None
    data = BatchMeasurement(images.abs(), "magnitude", sigma)
    start = cohort_mean(MATRIX)
    return invert(data, operator, solver=SolverSettings(**settings), start=start)


@pytest.mark.parametrize("error", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_stand_in_changes_the_way_and_not_the_end(error, noise):
    maps = brain(MATRIX)
    plain = solved(SyntheticOperator(ALL, MATRIX), maps, noise=noise)
    rough = Rough(error)
    found = solved(rough, maps, noise=noise)
    assert rough.asked
    assert found.status == plain.status
    if noise:  # signs near zero may fall either way, in minima of the same depth
        assert found.objective == pytest.approx(plain.objective, rel=0.01)
    else:
        assert float((found.maps - plain.maps).square().mean().sqrt()) < 1e-5


def test_each_item_of_a_blend_has_its_own_model():
    full, cheap = SyntheticOperator(ALL, MATRIX), Rough(0.1).cheap
    p = torch.stack([brain(MATRIX, seed) for seed in range(3)])
    for flags in ([True, False, True], [False] * 3, [True] * 3):
        blend = Blend(full, cheap, torch.tensor(flags))
        images = torch.stack(
            [(full if f else cheap).forward(x) for f, x in zip(flags, p, strict=True)]
        )
        torch.testing.assert_close(blend.jvp(p, p), images)
        maps = torch.stack(
            [(full if f else cheap).adjoint(s) for f, s in zip(flags, images, strict=True)]
        )
        torch.testing.assert_close(blend.vjp(p, images), maps)


def test_an_item_leaves_its_stand_in_where_that_misleads():
    assert _full_forwards(Rough(0.5)) > 1.5 * _full_forwards(Rough(0.0))


def _full_forwards(operator):
    """Forwards of the full model in one fit."""
    calls, forward = [], operator.forward
    operator.forward = lambda p: calls.append(p) or forward(p)
    solved(operator, brain(MATRIX), signs="none")
    return len(calls)


def test_a_stuck_fit_leaps_before_it_has_converged(monkeypatch):
    shares = []
    advance = LeapingGaussNewton.advance

    def watched(self, progress):
        advance(self, progress)
        shares.append((progress.iteration, float(progress.extra["leapt"][0])))

    monkeypatch.setattr(LeapingGaussNewton, "advance", watched)
    maps = brain(MATRIX, 1)
    found = solved(SyntheticOperator(T1INV, MATRIX), maps)
    assert min(psnr(found.maps, maps)) > 80
    first = next(iteration for iteration, share in shares if share > 0)
    assert first < shares[-1][0]
    assert "sign search lowered the objective" in found.message


def test_a_leap_that_does_not_help_is_the_last_one_and_moves_nothing(monkeypatch):
    from bmapest_ray.inversion.refine import Refinement

    tried = []
    monkeypatch.setattr(
        Refinement, "leap", lambda _, items, point: tried.append(items.tolist()) or point
    )
    maps = brain(MATRIX, 1)
    found = solved(SyntheticOperator(T1INV, MATRIX), maps)
    assert tried == [[0]]
    assert HELPFUL < 1.0
    assert min(psnr(found.maps, maps)) > 80  # the refinement at the end still finds the signs


def test_leaps_do_not_depend_on_the_neighbours():
    operator = SyntheticOperator(T1INV, MATRIX)
    maps = torch.stack([brain(MATRIX, seed) for seed in range(3)])
    data = BatchMeasurement(operator.forward(maps).abs(), "magnitude")
    start = cohort_mean(MATRIX)
    together = invert_batch(data, operator, solver=SolverSettings(), start=start)
    for item in range(3):
        one = replace(data, images=data.images[item])
        alone = invert(one, operator, solver=SolverSettings(), start=start)
        torch.testing.assert_close(alone.maps, together[item].maps, atol=1e-5, rtol=0)
