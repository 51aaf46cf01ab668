from pathlib import Path
from typing import Any

import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.study import search_samplers
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.proposal import Proposal, ScanTime
from bmapest_ray.study.records import TrialKey, TrialRecord
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_storage
from bmapest_ray.study.space import grid, make_space
from bmapest_ray.study.status import Stage, TrialStatus

DAMPING, SIGNS = "inversion.settings.damping", "inversion.settings.signs"
SPACE = {DAMPING: {"low": 0.01, "high": 1.0, "log": True, "steps": 4}, SIGNS: ["auto", "none"]}


def make(journal: Path | None, **changes: Any) -> Search:
    config = SearchConfig.model_validate({"space": SPACE, "n_trials": 12, **changes})
    search = Search("study/t1inv", config, maximize=True, storage=open_storage(journal))
    search.resume(())
    return search


def value_of(proposal: Proposal) -> float:
    return -abs(float(proposal.settings.get(DAMPING) or 0) - 0.1)  # type: ignore[arg-type]


def play(search: Search, most: int = 100) -> list[Proposal]:
    seen = []
    while len(seen) < most and (proposal := search.ask()) is not None:
        search.tell(proposal.number, TrialStatus.COMPLETE, value_of(proposal))
        seen.append(proposal)
    return seen


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "grid", "brute"])
def test_a_search_spends_its_budget_and_knows_its_best(tmp_path: Path, sampler: str) -> None:
    seen = play(search := make(tmp_path / "j", sampler=sampler, n_trials=9))
    whole = sampler in ("grid", "brute")
    assert len(seen) == (8 if whole else 9)
    assert search.ask() is None
    best = search.best()
    assert best is not None
    assert value_of(best) == max(value_of(p) for p in seen)
    assert search.counts() == {"COMPLETE": len(seen)}
    if whole:
        assert len({tuple(p.settings.values()) for p in seen}) == 8


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_search_that_was_killed_proposes_what_it_would_have(tmp_path: Path, sampler: str) -> None:
    whole = play(make(tmp_path / "whole", sampler=sampler))
    first = play(make(tmp_path / "cut", sampler=sampler), most=5)
    rest = play(make(tmp_path / "cut", sampler=sampler))
    assert [p.settings for p in first + rest] == [p.settings for p in whole]
    assert [p.number for p in first + rest] == [p.number for p in whole]


def test_trials_left_running_are_adopted_and_finished_ones_are_told(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    before = make(journal)
    one, two, three = (before.ask() for _ in range(3))
    assert one is not None
    assert two is not None
    assert three is not None
    before.tell(one.number, TrialStatus.COMPLETE, 1.0)
    # `two` was finished on disk, but its driver died before it told
    record = TrialRecord(
        TrialKey("t1inv", Stage.SEARCH, two.number), two.settings, (), TrialStatus.COMPLETE, 2.0
    )
    config = SearchConfig.model_validate({"space": SPACE, "n_trials": 12})
    after = Search("study/t1inv", config, maximize=True, storage=open_storage(journal))
    after.resume([record])
    assert after.counts() == {"COMPLETE": 2, "RUNNING": 1}
    assert after.best() == two
    assert after.ask() == three
    fresh = after.ask()
    assert fresh is not None
    assert fresh.number == 3
    after.tell(three.number, TrialStatus.COMPLETE, 3.0)
    assert after.best() == three


def test_failed_trials_have_no_value_but_count(tmp_path: Path) -> None:
    search = make(tmp_path / "j", n_trials=3, sampler="random")
    while (proposal := search.ask()) is not None:
        search.tell(proposal.number, TrialStatus.FAILED)
    assert search.counts() == {"FAIL": 3}
    assert search.best() is None


def test_a_journal_that_a_kill_left_locked_and_torn_is_healed(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    first = play(make(journal, sampler="random"), most=3)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker')
    (tmp_path / "j.lock").symlink_to(journal)
    again = make(journal, sampler="random")
    assert journal.read_bytes().startswith(whole)
    assert again.started == 3
    assert [p.number for p in play(again)] == list(range(len(first), 12))


def test_a_trial_cut_short_while_it_was_proposed_does_not_count(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    search = make(journal)
    search._study.ask()  # a number, and death before the settings
    again = make(journal)
    assert again.started == 0
    assert len(play(again)) == 12


def test_settings_that_a_pruner_dislikes_stop(tmp_path: Path) -> None:
    search = make(tmp_path / "j", pruner="wilcoxon", sampler="random")
    good, bad = search.ask(), search.ask()
    assert good is not None
    assert bad is not None
    assert not any(search.report(good.number, step, 30.0 + step) for step in range(8))
    search.tell(good.number, TrialStatus.COMPLETE, 33.5)
    stops = [search.report(bad.number, step, 20.0 + step) for step in range(8)]
    assert stops[-1]
    search.tell(bad.number, TrialStatus.PRUNED)
    assert search.best() == good


def test_a_sampler_whose_package_is_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_samplers, "find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match="needs the package cmaes, it is not installed"):
        search_samplers.require_package("cmaes")


FLAGS = {f"contrast.c{i}": {"choices": [True, False]} for i in range(4)}


def flags_search(**changes: Any) -> Search:
    """Make a search over four contrasts of 1, 2, 3 and 4 s, of which 5 s may be played."""
    space = make_space(FLAGS)
    config = SearchConfig.model_validate(
        {"n_trials": 40, "contrasts": {"max_scan_time_s": 5}, **changes}
    )
    scan_time = ScanTime(seconds_of, 5.0 if not changes.get("pareto") else None)
    return Search(
        "s/p", config, maximize=True, storage=open_storage(None), space=space, scan_time=scan_time
    )


def seconds_of(settings: Any) -> float:
    return sum(i + 1.0 for i in range(4) if settings[f"contrast.c{i}"]) or 99.0


@pytest.mark.parametrize("sampler", ["tpe", "random", "brute", "gp", "cmaes"])
def test_what_takes_too_long_is_never_proposed_and_nothing_twice(sampler: str) -> None:
    search = flags_search(sampler=sampler)
    feasible = [p for p in grid(make_space(FLAGS)) if seconds_of(p) <= 5.0]
    assert len(feasible) == 8
    seen = []
    while (proposal := search.ask()) is not None:
        assert seconds_of(proposal.settings) <= 5.0
        seen.append(tuple(proposal.settings.values()))
        search.tell(proposal.number, TrialStatus.COMPLETE, seconds_of(proposal.settings))
    assert len(seen) == len(set(seen)) == len(feasible)
    assert search.started == len(feasible)
    best = search.best()
    assert best is not None
    assert seconds_of(best.settings) == 5.0


def test_a_pareto_search_gives_optuna_scan_times_and_knows_the_best() -> None:
    search = flags_search(sampler="random", pareto=True, n_trials=15)
    while (proposal := search.ask()) is not None:
        value = 10.0 if proposal.settings["contrast.c0"] else 1.0
        search.tell(proposal.number, TrialStatus.COMPLETE, value, proposal.settings)
    (front,) = search._study.best_trials
    assert front.values == [10.0, 1.0]  # c0 alone is the fastest and the best
    best = search.best()
    assert best is not None
    assert best.settings["contrast.c0"]


def test_a_search_without_progress_stops(tmp_path: Path) -> None:
    search = make(tmp_path / "j", sampler="random", n_trials=50, patience=4, space=WIDE)
    numbers = []
    while (proposal := search.ask()) is not None:
        numbers.append(proposal.number)
        search.tell(proposal.number, TrialStatus.COMPLETE, 1.0 if len(numbers) == 3 else 0.0)
    assert len(numbers) == 3 + 4


WIDE = {DAMPING: {"low": 0.0, "high": 1.0}}


def test_what_was_best_before_is_tried_first(tmp_path: Path) -> None:
    search = make(tmp_path / "j", sampler="random", space=WIDE)
    search.warm_start([{DAMPING: 0.25}, {DAMPING: 0.5}])
    first, second, third = (search.ask() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert [p.settings[DAMPING] for p in (first, second)] == [0.25, 0.5]
    assert third.settings[DAMPING] not in (0.25, 0.5)
    search.warm_start([{DAMPING: 0.75}])  # too late: nothing happens
    assert search.ask() != 0.75


CONDITIONAL = {
    "inversion.prior": ["none", "tv"],
    "inversion.prior_settings.strength": {"choices": [1.0, 2.0], "when": {"inversion.prior": "tv"}},
}


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "gp"])
def test_a_setting_is_proposed_only_where_it_counts(tmp_path: Path, sampler: str) -> None:
    seen = play(make(tmp_path / "j", sampler=sampler, space=CONDITIONAL, n_trials=10))
    points = {tuple(p.settings.values()) for p in seen}
    assert points == {("none",), ("tv", 1.0), ("tv", 2.0)}
    assert len(seen) == 3


def test_a_condition_must_stand_before_what_depends_on_it() -> None:
    with pytest.raises(ValueError, match="may depend on what stands before it"):
        make_space(dict(reversed(CONDITIONAL.items())))
