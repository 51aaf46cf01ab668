"""What holds for every baseline, and how they are named, set and tuned."""

import pytest
import torch
from baseline_phantom import PointOperator, cohort, hard_head, measured, rmse, soft_head

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.baselines.baseline import TUNING_EVALUATIONS, Baseline
from bmapest_ray.baselines.catalogue import BASELINES, make_baseline, tune, tuning_grid
from bmapest_ray.baselines.cohort_mean import CohortMean
from bmapest_ray.simulate.measurement import Measurement, Signal

SIGNALS = list(Signal)


@pytest.fixture(params=BASELINES)
def name(request):
    return request.param


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("coils", [1, 2])
def test_maps_are_fractions_and_repeatable(name, signal, coils):
    operator = PointOperator(coils=coils)
    data = measured(operator, hard_head(), signal, noise=0.01)
    baseline = make_baseline(name)
    assert isinstance(baseline, Baseline)
    maps = baseline.estimate(data, operator, cohort())
    assert maps.shape == (3, 24, 24)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert maps.sum(0).max() <= 1 + 1e-6
    assert torch.equal(maps, make_baseline(name).estimate(data, operator, cohort()))
    assert rmse(maps, hard_head()) < (0.25 if name == "cohort-mean" else 0.1)


def test_the_unit_of_the_images_does_not_matter(name):
    small, large = PointOperator(), PointOperator()
    large.field = 1e4 * small.field
    data = measured(small, soft_head(), noise=0.01)
    scaled = Measurement(1e4 * data.images, data.signal, 1e4 * data.sigma)
    baseline = make_baseline(name)
    first = baseline.estimate(data, small, cohort())
    assert rmse(first, baseline.estimate(scaled, large, cohort())) < 1e-3


def test_grids_are_equally_large_and_without_repetition(name):
    grid = tuning_grid(name)
    assert len(grid) == TUNING_EVALUATIONS == len(set(grid))
    assert len({digest(settings) for settings in grid}) == len(grid)
    assert make_baseline(name) in grid


def test_tuning_keeps_the_first_best_and_counts():
    asked = []

    def score(baseline):
        asked.append(baseline)
        return -abs(baseline.smoothing_px - 0.44)

    tuned = tune("cohort-mean", score)
    assert tuned.baseline == CohortMean(0.4)
    assert tuned.evaluations == len(asked) == TUNING_EVALUATIONS
    assert tune("k-means", lambda _: 1.0).baseline == tuning_grid("k-means")[0]


def test_settings_are_checked():
    assert make_baseline("nnls", {"ridge": 0.1}).ridge == 0.1
    with pytest.raises(InvalidInput, match="did you mean 'k-means'"):
        make_baseline("kmeans")
    with pytest.raises(InvalidInput, match="did you mean 'ridge'"):
        make_baseline("nnls", {"rigde": 0.1})
    with pytest.raises(InvalidInput, match="wrong kind"):
        make_baseline("k-means", {"clusters": "three"})
    for kind, settings in [
        ("cohort-mean", {"smoothing_px": -1}),
        ("nnls", {"rounds": 0}),
        ("k-means", {"clusters": 2}),
        ("gaussian-mixture", {"background": 1}),
        ("gaussian-mixture", {"covariance": "round"}),
        ("fuzzy-c-means", {"fuzziness": 1}),
        ("bias-fuzzy-c-means", {"bias_width": 0}),
    ]:
        with pytest.raises(InvalidInput):
            make_baseline(kind, settings)


def test_inputs_are_checked(name):
    operator, baseline = PointOperator(), make_baseline(name)
    data = measured(operator, soft_head())
    batch = Measurement(data.images[None], data.signal)
    broken = Measurement(data.images * float("nan"), data.signal)
    for measurement, others, says in [
        (data, cohort()[:0], "at least one training subject"),
        (data, cohort()[..., :8, :8], "on the grid of the images"),
        (batch, cohort(), "one item of a batch"),
        (broken, cohort(), "finite"),
    ]:
        with pytest.raises(InvalidInput, match=says):
            baseline.estimate(measurement, operator, others)


def test_hardly_any_head_is_no_clustering_problem():
    operator = PointOperator()
    dot = torch.zeros(3, 24, 24)
    data = measured(operator, dot)
    with pytest.raises(InvalidInput, match="hold no head"):
        make_baseline("k-means").estimate(data, operator, dot[None])
    dot[0, 5, 6:8] = 1
    with pytest.raises(InvalidInput, match="more voxels in the head, got 2"):
        make_baseline("k-means").estimate(measured(operator, dot), operator, dot[None])


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skfuzzy.cluster", None)
    operator = PointOperator()
    with pytest.raises(MissingInput, match=r"bmapest_ray\[baselines\]"):
        make_baseline("fuzzy-c-means").estimate(measured(operator, hard_head()), operator, cohort())


def test_cohort_mean_is_the_mean_and_smoothing_keeps_its_sum():
    operator = PointOperator()
    data = measured(operator, soft_head())
    mean = CohortMean().estimate(data, operator, cohort())
    torch.testing.assert_close(mean, cohort().mean(0))
    smooth = CohortMean(0.8).estimate(data, operator, cohort())
    assert float(smooth.sum()) == pytest.approx(float(mean.sum()), rel=1e-3)
    assert smooth.diff(dim=1).square().sum() < 0.9 * mean.diff(dim=1).square().sum()
