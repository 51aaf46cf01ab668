"""Which searched settings matter: Optuna's importances, as plain tables."""

import warnings
from collections.abc import Mapping, Sequence

from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.search_samplers import distribution
from bmapest_ray.study.status import Stage, TrialStatus

FEWEST = 4
"""Complete trials below which importances are noise."""


def importances(
    trials: Sequence[TrialRecord], config: SearchConfig, *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return protocol -> setting -> share of the objective's variance, by functional ANOVA [1]_.

    Parameters
    ----------
    trials
        Trials of all protocols; only complete search trials count.
    config
        The study's ``search`` section.
    seed
        Of the random forest.

    Returns
    -------
    dict
        Shares sum to 1, most important first; protocols with fewer than `FEWEST` complete trials,
        or whose objective never changed, are left out.

    References
    ----------
    .. [1] Hutter, Hoos & Leyton-Brown, ICML 2014, PMLR 32:754.
    """
    by_protocol: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        if trial.key.stage is Stage.SEARCH and trial.status is TrialStatus.COMPLETE:
            by_protocol.setdefault(trial.key.protocol, []).append(trial)
    found = {label: _of_one(rows, config, seed) for label, rows in by_protocol.items()}
    return {label: shares for label, shares in found.items() if shares}


def _of_one(trials: Sequence[TrialRecord], config: SearchConfig, seed: int) -> dict[str, float]:
    import optuna

    values = {trial.value for trial in trials}
    if len(trials) < FEWEST or len(values) < 2 or not config.space:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {path: distribution(d) for path, d in config.space.items()}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for trial in trials:
        if set(distributions) <= set(trial.settings):
            study.add_trial(
                optuna.trial.create_trial(
                    params={path: trial.settings[path] for path in distributions},
                    distributions=distributions,
                    value=trial.value,
                )
            )
    if len(study.trials) < FEWEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=seed)
        shares: Mapping[str, float] = optuna.importance.get_param_importances(
            study, evaluator=evaluator
        )
    return {name: float(share) for name, share in shares.items()}
