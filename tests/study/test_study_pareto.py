"""A study of accuracy against scan time: its front on the terminal, in the report, and rebuilt."""

import json
from pathlib import Path
from typing import Any

import fake_job
import optuna
import pytest

from bmapest_ray.cli import main
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.report.html import html, markdown
from bmapest_ray.report.load import load_evidence
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.pareto import not_beaten
from bmapest_ray.study.run import run_study
from bmapest_ray.study.search_rebuild import rebuild_journal
from bmapest_ray.study.search_storage import open_storage
from bmapest_ray.study.store import StudyStore, load_trials

POOL = "t1inv[0],t1inv[3],t2prep[1],t2star[1]"
CONFIG = parse_study(
    {
        "name": "front",
        "question": "What does scan time buy?",
        "protocols": [POOL],
        "anatomy": {"matrix": 16},
        "noise": {"snr": 50},
        "search": {"contrasts": {}, "pareto": True, "sampler": "brute", "n_trials": None},
        "output": {"maps": False},
        "tracking": {"mlflow": False},
    }
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "front"
    run_study(CONFIG, out, runner=LocalRunner(fake_job.WORK, {"log": str(out.parent)}))
    return out


def test_points_that_are_beaten_in_both_are_left_out() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (3.0, 6.0), (1.0, 5.0), (4.0, 7.0)]
    assert not_beaten(points, maximize=True) == [0, 2, 4, 5]
    assert not_beaten(points, maximize=False) == [0, 1, 4]
    assert not_beaten([], maximize=True) == []


def test_best_prints_the_front_of_every_subset(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "best", str(finished), "--json"]) == 0
    (front,) = json.loads(capfd.readouterr().out)["front"].values()
    # one more contrast is one decibel more, so the front is the fastest subset of every size
    trials = [t for t in load_trials(finished) if t.key.stage == "search"]
    assert len(trials) == 2**4 - 1
    fastest: dict[int, float] = {}
    for trial in trials:
        size, seconds = sum(trial.settings.values()), trial.scan_time_s
        assert seconds is not None
        fastest[size] = min(seconds, fastest.get(size, seconds))
    assert [point["scan_time_s"] for point in front] == [fastest[size] for size in (1, 2, 3, 4)]
    assert [sum(point["settings"].values()) for point in front] == [1, 2, 3, 4]
    assert main(["study", "best", str(finished)]) == 0
    shown = capfd.readouterr().out
    assert "Pareto front of scan time and objective" in shown
    assert POOL.replace(",", ", ") in shown


def test_the_report_shows_the_front(finished: Path) -> None:
    evidence = load_evidence(finished)
    page, text = html(evidence), markdown(evidence)
    assert 'id="chart-front"' in page
    for said in (page, text):
        assert "Pareto front of the search, the fastest first" in said
    rows = [line for line in text.splitlines() if line.endswith("| - |")]
    assert [row.split(" | ")[4].count(",") + 1 for row in rows] == [1, 2, 3, 4]


def test_a_rebuilt_journal_has_both_objectives(finished: Path) -> None:
    def best() -> list[Any]:
        storage = open_storage(finished / "optuna.journal")
        study = optuna.load_study(study_name=f"front/{POOL}", storage=storage)
        return sorted(tuple(trial.values) for trial in study.best_trials)

    before = best()
    (finished / "optuna.journal").unlink()
    assert rebuild_journal(CONFIG, StudyStore(finished)) >= 15
    assert best() == before
    assert len(before) == 4
