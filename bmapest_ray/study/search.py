"""Proposing configurations: the only place that knows Optuna.

Every protocol has a search of its own, named ``<study>/<protocol>`` in one journal, so that all get
the same number of trials: searching them together would spend the budget on whichever led early.
One driver asks and tells. A trial that diverged or failed is told as failed and has no value; it
counts towards the budget. A trial that a killed driver left running is adopted when the study is
resumed: its settings are in the journal, so it goes on under the same number.
"""

import itertools
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import seed_of
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.space import Choices, Dimension, Ints, Value, grid, grid_size
from bmapest_ray.study.status import TrialStatus

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage


@dataclass(frozen=True)
class Proposal:
    """A configuration to try."""

    number: int
    settings: Mapping[str, Value]


class Search:
    """The search for the best settings of one protocol.

    Parameters
    ----------
    name
        ``<study>/<protocol>``.
    config
        The study's ``search`` section.
    maximize
        Direction of the objective.
    storage
        Where the search is kept, see `open_storage`; the searches of a study share one.
    """

    def __init__(
        self, name: str, config: SearchConfig, *, maximize: bool, storage: "BaseStorage"
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._name, self._config = name, config
        self._distributions = {path: distribution(d) for path, d in config.space.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                study_name=name,
                storage=storage,
                sampler=_sampler(config, name, 0),
                pruner=_pruner(config),
                direction="maximize" if maximize else "minimize",
                load_if_exists=True,
            )
        self._live: dict[int, optuna.trial.Trial] = {}
        self._reported: dict[int, set[int]] = {}
        self._adopted: list[optuna.trial.FrozenTrial] = []

    @property
    def budget(self) -> int:
        """Number of trials."""
        whole = self._config.sampler in ("grid", "brute")
        size = grid_size(self._config.space) if whole else None
        limits = [n for n in (self._config.n_trials, size) if n is not None]
        return min(limits)

    @property
    def started(self) -> int:
        """Number of trials that were proposed, now or before."""
        return len(self._proposed())

    def resume(self, finished: Iterable[TrialRecord]) -> None:
        """Catch up with the disk after a driver was killed.

        Trials that are finished on disk are told; those still running are adopted, to be proposed
        first; those that were cut short while being proposed are failed.
        """
        import optuna

        for trial in finished:
            self.tell(trial.key.number, trial.status, trial.value)
        running = (optuna.trial.TrialState.RUNNING,)
        for left in self._study.get_trials(deepcopy=False, states=running):
            if set(self._distributions) <= set(left.params):
                self._adopted.append(left)
            else:
                self._study.tell(left.number, state=optuna.trial.TrialState.FAIL)

    def ask(self) -> Proposal | None:
        """Propose the next configuration, adopted ones first; None when the budget is spent."""
        if self._adopted:
            return self._live_again(self._adopted.pop(0))
        count = self.started
        if count >= self.budget:
            return None
        if self._config.sampler in ("grid", "brute") and not self._waiting():
            point = next(itertools.islice(grid(self._config.space), count, None))
            self._study.enqueue_trial(point)
        self._reseed(count)
        trial = self._study.ask(self._distributions)
        self._live[trial.number] = trial
        return Proposal(trial.number, dict(trial.params))

    def report(self, number: int, step: int, value: float) -> bool:
        """Report the value of one subject; returns whether the trial should stop."""
        if self._config.pruner == "none":
            return False
        trial, seen = self._live[number], self._reported.setdefault(number, set())
        if step not in seen:
            seen.add(step)
            trial.report(value, step)
        return trial.should_prune()

    def tell(self, number: int, status: TrialStatus, value: float | None = None) -> None:
        """Say how a trial ended; telling it again changes nothing."""
        import optuna

        states = {
            TrialStatus.COMPLETE: optuna.trial.TrialState.COMPLETE,
            TrialStatus.PRUNED: optuna.trial.TrialState.PRUNED,
            TrialStatus.FAILED: optuna.trial.TrialState.FAIL,
        }
        told = value if status is TrialStatus.COMPLETE else None
        self._study.tell(number, told, state=states[status], skip_if_finished=True)
        self._live.pop(number, None)
        self._reported.pop(number, None)

    def best(self) -> Proposal | None:
        """Return the best complete trial; None if there is none."""
        try:
            trial = self._study.best_trial
        except ValueError:
            return None
        return Proposal(trial.number, dict(trial.params))

    @property
    def best_value(self) -> float | None:
        """Value of the best complete trial."""
        best = self.best()
        return None if best is None else self._study.trials[best.number].value

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state."""
        states = [trial.state.name for trial in self._proposed()]
        return {name: states.count(name) for name in sorted(set(states))}

    def _proposed(self) -> "list[optuna.trial.FrozenTrial]":
        """Return trials with all their settings; one that was cut short while asking has not."""
        whole = set(self._distributions)
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if whole <= set(t.params)]

    def _reseed(self, count: int) -> None:
        """Give each proposal a sampler of its own seed.

        A resumed search then proposes what it would have proposed, not its first points again.
        """
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = _sampler(self._config, self._name, count)

    def _waiting(self) -> bool:
        import optuna

        return bool(self._study.get_trials(False, (optuna.trial.TrialState.WAITING,)))

    def _live_again(self, frozen: "optuna.trial.FrozenTrial") -> Proposal:
        import optuna

        self._live[frozen.number] = optuna.trial.Trial(self._study, frozen._trial_id)
        self._reported[frozen.number] = set(frozen.intermediate_values)
        return Proposal(frozen.number, dict(frozen.params))


def distribution(dimension: Dimension) -> "optuna.distributions.BaseDistribution":
    """Return a dimension as Optuna names it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension, Ints):
        return IntDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
    return FloatDistribution(dimension.low, dimension.high, dimension.log)


def _sampler(config: SearchConfig, name: str, number: int) -> "optuna.samplers.BaseSampler":
    from optuna import samplers

    seed = seed_of("search", config.seed, name, number)
    if config.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=8)
    if config.sampler == "gp":
        return samplers.GPSampler(seed=seed)
    if config.sampler == "cmaes":
        _require("cmaes")
        return samplers.CmaEsSampler(seed=seed)
    return samplers.RandomSampler(seed=seed)  # a grid is enqueued point by point


def _require(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise InvalidInput(
            f"sampler '{package}' needs the package {package}, it is not installed; "
            f"run 'pip install {package}' or use sampler 'tpe'"
        )


def _pruner(config: SearchConfig) -> "optuna.pruners.BasePruner":
    from optuna import pruners

    if config.pruner == "wilcoxon":
        return pruners.WilcoxonPruner(p_threshold=0.1)
    return pruners.NopPruner()


def open_storage(journal: Path | None) -> "BaseStorage":
    """Open the journal of a study; None keeps searches in memory."""
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if journal is None:
        return InMemoryStorage()
    heal_journal(journal)
    return JournalStorage(JournalFileBackend(str(journal)))


def heal_journal(journal: Path) -> None:
    """Remove what a killed driver may leave: its lock, and a last line that was cut short.

    Only the one driver of a study may call this.
    """
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(journal, whole)
