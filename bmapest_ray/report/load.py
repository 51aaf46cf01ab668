"""A study's evidence, read back from its folder: the results table, the trials and the answer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import MissingInput
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.study.answer import RESULT_FILE, read_result
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.inputs import read_study
from bmapest_ray.study.loading import load_study
from bmapest_ray.study.objective import make_objective
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.search_importance import importances
from bmapest_ray.study.showcase import make_showcase, read_showcase
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.store import StudyStore, load_results, load_trials
from bmapest_ray.study.summary import ProtocolSummary, Statistic, StudyResult, StudyStatus
from bmapest_ray.study.table import SCORE_COLUMNS

WORDS = {"psnr_db": "PSNR", "ssim": "SSIM", "mae": "mean absolute error", "dice": "Dice"}


def load_evidence(directory: Path, show: int = 0, *, deviations: bool = True) -> Evidence:
    """Read a finished or interrupted study.

    Parameters
    ----------
    directory
        The study's folder.
    show
        Typical subjects whose fits are solved once more, for maps over iterations; those that
        are there already are shown in any case.
    deviations
        Also work out the standard deviations of those.

    Raises
    ------
    MissingInput
        The folder is no study, or its driver was killed before it wrote an answer.
    """
    table = load_results(directory).astype(object)
    table = table.where(table.notna(), None)
    if not (directory / RESULT_FILE).is_file():
        raise MissingInput(
            f"a report needs a study that was closed, {directory} has no {RESULT_FILE}; go on with "
            "'bmapest run --resume' first"
        )
    config, answer = load_study(directory / "study.yaml"), read_result(directory)
    rows = table.to_dict("records")
    known = {job.id: job for job in jobs_of(rows)}
    evidence = evidence_of(read_back(directory, config, answer), config, answer, known)
    jobs = evidence.jobs_to_show(show)
    if not make_showcase(directory, jobs, evidence.trials, deviations=deviations):
        return evidence
    return replace(evidence, shown=read_showcase(directory))


def jobs_of(rows: list[dict[str, Any]]) -> Iterator[JobRecord]:
    """Yield the jobs of a results table, without their convergence curves."""
    by_job: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_job.setdefault(row["job_id"], []).append(row)
    yield from map(_job, by_job.values())


def _job(rows: list[dict[str, Any]]) -> JobRecord:
    first = rows[0]
    files = {row["tissue"]: row["map_file"] for row in rows if row["map_file"]}
    files |= {f"truth_{row['tissue']}": row["truth_file"] for row in rows if row["truth_file"]}
    done = first["status"] == JobStatus.DONE
    return JobRecord(
        id=first["job_id"],
        status=JobStatus(first["status"]),
        protocol=first["protocol"],
        subject=first["subject"],
        slice=first["slice"],
        draw=int(first["draw"]),
        trial=first["trial"] or "",
        scores={row["tissue"]: _scores(row) for row in rows} if done else {},
        message=first["message"] or "",
        solver_status=first["solver_status"] or "",
        iterations=int(first["iterations"]),
        seconds=float(first["seconds"]),
        setup_seconds=float(first["setup_seconds"]),
        total_seconds=float(first["total_seconds"]),
        scan_time_s=float(first["scan_time_s"]),
        configuration=json.loads(first["configuration"]),
        data=json.loads(first["data"]),
        digests=json.loads(first["digests"]),
        files=files,
        worker=first["worker"] or "",
        attempts=int(first["attempts"]),
    )


def _scores(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: float(row[name]) for name in SCORE_COLUMNS if row[name] is not None}


def evidence_of(
    result: StudyResult,
    config: StudyConfig,
    answer: Mapping[str, Any],
    jobs: Mapping[str, JobRecord],
) -> Evidence:
    """Put a result, its jobs and its trials together.

    Parameters
    ----------
    result, config
        The study.
    answer
        What `read_result` gives: which jobs each row is made of.
    jobs
        All jobs by their ids.
    """
    from bmapest_ray.metrics.scores import score_named

    objective = make_objective(config.search.objective)
    unit = score_named(objective.score).unit
    word = WORDS.get(objective.score, objective.score)
    trials = load_trials(result.study.directory)
    evidence = Evidence(
        result=result,
        jobs={
            row["label"]: [jobs[job_id] for job_id in row["job_ids"] if job_id in jobs]
            for row in answer["protocols"]
        },
        trials=trials,
        objective=objective.of_job,
        score=f"{word} over {', '.join(objective.tissues)}",
        unit="" if unit == "1" else unit,
        higher_is_better=objective.maximize,
        importances=importances(trials, config.search),
        shown=read_showcase(result.study.directory),
    )
    return with_curves(evidence)


def with_curves(evidence: Evidence) -> Evidence:
    """Read the convergence curves of the jobs whose curves are drawn: one per protocol."""
    store = StudyStore(evidence.result.study.directory)
    jobs = {label: list(rows) for label, rows in evidence.jobs.items()}
    for label, rows in jobs.items():
        drawn = evidence.typical_job(label) or next(iter(rows), None)
        whole = None if drawn is None else store.job(drawn.id)
        if drawn is not None and whole is not None:
            rows[rows.index(drawn)] = whole
    return replace(evidence, jobs=jobs)


def read_back(directory: Path, config: StudyConfig, answer: Mapping[str, Any]) -> StudyResult:
    """Rebuild a study's result from what it wrote."""
    return StudyResult(
        study=read_study(directory, config),
        status=StudyStatus(answer["status"]),
        protocols=tuple(_row(row) for row in answer["protocols"]),
        objective=answer["objective"],
        n_subjects=answer["n_subjects"],
        caveats=tuple(answer["caveats"]),
        jobs=answer["jobs"],
        seconds=answer["seconds"],
    )


def _row(raw: Mapping[str, Any]) -> ProtocolSummary:
    known = {k: v for k, v in raw.items() if k in ProtocolSummary.__dataclass_fields__}
    known["objective"] = _statistic(raw["objective"])
    known["scores"] = {
        tissue: {name: found for name, value in row.items() if (found := _statistic(value))}
        for tissue, row in raw["scores"].items()
    }
    return ProtocolSummary(**known)


def _statistic(raw: Mapping[str, Any] | None) -> Statistic | None:
    return None if raw is None else Statistic(**raw)
