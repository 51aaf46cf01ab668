"""Optuna's samplers and pruners by the names that a study uses."""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import seed_of
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.space import Choices, Dimension, Ints

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 8
"""Trials at random before TPE begins to model."""

WILCOXON_P = 0.1

LEARN_CONSTRAINTS = ("tpe", "gp")
"""Samplers that learn from what was set aside for its scan time."""


def distribution(dimension: Dimension) -> "optuna.distributions.BaseDistribution":
    """Return a dimension as Optuna names it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension, Ints):
        return IntDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
    return FloatDistribution(dimension.low, dimension.high, dimension.log)


def suggest(trial: "optuna.trial.Trial", path: str, dimension: Dimension) -> None:
    """Have a trial choose a value for a dimension."""
    if isinstance(dimension, Choices):
        trial.suggest_categorical(path, dimension.choices)
    elif isinstance(dimension, Ints):
        trial.suggest_int(
            path, dimension.low, dimension.high, log=dimension.log, step=dimension.step
        )
    else:
        trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log)


def make_sampler(config: SearchConfig, name: str, number: int) -> "optuna.samplers.BaseSampler":
    """Return a sampler for the proposal of a number.

    TPE models all settings together, those of one condition as a group of its own. A grid is not
    sampled but enqueued point by point.

    Raises
    ------
    InvalidInput
        If the sampler's package is not installed.
    """
    import optuna
    from optuna import samplers

    seed = seed_of("search", config.seed, name, number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.sampler == "tpe":
            return samplers.TPESampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True
            )
        if config.sampler == "gp":
            return samplers.GPSampler(seed=seed)
        if config.sampler == "cmaes":
            require_package("cmaes")
            return samplers.CmaEsSampler(seed=seed)
        return samplers.RandomSampler(seed=seed)


def make_pruner(config: SearchConfig) -> "optuna.pruners.BasePruner":
    """Return a pruner."""
    import optuna
    from optuna import pruners

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.pruner == "wilcoxon":
            return pruners.WilcoxonPruner(p_threshold=WILCOXON_P)
        return pruners.NopPruner()


def require_package(package: str) -> None:
    """Refuse a sampler whose package is missing.

    Raises
    ------
    InvalidInput
        With what to install.
    """
    if find_spec(package) is None:
        raise InvalidInput(
            f"sampler '{package}' needs the package {package}, it is not installed; "
            f"run 'pip install {package}' or use sampler 'tpe'"
        )
