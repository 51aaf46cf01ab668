"""The searches of a study, one per protocol, as one source of trials."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from bmapest_ray.study.crew import Crew
from bmapest_ray.study.plan import Plan
from bmapest_ray.study.proposal import Proposal, ScanTime
from bmapest_ray.study.records import TrialKey, TrialRecord
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_database, open_storage
from bmapest_ray.study.space import Value, is_whole
from bmapest_ray.study.status import Stage, TrialStatus
from bmapest_ray.study.store import StudyStore, load_trials

_WARM = 5
"""Configurations of an earlier study that are tried first."""


class Searches:
    """All searches of a study; empty where nothing is searched.

    Parameters
    ----------
    plan, store
        The study and its folder.
    crew
        Who else asks and tells.
    study_id
        Keeps studies apart that share a database.
    """

    def __init__(self, plan: Plan, store: StudyStore, crew: Crew, study_id: str) -> None:
        self._by_label: dict[str, Search] = {}
        if not plan.searches:
            return
        url = plan.config.compute.storage
        if url is None:
            storage, prefix = open_storage(store.file("optuna.journal")), plan.config.name
        else:
            storage, prefix = open_database(url), f"{plan.config.name}-{study_id[:12]}"
        for label in plan.protocols:
            with crew.turn(f"open/{label}"):
                self._by_label[label] = Search(
                    f"{prefix}/{label}",
                    plan.config.search,
                    maximize=plan.objective.maximize,
                    storage=storage,
                    crew=crew,
                    space=plan.space(label),
                    scan_time=_scan_time(plan, label),
                    seed_name=f"{plan.config.name}/{label}",
                )
                self._by_label[label].warm_start(_earlier_best(plan, label))

    def __bool__(self) -> bool:
        """Whether there is anything to search."""
        return bool(self._by_label)

    @property
    def budget(self) -> int:
        """Trials of all protocols."""
        return sum(search.budget for search in self._by_label.values())

    @property
    def others_at_work(self) -> bool:
        """Whether another driver has a trial running."""
        return any(search.others_at_work for search in self._by_label.values())

    def next(self) -> tuple[TrialKey, Proposal] | None:
        """Propose a trial of the protocol that has had the fewest; None when budgets are spent."""
        for label in sorted(self._by_label, key=lambda name: self._by_label[name].started):
            proposal = self._by_label[label].ask()
            if proposal is not None:
                return TrialKey(label, Stage.SEARCH, proposal.number), proposal
        return None

    def resume(self, known: Iterable[TrialRecord]) -> None:
        """Tell what is finished on disk and may not have been told."""
        ended = [
            trial
            for trial in known
            if trial.status is not TrialStatus.RUNNING and trial.key.stage is Stage.SEARCH
        ]
        for label, search in self._by_label.items():
            search.resume(trial for trial in ended if trial.key.protocol == label)

    def report(self, key: TrialKey, step: int, value: float) -> bool:
        """Report the value of one subject; returns whether the trial should stop."""
        return self._by_label[key.protocol].report(key.number, step, value)

    def tell(self, trial: TrialRecord) -> None:
        """Say how a trial ended."""
        search = self._by_label[trial.key.protocol]
        search.tell(trial.key.number, trial.status, trial.value, trial.settings)

    def best(self, label: str) -> Proposal | None:
        """Return the best complete trial of a protocol; None if there is none."""
        return self._by_label[label].best() if label in self._by_label else None

    def counts(self, label: str) -> Mapping[str, int]:
        """Return a protocol's trials by state."""
        return self._by_label[label].counts() if label in self._by_label else {}


def _scan_time(plan: Plan, label: str) -> ScanTime:
    contrasts = plan.config.search.contrasts
    limit_s = None if contrasts is None else contrasts.max_scan_time_s
    return ScanTime(lambda settings: plan.scan_time_s(label, settings), limit_s)


def _earlier_best(plan: Plan, label: str) -> list[dict[str, Value]]:
    """Return the best configurations of an earlier study's protocol, as far as they fit."""
    if plan.config.search.warm_start is None:
        return []
    space = plan.space(label)
    ended = [
        (trial.value, trial.settings)
        for trial in load_trials(Path(plan.config.search.warm_start))
        if trial.key.protocol == label and trial.value is not None
    ]
    sign = -1.0 if plan.objective.maximize else 1.0
    ranked = sorted(ended, key=lambda pair: sign * pair[0])
    known = [{p: v for p, v in settings.items() if p in space} for _, settings in ranked]
    fitting = [settings for settings in known if is_whole(space, settings)]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(s.items()) for s in fitting)][:_WARM]
