"""A study's evidence, read back from its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import MissingInput
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.study.answer import RESULT_FILE, read_result
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.files import read_json
from bmapest_ray.study.loading import load_study, to_dict
from bmapest_ray.study.objective import make_objective
from bmapest_ray.study.records import JobRecord, ProtocolInfo, StudyInfo
from bmapest_ray.study.store import load_jobs, load_trials
from bmapest_ray.study.summary import ProtocolSummary, Statistic, StudyResult, StudyStatus

WORDS = {"psnr_db": "PSNR", "ssim": "SSIM", "mae": "mean absolute error", "dice": "Dice"}


def load_evidence(directory: Path) -> Evidence:
    """Read a finished or interrupted study.

    Raises
    ------
    MissingInput
        The folder is no study, or its driver was killed before it wrote an answer.
    """
    jobs = {job.id: job for job in load_jobs(directory)}
    if not (directory / RESULT_FILE).is_file():
        raise MissingInput(
            f"a report needs a study that was closed, {directory} has no {RESULT_FILE}; go on with "
            "'bmapest run --resume' first"
        )
    config, answer = load_study(directory / "study.yaml"), read_result(directory)
    return evidence_of(read_back(directory, config, answer), config, answer, jobs)


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
    return Evidence(
        result=result,
        jobs={
            row["label"]: [jobs[job_id] for job_id in row["job_ids"] if job_id in jobs]
            for row in answer["protocols"]
        },
        trials=load_trials(result.study.directory),
        objective=objective.of_job,
        score=f"{word} over {', '.join(objective.tissues)}",
        unit="" if unit == "1" else unit,
        higher_is_better=objective.maximize,
    )


def read_back(directory: Path, config: StudyConfig, answer: Mapping[str, Any]) -> StudyResult:
    """Rebuild a study's result from what it wrote."""
    rows = tuple(_row(row) for row in answer["protocols"])
    study = StudyInfo(
        id=read_json(directory / "study.json")["id"],
        name=config.name,
        question=config.question,
        directory=directory.absolute(),
        config=to_dict(config),
        protocols=tuple(ProtocolInfo(r.label, r.digest, r.scan_time_s, "") for r in rows),
    )
    return StudyResult(
        study=study,
        status=StudyStatus(answer["status"]),
        protocols=rows,
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
