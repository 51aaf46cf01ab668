"""`bmapest study ...` on a study of pretended jobs."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import fake_job
import numpy as np
import pandas as pd
import pytest

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.cli import main
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_storage
from bmapest_ray.study.store import load_trials

SPACE = {"inversion.settings.damping": {"low": 0.0, "high": 1.0}}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    folder = tmp_path_factory.mktemp("brains")
    for number in range(1, 4):
        fraction = np.full((3, 4, 8, 8), 0.05 * number, dtype=np.float32)
        write_maps(fraction, np.eye(4), folder, f"{number:02d}")
    return parse_study(
        {
            "name": "pretend",
            "question": "Which is best?",
            "anatomy": {"source": f"bids:{folder}"},
            "protocols": ["t1inv[0]", "t1inv"],
            "noise": {"snr": 50, "reference": "t1inv[3]"},
            "search": {"space": SPACE, "n_trials": 4, "sampler": "random"},
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )


@pytest.fixture(scope="module")
def finished(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    run_study(config, out, runner=LocalRunner(fake_job.WORK, {"log": str(out.parent)}))
    return out


def told(capfd: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_list_and_status_count_what_is_on_disk(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (study,) = told(capfd, "study", "list", finished.parent)["studies"]
    assert study == told(capfd, "study", "status", finished)
    assert (study["status"], study["name"]) == ("FINISHED", "pretend")
    assert study["jobs"] == {"DONE": 2 * 4 * 3 + 2 * 3}
    assert study["trials"] == {"COMPLETE": 2 * 4 + 2}
    assert main(["study", "list", str(finished.parent)]) == 0
    assert main(["study", "status", str(finished)]) == 0
    assert "30 done" in capfd.readouterr().out


def test_best_is_the_best_of_the_search(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    best = told(capfd, "study", "best", finished)["best"]
    trials = [t for t in load_trials(finished) if t.key.stage == "search"]
    for label, found in best.items():
        values = [t.value for t in trials if t.key.protocol == label and t.value is not None]
        assert found["value"] == max(values)
        assert abs(found["settings"]["inversion.settings.damping"] - 0.3) == pytest.approx(
            min(
                abs(t.settings["inversion.settings.damping"] - 0.3)
                for t in trials
                if t.key.protocol == label
            )
        )
    assert main(["study", "best", str(finished)]) == 0
    assert "inversion.settings.damping:" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.json"])
def test_export_holds_every_row(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    assert told(capfd, "study", "export", finished, "--out", tmp_path / name)["rows"] == 90
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}
    frame = read[name.split(".")[1]](tmp_path / name)  # type: ignore[operator]
    assert len(frame) == 90
    assert set(frame["tissue"]) == {"GM", "WM", "CSF"}


def test_an_export_of_no_known_format_is_refused(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "export", str(finished), "--out", str(tmp_path / "t.xls")]) == 2
    assert "must end in .csv" in capfd.readouterr().err


def test_plan_reads_the_spread_of_a_study_or_takes_numbers(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = told(capfd, "study", "plan", "--difference", 0.5, "--sd", 1.0)
    assert numbers["subjects_t"] == 34  # the textbook's n for d = 0.5, power 0.8, alpha 0.05
    assert numbers["subjects"] == 36  # 34 / 0.955
    # the pretended protocols differ by 3 dB for every subject but for their damping: no spread
    code = main(["study", "plan", str(finished)])
    assert code in (0, 2)
    planned = told(capfd, "study", "plan", finished, "--difference", 1.0, "--sd", 2.0)
    assert planned["subjects_seen"] == 3
    assert planned["subjects_t"] == 34
    assert main(["study", "plan", "--difference", "0", "--sd", "1"]) == 2
    assert main(["study", "plan"]) == 2


def test_rebuild_makes_a_journal_that_goes_on_under_the_same_numbers(
    config: StudyConfig, finished: Path
) -> None:
    from bmapest_ray.study.search_rebuild import rebuild_journal
    from bmapest_ray.study.store import StudyStore

    journal = finished / "optuna.journal"

    def searches() -> list[Search]:
        storage = open_storage(journal)
        return [
            Search(f"pretend/{label}", config.search, maximize=True, storage=storage)
            for label in config.protocols
        ]

    before = [(s.best(), s.counts()) for s in searches()]
    journal.unlink()
    assert rebuild_journal(config, StudyStore(finished)) == 8
    assert [(s.best(), s.counts()) for s in searches()] == before
    more = config.search.model_copy(update={"n_trials": 5})
    again = Search("pretend/t1inv", more, maximize=True, storage=open_storage(journal))
    proposal = again.ask()
    assert proposal is not None
    assert proposal.number == 4


def test_cancel_stops_a_running_study_in_order(
    config: StudyConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    stopped: list[BaseException] = []

    def drive() -> None:
        runner = LocalRunner(fake_job.WORK, {"log": str(tmp_path), "seconds": 0.05})
        try:
            run_study(config, out, runner=runner)
        except KeyboardInterrupt as error:
            stopped.append(error)

    driver = threading.Thread(target=drive)
    driver.start()
    while not list(out.glob("jobs/*/*.json")):
        time.sleep(0.02)
    assert told(capfd, "study", "status", out)["status"] == "RUNNING"
    assert told(capfd, "study", "cancel", out)["cancelled"]
    driver.join(300)
    assert len(stopped) == 1
    assert told(capfd, "study", "status", out)["status"] == "INTERRUPTED"
    assert not told(capfd, "study", "cancel", out)["cancelled"]
    run_study(config, out, runner=LocalRunner(fake_job.WORK, {"log": str(tmp_path)}), resume=True)
    assert told(capfd, "study", "status", out)["jobs"] == {"DONE": 30}
