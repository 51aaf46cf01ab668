"""Optuna's journal of a study, made again from the trials on disk."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.objective import make_objective
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.search_samplers import directions_of, distribution, state_of
from bmapest_ray.study.search_storage import heal_journal, open_storage
from bmapest_ray.study.space import Choices, Dimension
from bmapest_ray.study.status import Stage, TrialStatus
from bmapest_ray.study.store import StudyStore

if TYPE_CHECKING:
    import optuna

JOURNAL = "optuna.journal"


def rebuild_journal(config: StudyConfig, store: StudyStore) -> int:
    """Write the journal anew; one that is there is kept beside it as ``optuna.journal.old``.

    Numbers that left nothing on disk become failed trials without settings, so that every trial
    keeps its own number. Running trials are left out: resuming proposes them again.

    Returns
    -------
    int
        Number of trials in the journal.
    """
    import optuna

    searched = [t for t in store.trials() if t.key.stage is Stage.SEARCH]
    if not searched:
        return 0
    journal = store.file(JOURNAL)
    heal_journal(journal)
    if journal.exists():
        journal.replace(journal.with_name(f"{JOURNAL}.old"))
    storage = open_storage(journal)
    maximize = make_objective(config.search.objective).maximize
    count = 0
    for label in dict.fromkeys(trial.key.protocol for trial in searched):
        study = optuna.create_study(
            study_name=f"{config.name}/{label}",
            storage=storage,
            directions=directions_of(config.search, maximize=maximize),
        )
        mine = [t for t in searched if t.key.protocol == label]
        study.add_trials(_frozen(mine, config))
        count += len(study.get_trials(deepcopy=False))
    return count


def _frozen(trials: Sequence[TrialRecord], config: StudyConfig) -> "list[optuna.trial.FrozenTrial]":
    """Return trials in the order of their numbers, gaps filled."""
    import optuna

    ended = {t.key.number: t for t in trials if t.status is not TrialStatus.RUNNING}
    made = []
    for number in range(max(ended, default=-1) + 1):
        trial = ended.get(number)
        if trial is None:
            made.append(optuna.create_trial(state=optuna.trial.TrialState.FAIL))
            continue
        known: dict[str, Dimension] = {
            path: config.search.space.get(path, Choices((True, False))) for path in trial.settings
        }
        made.append(
            optuna.create_trial(
                state=state_of(trial.status),
                values=_values(trial, pareto=config.search.pareto),
                params=dict(trial.settings),
                distributions={path: distribution(d) for path, d in known.items()},
            )
        )
    return made


def _values(trial: TrialRecord, *, pareto: bool) -> list[float] | None:
    if trial.status is not TrialStatus.COMPLETE or trial.value is None:
        return None
    return [trial.value, trial.scan_time_s or 0.0] if pareto else [trial.value]
