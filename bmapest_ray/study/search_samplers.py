"""Optuna's samplers and pruners by the names that a study uses."""

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import seed_of
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.search_listed import Tried
from bmapest_ray.study.space import Choices, Dimension, Ints
from bmapest_ray.study.status import TrialStatus

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 8
"""Trials at random before TPE begins to model."""

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
            return pruners.WilcoxonPruner(p_threshold=config.pruner_p)
        if config.pruner == "hyperband":
            first, *others = config.rungs
            ratio = others[0] // first if others else 3
            return pruners.HyperbandPruner(first, config.rungs[-1] * ratio, ratio)
        return pruners.NopPruner()


def learn_excess(trial: "optuna.trial.Trial", excess_s: float, config: SearchConfig) -> None:
    """Tell a sampler that can learn it by how much a proposal takes too long on the scanner."""
    import optuna

    if config.sampler in LEARN_CONSTRAINTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial.set_constraint("scan_time", excess_s)


def directions_of(config: SearchConfig, *, maximize: bool) -> "list[optuna.study.StudyDirection]":
    """Return where the objective should go and, for a Pareto front, scan time."""
    from optuna.study import StudyDirection

    direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
    return [direction, StudyDirection.MINIMIZE] if config.pareto else [direction]


def state_of(status: TrialStatus) -> "optuna.trial.TrialState":
    """Return how a trial stands as Optuna names it."""
    from optuna.trial import TrialState

    names = {"COMPLETE": "COMPLETE", "PRUNED": "PRUNED", "FAILED": "FAIL", "RUNNING": "RUNNING"}
    return TrialState[names[status]]


def tried_of(trials: "Sequence[optuna.trial.FrozenTrial]", *, maximize: bool) -> list[Tried]:
    """Return what was tried, with a loss each.

    One that was pruned is as much worse than the best trial as it was on the subjects that both
    have seen.
    """
    sign = -1.0 if maximize else 1.0
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    best = min(complete, key=lambda t: sign * t.values[0], default=None)
    tried = []
    for trial in trials:
        loss = math.inf if best is None else _estimate(trial, best, sign)
        if trial.state.name == "COMPLETE":
            loss = sign * trial.values[0]
        tried.append(Tried(trial.params, loss if trial.state.is_finished() else None))
    return tried


def _estimate(
    trial: "optuna.trial.FrozenTrial", best: "optuna.trial.FrozenTrial", sign: float
) -> float:
    seen, known = trial.intermediate_values, best.intermediate_values
    shared = seen.keys() & known.keys()
    if trial.state.name != "PRUNED" or not shared:
        return math.inf
    behind = fmean(sign * (seen[step] - known[step]) for step in shared)
    return float(sign * best.values[0] + behind)


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
