import numpy as np
import pytest
import torch
from baseline_phantom import PointOperator, cohort, hard_head, measured, rmse, soft_head

from bmapest_ray.baselines.bias_fuzzy import BiasFuzzyCMeans, BiasSteps
from bmapest_ray.baselines.clusterings import FuzzyCMeans, GaussianMixture, KMeans
from bmapest_ray.baselines.clusters import (
    maps_of_clusters,
    starting_centres,
    tissues_of_clusters,
)
from bmapest_ray.baselines.signals import Features, make_features, tissue_signals
from bmapest_ray.simulate.measurement import Measurement

ALL = [
    KMeans(),
    KMeans(clusters=5),
    GaussianMixture(),
    GaussianMixture(covariance="diag"),
    FuzzyCMeans(fuzziness=1.3),
    BiasFuzzyCMeans(fuzziness=1.3, neighbours=0),
]


@pytest.mark.parametrize("baseline", ALL, ids=str)
@pytest.mark.parametrize("coils", [1, 2])
def test_pure_tissue_under_known_shading_is_labelled_right(baseline, coils):
    operator = PointOperator(coils=coils, shading=0.8)
    data = measured(operator, hard_head(), noise=0.002)
    maps = baseline.estimate(data, operator, cohort())
    head = hard_head().sum(0) > 0
    assert (maps.argmax(0) == hard_head().argmax(0))[head].float().mean() > 0.995
    assert maps[:, ~head].abs().max() < 0.2


def test_half_empty_voxels_are_half_filled():
    truth = hard_head()
    operator = PointOperator()
    found = make_features(measured(operator, truth), operator, cohort(), 0.1)
    images = found.images.copy()
    images[:, 11:14] *= 0.5
    half = Features(images, found.prototypes, found.inside)
    membership = truth.numpy()[:, found.inside].T
    maps = maps_of_clusters(half, membership, found.prototypes, truth)
    truth[:, 11:14] *= 0.5
    torch.testing.assert_close(maps, truth, atol=1e-5, rtol=0)


def test_tissue_signals_are_those_of_pure_tissue():
    operator = PointOperator(coils=2)
    signals = tissue_signals(operator, 3, 24, torch.device("cpu"))
    assert signals.shape == (8, 3, 24, 24)
    images = operator.forward(soft_head()).numpy()
    mixed = np.einsum("ctyx,tyx->cyx", signals, soft_head().numpy())
    np.testing.assert_allclose(images, mixed, atol=1e-6)


def test_features_are_free_of_coils_and_shading():
    operator = PointOperator(coils=2, shading=1.0)
    found = make_features(measured(operator, hard_head()), operator, cohort(), 0.1)
    assert found.images.shape == (4, 24, 24)
    assert found.prototypes.max() == pytest.approx(1)
    for tissue in range(3):
        inside = hard_head()[tissue].numpy() > 0
        spread = found.images[:, inside] - found.prototypes[tissue][:, None]
        assert np.abs(spread).max() < 1e-5


PROTOTYPES = np.array([[1.0, 0.0], [0.0, 1.0], [0.2, 1.2]])


def test_clusters_find_their_tissues_in_any_order():
    order = [2, 0, 1]
    np.testing.assert_array_equal(
        tissues_of_clusters(PROTOTYPES[order], PROTOTYPES), np.eye(3)[order]
    )
    crowded = np.array([[0.0, 1.0], [0.02, 1.02], [0.2, 1.1]])  # none near the first tissue
    assert tissues_of_clusters(crowded, PROTOTYPES).argmax(1).tolist() == [1, 0, 2]


def test_clusters_left_over_are_mixtures():
    start = starting_centres(PROTOTYPES, 5)
    shares = tissues_of_clusters(start, PROTOTYPES)
    np.testing.assert_allclose(shares[:4], [*np.eye(3), [0.5, 0.5, 0]], atol=1e-12)
    np.testing.assert_allclose(shares[4] @ PROTOTYPES, start[4], atol=0.05)
    np.testing.assert_allclose(shares.sum(1), 1)
    partial = KMeans(clusters=6).estimate(*mixed())
    assert (
        rmse(partial, half_and_half()) < 0.01 < rmse(KMeans().estimate(*mixed()), half_and_half())
    )


def half_and_half():
    maps = hard_head()
    border = hard_head()[0] * (torch.arange(24) % 2 == 0)
    maps[0] -= border / 2
    maps[1] += border / 2
    return maps


def mixed():
    operator = PointOperator()
    return measured(operator, half_and_half()), operator, cohort()


@pytest.fixture
def shaded():
    """Images whose bias the operator does not know."""
    operator = PointOperator(shading=0)
    x = torch.linspace(-1, 1, 24)
    bias = torch.stack([1 + s * x[None] + 0.1 * x[:, None] for s in (0.35, -0.3, 0.3, 0.2)])
    data = measured(operator, hard_head(), noise=0.003)
    return operator, Measurement(data.images * bias, data.signal, data.sigma), bias.numpy()


def steps_of(operator, data, settings):
    found = make_features(data, operator, cohort(), settings.background)
    return BiasSteps(found.images, found.inside, found.prototypes, settings)


@pytest.mark.parametrize("neighbours", [0.0, 0.5])
@pytest.mark.parametrize("fuzziness", [1.5, 2.0, 3.0])
def test_every_round_lowers_the_objective(shaded, neighbours, fuzziness):
    operator, data, _ = shaded
    steps = steps_of(operator, data, BiasFuzzyCMeans(fuzziness, neighbours))
    steps.run()
    history = np.array(steps.objective)
    assert len(history) > 5
    assert (np.diff(history) <= 1e-9 * history[0]).all()
    assert history[-1] < 0.9 * history[0]


def test_an_unknown_bias_is_found(shaded):
    operator, data, bias = shaded
    steps = steps_of(operator, data, BiasFuzzyCMeans(fuzziness=1.5, neighbours=0))
    steps.run()
    inside = steps.inside
    for image in range(3):
        truth = bias[image][inside]
        found = steps.bias[image][inside]
        assert np.corrcoef(found, truth)[0, 1] > 0.95
        assert found.mean() == pytest.approx(1)
    truth = hard_head()
    corrected = BiasFuzzyCMeans(fuzziness=1.5, neighbours=0).estimate(data, operator, cohort())
    plain = FuzzyCMeans(fuzziness=1.5).estimate(data, operator, cohort())
    assert rmse(corrected, truth) < 0.7 * rmse(plain, truth)


def test_neighbours_suppress_noise():
    operator = PointOperator()
    data = measured(operator, hard_head(), noise=0.1)
    errors = [
        rmse(BiasFuzzyCMeans(1.5, weight).estimate(data, operator, cohort()), hard_head())
        for weight in (0.0, 0.3)
    ]
    assert errors[1] < 0.95 * errors[0]
