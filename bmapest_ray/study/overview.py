"""How a study stands, read from its folder alone: no driver, search or server is asked."""

import fcntl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import InvalidInput, MissingInput, closest
from bmapest_ray.study.answer import RESULT_FILE, read_result
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.files import read_json, replace_text, writing
from bmapest_ray.study.loading import load_study
from bmapest_ray.study.objective import Objective, make_objective
from bmapest_ray.study.pareto import search_fronts
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.status import Stage, TrialStatus
from bmapest_ray.study.store import CANCEL_FILE, load_trials

RUNNING, STOPPED = "RUNNING", "STOPPED"


@dataclass(frozen=True)
class Overview:
    """How a study stands."""

    directory: Path
    name: str
    question: str
    status: str
    """RUNNING while a driver holds the folder, else how the last one ended, else STOPPED."""
    jobs: Mapping[str, int]
    """Committed jobs by status."""
    trials: Mapping[str, int]
    """Trials of the search and of the report by status."""
    objective: str
    best: Mapping[str, TrialRecord]
    """Protocol -> its best complete search trial, or its report where nothing was searched."""
    fronts: Mapping[str, Sequence[TrialRecord]] = field(default_factory=dict)
    """Protocol -> its trials that nothing beats in both objective and scan time, the fastest
    first; of a study that searches for them (``search.pareto``)."""


def overview(directory: Path) -> Overview:
    """Read how a study stands.

    Raises
    ------
    MissingInput
        If the folder is no study.
    """
    trials = load_trials(directory)
    config = load_study(directory / "study.yaml")
    objective = make_objective(config.search.objective)
    fronts = search_fronts(trials, maximize=objective.maximize) if config.search.pareto else {}
    return Overview(
        directory=directory,
        name=config.name,
        question=config.question,
        status=status_of(directory),
        jobs=count_jobs(directory),
        trials=dict(Counter(str(trial.status) for trial in trials)),
        objective=objective.text,
        best=best_trials(trials, objective),
        fronts={label: [trial for trial, _ in front] for label, front in fronts.items()},
    )


def find_studies(folder: Path) -> list[Path]:
    """Return the folders of all studies in `folder`, itself among them, sorted by name."""
    here = [folder] if (folder / "study.json").is_file() else []
    return here + sorted(path.parent for path in folder.glob("*/study.json"))


def status_of(directory: Path) -> str:
    """Return RUNNING, how the last driver ended, or STOPPED if it could not say."""
    if has_driver(directory):
        return RUNNING
    if not (directory / RESULT_FILE).is_file():
        return STOPPED
    return str(read_result(directory)["status"])


def has_driver(directory: Path) -> bool:
    """Whether a driver on this machine, or on one that shares the file system, holds the folder."""
    path = directory / "driver.lock"
    if not path.is_file():
        return False
    with path.open("r", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def count_jobs(directory: Path) -> dict[str, int]:
    """Return the number of committed jobs by status."""
    paths = (directory / "jobs").glob("*/[!.]*.json")
    return dict(Counter(str(read_json(path)["status"]) for path in paths))


def best_trials(trials: list[TrialRecord], objective: Objective) -> dict[str, TrialRecord]:
    """Return the best complete trial of each protocol; search trials come before reports."""
    searched = {t.key.protocol for t in trials if t.key.stage is Stage.SEARCH}
    best: dict[str, TrialRecord] = {}
    for trial in trials:
        label = trial.key.protocol
        if trial.value is None or trial.status is not TrialStatus.COMPLETE:
            continue
        if trial.key.stage is Stage.REPORT and label in searched:
            continue
        held = best.get(label)
        if held is None or held.value is None or objective.better(trial.value, held.value):
            best[label] = trial
    return best


def request_cancel(directory: Path) -> bool:
    """Ask the drivers of a study to stop after what they are doing; returns whether there is one.

    Raises
    ------
    MissingInput
        If the folder is no study.
    """
    if not (directory / "study.json").is_file():
        raise MissingInput(
            f"a study folder must hold study.json, {directory} does not; check the path"
        )
    if not has_driver(directory):
        return False
    with writing(directory):
        replace_text(directory / CANCEL_FILE, "cancelled by request\n")
    return True


def export_table(directory: Path, out: Path) -> int:
    """Write the results table, one row per job and tissue; returns the number of rows.

    Raises
    ------
    InvalidInput
        If the ending of `out` names no known format.
    """
    from bmapest_ray.study.store import load_results

    writers: dict[str, tuple[str, dict[str, Any]]] = {
        ".csv": ("to_csv", {"index": False}),
        ".parquet": ("to_parquet", {"index": False}),
        ".json": ("to_json", {"orient": "records", "lines": False}),
    }
    if out.suffix not in writers:
        hint = closest(out.suffix, list(writers))
        raise InvalidInput(f"an export must end in .csv, .parquet or .json, got '{out.name}'{hint}")
    frame = load_results(directory)
    method, options = writers[out.suffix]
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        getattr(frame, method)(out, **options)
    return len(frame)


def config_of(directory: Path) -> StudyConfig:
    """Return the resolved study that a folder was made for."""
    return load_study(directory / "study.yaml")
