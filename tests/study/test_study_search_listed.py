"""TPE on listed points: the two densities in closed form, and what becomes of them."""

import math

import numpy as np
import optuna
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters

from bmapest_ray.study.search_listed import Tried, _log_density, is_listed, most_promising
from bmapest_ray.study.space import make_space

SPACE = make_space({"a": ["x", "y"], "b": [1, 2, 3], "c": {"choices": [0, 1], "when": {"a": "y"}}})


def test_only_few_choices_are_listed() -> None:
    assert is_listed(SPACE)
    assert not is_listed(make_space({"d": {"low": 0.0, "high": 1.0}}))
    assert not is_listed(make_space({f"s{i}": [True, False] for i in range(13)}))


def test_without_trials_the_draw_decides() -> None:
    free = [{"a": "x", "b": 1}, {"a": "x", "b": 2}]
    assert [most_promising(free, [], draw) for draw in (0, 1, 2)] == [0, 1, 0]


def test_the_densities_are_those_of_optuna() -> None:
    space = {"a": optuna.distributions.CategoricalDistribution(["x", "y"]),
             "b": optuna.distributions.CategoricalDistribution([1, 2, 3])}  # fmt: skip
    seen = [{"a": "x", "b": 1}, {"a": "x", "b": 3}, {"a": "y", "b": 3}]
    at = [{"a": a, "b": b} for a in "xy" for b in (1, 2, 3)]

    def coded(points: list[dict[str, object]]) -> dict[str, np.ndarray]:
        return {k: np.array([d.choices.index(p[k]) for p in points]) for k, d in space.items()}

    settings = _ParzenEstimatorParameters(
        prior_weight=1.0, consider_magic_clip=True, consider_endpoints=False,
        weights=lambda n: np.ones(n), multivariate=True,
    )  # fmt: skip
    theirs = _ParzenEstimator(coded(seen), space, settings).log_pdf(coded(at))
    ours = _log_density(at, seen, ["a", "b"])
    assert np.allclose(ours - ours[0], theirs - theirs[0], atol=1e-12)


def test_the_neighbour_of_the_good_is_chosen_and_failures_repel() -> None:
    tried = [Tried({"a": "x", "b": b}, 5.0 + b) for b in (1, 2)]
    tried += [Tried({"a": "y", "b": 1, "c": 1}, 1.0), Tried({"a": "y", "b": 1, "c": 0}, math.inf)]
    tried += [Tried({"a": "y", "b": 2, "c": 0}, None)]
    free = [{"a": "x", "b": 3}, {"a": "y", "b": 2, "c": 1}, {"a": "y", "b": 3, "c": 0}]
    assert most_promising(free, tried, draw=5) == 1
