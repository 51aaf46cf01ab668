"""The truth on disk: everything else about a study can be rebuilt from its folder.

::

    study.yaml              the resolved study
    study.json              id of this study folder, versions
    jobs/ab/abcd....json    one file per finished job, written once: the commit
    trials/....json         one file per trial
    maps/...                NIfTI maps per job, and the true maps per subject and slice
    results/part-*.parquet  the results table, made from jobs/
    optuna.journal          the search
"""

import fcntl
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.files import (
    read_json,
    remove_leftovers,
    replace_text,
    write_once,
    writing,
)
from bmapest_ray.study.loading import dump_study, load_study, to_dict
from bmapest_ray.study.records import SCHEMA_VERSION, JobRecord, TrialKey, TrialRecord
from bmapest_ray.study.status import JobStatus, Stage
from bmapest_ray.study.table import read_parts, to_table, write_part

if TYPE_CHECKING:
    import pandas as pd

CANCEL_FILE = "cancel"
"""A driver that finds this file in its study's folder stops as at Ctrl-C."""

_FREE_TO_CHANGE = ("compute", "tracking", "question")
"""Sections of a study that decide no result, so that a resumed study may change them."""


class StudyStore:
    """The folder of one study, open for writing by one driver.

    Several processes may commit the same job: one of them wins, and its result stays.

    Parameters
    ----------
    root
        The study's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._lock: IO[str] | None = None

    # -- opening -------------------------------------------------------------------------------

    def open(self, config: StudyConfig, *, resume: bool) -> str:
        """Make the folder, or go on with it; with a shared storage, others may be at work in it.

        Returns
        -------
        str
            The id of the study, made once per folder.

        Raises
        ------
        InvalidInput
            If the folder cannot be written, belongs to another study, holds results while `resume`
            is false, or another driver is working in it.
        """
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            known = self._file("study.json").exists()
            if not resume and any(self.root.iterdir()):
                raise InvalidInput(
                    f"a new study needs an empty folder, {self.root} holds files; add --resume to "
                    "go on with it, or choose another folder with --out"
                )
            first = self._acquire(shared=config.compute.storage is not None)
            try:
                return self._enter(config, known=known, first=first)
            except BaseException:
                self.close()
                raise

    def _enter(self, config: StudyConfig, *, known: bool, first: bool) -> str:
        if first:
            remove_leftovers(self.root)
        if known:
            self._require_same(config)
        else:
            identity = {"id": uuid.uuid4().hex, "schema": SCHEMA_VERSION, "versions": _tool()}
            write_once(self._file("study.json"), json.dumps(identity, indent=1))
        if first:
            self._file(CANCEL_FILE).unlink(missing_ok=True)
            replace_text(self._file("study.yaml"), dump_study(config))
        return str(read_json(self._file("study.json"))["id"])

    def close(self) -> None:
        """Let another driver in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _acquire(self, *, shared: bool) -> bool:
        """Lock the folder; returns whether no other driver is in it."""
        self._lock = self._file("driver.lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if shared:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
                return False
            self.close()
            raise InvalidInput(
                f"a study folder takes one driver at a time, {self.root} has one at work; wait "
                "for it or stop it"
            ) from None
        return True

    def let_others_in(self) -> None:
        """Keep the folder as one driver among several."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _require_same(self, config: StudyConfig) -> None:
        old, new = (to_dict(c) for c in (load_study(self._file("study.yaml")), config))
        for study in (old, new):
            study["search"].pop("n_trials")
        changed = [k for k in new if k not in _FREE_TO_CHANGE and new[k] != old[k]]
        if changed:
            raise InvalidInput(
                f"a resumed study must ask what it asked before, but {', '.join(changed)} changed "
                f"in {self.root}; choose another folder with --out"
            )

    # -- jobs ----------------------------------------------------------------------------------

    def commit(self, record: JobRecord) -> bool:
        """Keep a finished job for good.

        Returns
        -------
        bool
            False if the job was committed before: that result stays.

        Raises
        ------
        InvalidInput
            If the folder cannot be written.
        """
        with writing(self.root):
            return write_once(self._job_file(record.id), json.dumps(record.to_dict()))

    def job(self, job_id: str) -> JobRecord | None:
        """Return a committed job, None if there is none."""
        path = self._job_file(job_id)
        return JobRecord.from_dict(read_json(path)) if path.exists() else None

    def job_ids(self) -> set[str]:
        """Return the ids of all committed jobs."""
        return {path.stem for path in _job_files(self.root)}

    def forget_failed(self) -> None:
        """Set failed jobs aside so that they may run again; their records are kept beside."""
        for path in _job_files(self.root):
            if JobRecord.from_dict(read_json(path)).status is JobStatus.FAILED:
                count = len(list(path.parent.glob(f"{path.stem}.failed-*")))
                path.rename(path.with_name(f"{path.stem}.failed-{count}"))
        for part in self._file("results").glob("part-*.parquet"):
            part.unlink()  # they hold failed jobs; the table is made again from jobs/

    # -- trials --------------------------------------------------------------------------------

    def write_trial(self, trial: TrialRecord) -> None:
        """Write a trial as it stands now."""
        with writing(self.root):
            replace_text(self._trial_file(trial.key), json.dumps(trial.to_dict()))

    def drop_reports(self, protocol: str, *, but: int) -> None:
        """Remove report trials of a protocol whose configuration is no longer the best."""
        for trial in self.trials():
            key = trial.key
            if key.protocol == protocol and key.stage is Stage.REPORT and key.number != but:
                self._trial_file(key).unlink()

    def trials(self) -> list[TrialRecord]:
        """Return all trials, by protocol, stage and number."""
        return read_trials(self.root)

    # -- table ---------------------------------------------------------------------------------

    def compact(self) -> None:
        """Add the jobs that the results table lacks to it, as one more part."""
        with writing(self.root), self._file("results.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # another driver may do the same
            parts = sorted(self._file("results").glob("part-*.parquet"))
            missing = sorted(self.job_ids() - _ids_in(parts))
            if missing:
                path = self._file("results", f"part-{len(parts):05d}.parquet")
                write_part(path, (r for r in map(self.job, missing) if r is not None))

    @property
    def is_cancelled(self) -> bool:
        """Whether someone asked the drivers to stop."""
        return self._file(CANCEL_FILE).exists()

    def file(self, *parts: str) -> Path:
        """Return the path of something in the study's folder."""
        return self._file(*parts)

    def _file(self, *parts: str) -> Path:
        return self.root.joinpath(*parts)

    def _trial_file(self, key: TrialKey) -> Path:
        return self._file("trials", f"{slug(str(key))}-{digest(key)[:8]}.json")

    def _job_file(self, job_id: str) -> Path:
        return self._file("jobs", job_id[:2], f"{job_id}.json")


def load_results(directory: str | Path) -> "pd.DataFrame":
    """Return the results table of a study, finished or not: one row per job x tissue.

    Raises
    ------
    MissingInput
        If the folder is no study.
    InvalidInput
        If it was written by a later version.
    """
    import pyarrow as pa

    root = _study_folder(directory)
    parts = sorted((root / "results").glob("part-*.parquet"))
    table = read_parts(parts)
    known = set(table.column("job_id").to_pylist())
    rest = [path for path in _job_files(root) if path.stem not in known]
    records = [JobRecord.from_dict(read_json(path)) for path in rest]
    frame: pd.DataFrame = pa.concat_tables([table, to_table(records)]).to_pandas()
    return frame


def load_jobs(directory: str | Path) -> list[JobRecord]:
    """Return every committed job of a study, with its convergence curve and traceback."""
    root = _study_folder(directory)
    return [JobRecord.from_dict(read_json(path)) for path in _job_files(root)]


def load_trials(directory: str | Path) -> list[TrialRecord]:
    """Return every trial of a study, by protocol, stage and number."""
    return read_trials(_study_folder(directory))


def read_trials(root: Path) -> list[TrialRecord]:
    """Return the trials under a study's folder."""
    paths = (root / "trials").glob("[!.]*.json")
    trials = [TrialRecord.from_dict(read_json(path)) for path in paths]
    return sorted(trials, key=lambda t: (t.key.protocol, t.key.stage != "search", t.key.number))


def _job_files(root: Path) -> list[Path]:
    """Return the committed records; what a writer is still writing begins with a dot."""
    return sorted((root / "jobs").glob("*/[!.]*.json"))


def slug(text: str) -> str:
    """Return a text as part of a file name: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_")


def _study_folder(directory: str | Path) -> Path:
    root = Path(directory)
    if not (root / "study.json").is_file():
        raise MissingInput(f"a study folder must hold study.json, {root} does not; check the path")
    return root


def _ids_in(parts: Iterable[Path]) -> set[str]:
    import pyarrow.parquet as pq

    return {
        job_id
        for path in parts
        for job_id in pq.read_table(path, columns=["job_id"]).column("job_id").to_pylist()
    }


def _tool() -> Mapping[str, Any]:
    return {name: version(name) for name in ("bmapest_ray", "torch", "MRzeroCore", "optuna", "ray")}
