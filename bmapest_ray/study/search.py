"""Proposing configurations: asking Optuna, and telling it how trials ended.

Every protocol has a search of its own, named ``<study>/<protocol>`` in one storage, so that all get
the same number of trials: searching them together would spend the budget on whichever led early.
Drivers ask in turn. A trial that diverged or failed is told as failed and has no value; it counts
towards the budget. A trial that a dead driver left running is adopted, by whoever asks next: its
settings are in the storage, so it goes on under the same number.

Proposals over the limit of scan time, or made before, are set aside at once, cost no job and do not
count; spaces of few points are listed instead, see `bmapest_ray.study.search_listed`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from bmapest_ray.base.seeding import seed_of
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.crew import Alone, Crew
from bmapest_ray.study.proposal import Proposal, ScanTime
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.search_listed import is_listed, most_promising
from bmapest_ray.study.search_samplers import (
    STARTUP_TRIALS,
    directions_of,
    learn_excess,
    make_pruner,
    make_sampler,
    state_of,
    suggest,
    tried_of,
)
from bmapest_ray.study.space import Space, Value, grid, is_finite, is_whole
from bmapest_ray.study.status import TrialStatus

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

_ASIDE = "set aside"
_TRIES = 20
"""Proposals in a row that may be set aside before a free point of a finite space is drawn."""


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
        Where the search is kept, see `search_storage`; the searches of a study share one.
    crew
        Who else asks and tells; None is nobody.
    space
        What is searched; None is ``config.space``.
    scan_time
        What configurations cost on the scanner; None where all cost the same.
    seed_name
        What seeds the proposals besides ``config.seed``; None is `name`.
    """

    def __init__(
        self,
        name: str,
        config: SearchConfig,
        *,
        maximize: bool,
        storage: "BaseStorage",
        crew: Crew | None = None,
        space: Space | None = None,
        scan_time: ScanTime | None = None,
        seed_name: str | None = None,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._name, self._seed_name = name, seed_name or name
        self._config, self._crew = config, crew or Alone()
        self._space = dict(config.space if space is None else space)
        self._maximize, self._scan_time = maximize, scan_time or ScanTime(lambda _: 0.0)
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=make_sampler(config, self._seed_name, 0),
            pruner=make_pruner(config),
            directions=directions_of(config, maximize=maximize),
            load_if_exists=True,
        )
        self._whole_grid = config.sampler in ("grid", "brute")
        learns = config.sampler == "tpe" and not config.pareto
        picks = (learns or config.sampler == "random") and is_listed(self._space)
        self._picks = self._whole_grid or picks
        self._live: dict[int, optuna.trial.Trial] = {}
        self._reported: dict[int, set[int]] = {}

    @property
    def budget(self) -> int:
        """Number of trials."""
        size = len(self._points) if self._whole_grid else None
        limits = [n for n in (self._config.n_trials, size) if n is not None]
        return min(limits)

    @property
    def started(self) -> int:
        """Number of trials that were proposed, now or before."""
        return len(self._proposed())

    def warm_start(self, settings: Iterable[Mapping[str, Value]]) -> None:
        """Propose these configurations first; only before the first proposal."""
        if not self._study.get_trials(deepcopy=False):
            for point in settings:
                self._study.enqueue_trial(dict(point), skip_if_exists=True)

    def resume(self, finished: Iterable[TrialRecord]) -> None:
        """Catch up with the disk after a driver was killed: tell what is finished there."""
        for trial in finished:
            self.tell(trial.key.number, trial.status, trial.value, trial.settings)

    @property
    def others_at_work(self) -> bool:
        """Whether a trial runs that this driver has not."""
        return not self._crew.is_alone and bool(self._running_elsewhere())

    def ask(self) -> Proposal | None:
        """Propose the next configuration, adopted ones first; None when the budget is spent."""
        with self._crew.turn(self._name):
            return self._adopt() or self._propose()

    def report(self, number: int, step: int, value: float) -> bool:
        """Report the value of one subject or rung; returns whether the trial should stop."""
        if self._config.pruner == "none":
            return False
        trial, seen = self._live[number], self._reported.setdefault(number, set())
        if step not in seen:
            seen.add(step)
            trial.report(value, step)
        return trial.should_prune()

    def tell(
        self,
        number: int,
        status: TrialStatus,
        value: float | None = None,
        settings: Mapping[str, Value] | None = None,
    ) -> None:
        """Say how a trial ended; telling it again changes nothing."""
        import optuna

        seconds = [self._scan_time.seconds_of(settings or {})] if self._config.pareto else []
        complete = status is TrialStatus.COMPLETE
        values = [value, *seconds] if complete and value is not None else None
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # told before an answer was lost
            self._study.tell(number, values, state=state_of(status), skip_if_finished=True)
        self._live.pop(number, None)
        self._reported.pop(number, None)

    def best(self) -> Proposal | None:
        """Return the best complete trial by the objective; None if there is none."""
        complete = [trial for trial in self._proposed() if trial.state.name == "COMPLETE"]
        if not complete:
            return None
        best = (max if self._maximize else min)(complete, key=lambda trial: trial.values[0])
        return Proposal(best.number, dict(best.params))

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state."""
        states = [trial.state.name for trial in self._proposed()]
        return {name: states.count(name) for name in sorted(set(states))}

    # -- other drivers' trials -----------------------------------------------------------------

    def _running_elsewhere(self) -> "list[optuna.trial.FrozenTrial]":
        import optuna

        running = (optuna.trial.TrialState.RUNNING,)
        trials = self._study.get_trials(deepcopy=False, states=running)
        return [trial for trial in trials if trial.number not in self._live]

    def _adopt(self) -> Proposal | None:
        """Take over what a dead driver left; a trial cut short while it was proposed is failed."""
        import optuna

        for left in self._running_elsewhere():
            if not self._crew.take(f"trial/{self._name}/{left.number}"):
                continue
            if is_whole(self._space, left.params) and _ASIDE not in left.user_attrs:
                self._live[left.number] = optuna.trial.Trial(self._study, left._trial_id)
                self._reported[left.number] = set(left.intermediate_values)
                return Proposal(left.number, dict(left.params))
            self._study.tell(left.number, state=optuna.trial.TrialState.FAIL)
        return None

    # -- new ones ------------------------------------------------------------------------------

    def _propose(self) -> Proposal | None:
        for _ in range(_TRIES):
            if self.started >= self.budget or self._is_stagnant():
                return None
            if self._picks and not self._enqueue_unseen():
                return None
            trial = self._ask()
            if not self._set_aside(trial):
                return self._begin(trial)
        if not is_finite(self._space) or not self._enqueue_unseen():
            return None
        return self._begin(self._ask())

    def _begin(self, trial: "optuna.trial.Trial") -> Proposal:
        self._live[trial.number] = trial
        self._crew.take(f"trial/{self._name}/{trial.number}")
        if not self._crew.is_alone:
            trial.set_user_attr("driver", self._crew.driver)
        return Proposal(trial.number, dict(trial.params))

    def _ask(self) -> "optuna.trial.Trial":
        """Ask a sampler of the proposal's own seed.

        A resumed search then proposes what it would have proposed, not its first points again.
        """
        self._study.sampler = make_sampler(
            self._config, self._seed_name, len(self._with_settings())
        )
        trial = self._study.ask()
        for path, dimension in self._space.items():
            if dimension.is_active(trial.params):
                suggest(trial, path, dimension)
        return trial

    def _set_aside(self, trial: "optuna.trial.Trial") -> bool:
        """End a proposal that costs too much scan time or is not new."""
        import optuna

        excess_s = self._scan_time.excess_s(trial.params)
        if excess_s > 0:
            trial.set_user_attr(_ASIDE, "scan time")
            learn_excess(trial, excess_s, self._config)
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return True
        if any(other.params == trial.params for other in self._proposed(but=trial.number)):
            trial.set_user_attr(_ASIDE, "not new")
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return True
        return False

    def _is_stagnant(self) -> bool:
        """Whether the best has stood for as many ended trials as the study has patience."""
        best, patience = self.best(), self._config.patience
        if best is None or patience is None:
            return False
        ended = [t for t in self._proposed() if t.state.is_finished() and t.number > best.number]
        return len(ended) >= patience

    @cached_property
    def _points(self) -> list[dict[str, Value]]:
        return [p for p in grid(self._space) if self._scan_time.excess_s(p) <= 0]

    def _enqueue_unseen(self) -> bool:
        """Have a point of a finite space proposed next that was not proposed yet."""
        import optuna

        if self._study.get_trials(False, (optuna.trial.TrialState.WAITING,)):
            return True
        tried = self._proposed()
        seen = [trial.params for trial in tried]
        free = [point for point in self._points if point not in seen]
        if not free:
            return False
        self._study.enqueue_trial(free[self._pick(free, tried)])
        return True

    def _pick(
        self, free: Sequence[Mapping[str, Value]], tried: "Sequence[optuna.trial.FrozenTrial]"
    ) -> int:
        """Choose among points: in order, at random, or by what the trials say."""
        draw = seed_of("unseen", self._config.seed, self._seed_name, len(tried))
        if self._whole_grid:
            return 0
        is_start = len(tried) < STARTUP_TRIALS
        if is_start or not self._picks or self._config.sampler == "random":
            return draw % len(free)
        return most_promising(free, tried_of(tried, maximize=self._maximize), draw)

    def _with_settings(self) -> "list[optuna.trial.FrozenTrial]":
        """Return trials with all their settings; one that was cut short while asking has not."""
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if is_whole(self._space, t.params)]

    def _proposed(self, but: int = -1) -> "list[optuna.trial.FrozenTrial]":
        return [
            trial
            for trial in self._with_settings()
            if _ASIDE not in trial.user_attrs and trial.number != but
        ]
