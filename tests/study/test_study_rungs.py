"""Pruning across iterations: trials climb rungs, and bad ones stop low."""

from collections import Counter
from pathlib import Path
from typing import Any

import fake_job
import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study
from bmapest_ray.study.status import TrialStatus
from bmapest_ray.study.store import load_jobs, load_trials

TRIALS = 18


def study(**search: Any) -> StudyConfig:
    return parse_study(
        {
            "name": "rungs",
            "question": "Which settings are soon seen to be bad?",
            "protocols": ["t1inv[0]"],
            "noise": {"snr": 50},
            "inversion": {"solver": "adam", "settings": {"max_iterations": 180}},
            "search": {
                "sampler": "random",
                "space": {"inversion.settings.damping": {"low": 0.0, "high": 1.0}},
                "n_trials": TRIALS,
                "pruner": "hyperband",
                "rungs": [20, 60],
                **search,
            },
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )


def run(folder: Path, log: Path, resume: bool = False, **state: Any) -> None:
    log.mkdir(exist_ok=True)
    runner = LocalRunner(fake_job.WORK, {"log": str(log), **state})
    run_study(study(), folder, runner=runner, resume=resume)


def test_bad_trials_stop_low_and_the_best_climbs_to_the_top(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, tmp_path / "log")
    taken = Counter(job.configuration["settings"]["max_iterations"] for job in load_jobs(out))
    trials = [trial for trial in load_trials(out) if trial.key.stage == "search"]
    states = Counter(trial.status for trial in trials)
    assert len(trials) == TRIALS
    assert states[TrialStatus.PRUNED] + states[TrialStatus.COMPLETE] == TRIALS
    assert states[TrialStatus.PRUNED] >= TRIALS // 3
    assert taken[20] == TRIALS > taken[60] >= taken[180] - 1 == states[TrialStatus.COMPLETE]
    best = min(trials, key=lambda t: abs(float(t.settings["inversion.settings.damping"]) - 0.3))
    complete = [trial for trial in trials if trial.value is not None]
    assert best.status is TrialStatus.COMPLETE
    assert max(complete, key=lambda t: float(t.value or 0.0)) == best


def test_a_trial_that_diverges_on_a_rung_has_failed(tmp_path: Path) -> None:
    run(tmp_path / "out", tmp_path / "log", diverges_above=0.5)
    trials = [trial for trial in load_trials(tmp_path / "out") if trial.key.stage == "search"]
    failed = [t for t in trials if float(t.settings["inversion.settings.damping"]) > 0.5]
    assert failed
    assert {trial.status for trial in failed} == {TrialStatus.FAILED}


def test_a_finished_study_repeats_nothing_when_it_is_resumed(tmp_path: Path) -> None:
    run(tmp_path / "out", tmp_path / "log")
    before = fake_job.lines(tmp_path / "log", "starts.txt")
    run(tmp_path / "out", tmp_path / "log", resume=True)
    assert fake_job.lines(tmp_path / "log", "starts.txt") == before
    assert len(set(before)) == len(before)


@pytest.mark.parametrize(
    ("search", "rule"),
    [
        ({"rungs": []}, "belong together"),
        ({"pruner": "none"}, "belong together"),
        ({"rungs": [20, 50]}, "same whole multiple"),
        ({"rungs": [0, 0]}, "same whole multiple"),
    ],
)
def test_rungs_that_are_no_ladder_are_refused(search: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule):
        study(**search)


def test_rungs_must_stay_below_the_solver(tmp_path: Path) -> None:
    runner = LocalRunner(fake_job.WORK, {"log": str(tmp_path)})
    with pytest.raises(InvalidInput, match=r"got \[60, 180\] and 180; lower the rungs"):
        run_study(study(rungs=[60, 180]), tmp_path / "out", runner=runner)
