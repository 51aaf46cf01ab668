"""From finished report trials to the study's answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bmapest_ray.study.files import read_json, replace_text, writing
from bmapest_ray.study.plan import Plan
from bmapest_ray.study.records import JobRecord, StudyInfo, TrialRecord
from bmapest_ray.study.summary import (
    ProtocolSummary,
    StudyResult,
    StudyStatus,
    per_subject,
    score_table,
    statistic,
)

RESULT_FILE = "result.json"


def summarise(
    plan: Plan, label: str, trial: TrialRecord, jobs: Sequence[JobRecord], trials: int
) -> ProtocolSummary:
    """Return the row of a protocol: its report jobs, averaged subject by subject."""
    info = plan.protocols[label].info
    scores, spread = score_table(jobs)
    done = sum(job.status.is_scored for job in jobs)
    values = per_subject(jobs, plan.objective.of_job)
    return ProtocolSummary(
        label=label,
        digest=info.digest,
        scan_time_s=plan.scan_time_s(label, trial.settings),
        settings=dict(trial.settings),
        objective=statistic(list(values.values())),
        scores=scores,
        spread=spread,
        jobs_done=done,
        jobs_lost=len(jobs) - done,
        trials=trials,
    )


def make_result(
    plan: Plan,
    study: StudyInfo,
    status: StudyStatus,
    rows: Sequence[ProtocolSummary],
    counts: Mapping[str, int],
) -> StudyResult:
    """Return the study's result, the best protocol first."""
    sign = -1.0 if plan.objective.maximize else 1.0
    worst = float("inf")
    ranked = sorted(rows, key=lambda r: sign * r.objective.mean if r.objective else worst)
    n_subjects = max((row.objective.n for row in rows if row.objective), default=0)
    return StudyResult(
        study=study,
        status=status,
        protocols=tuple(ranked),
        objective=plan.objective.text,
        n_subjects=n_subjects,
        caveats=tuple(caveats(plan, ranked, n_subjects)),
        jobs=dict(counts),
    )


def caveats(plan: Plan, rows: Sequence[ProtocolSummary], n_subjects: int) -> list[str]:
    """Say what a reader of the table must know, one sentence each."""
    config = plan.config
    said = []
    if n_subjects == 1:
        said.append("n = 1: no test; slices and noise draws of one anatomy are one subject.")
    if plan.anatomy.spec == "mni152":
        said.append("The anatomy is a group average, smoother than any one brain.")
    if plan.data.is_same_model(plan.model):
        said.append("The data were simulated with the model that is fitted.")
    if config.noise.snr is None:
        said.append("The data are noise-free.")
    if plan.searches and config.search.tune_subjects is None:
        other = ", with other noise draws" if config.noise.snr is not None else ""
        said.append(f"Settings were chosen on the same subjects that are reported{other}.")
    times = [row.scan_time_s for row in rows]
    if times and max(times) > 1.01 * min(times):
        said.append(
            f"Scan times differ, from {min(times):.0f} to {max(times):.0f} s; scores are not "
            "corrected for them."
        )
    lost = sum(row.jobs_lost for row in rows)
    if lost:
        said.append(f"{lost} reported jobs diverged or failed and are in no average.")
    return said


def write_result(root: Path, result: StudyResult, trials: Mapping[str, TrialRecord]) -> None:
    """Write the answer as JSON beside the table: what was reported, and by which jobs.

    Raises
    ------
    InvalidInput
        If the folder cannot be written.
    """
    content: dict[str, Any] = {
        "status": result.status,
        "question": result.study.question,
        "objective": result.objective,
        "n_subjects": result.n_subjects,
        "caveats": list(result.caveats),
        "jobs": dict(result.jobs),
        "seconds": result.seconds,
        "protocols": [
            {
                **asdict(row),
                "trial": str(trials[row.label].key),
                "job_ids": list(trials[row.label].job_ids),
            }
            for row in result.protocols
        ],
    }
    with writing(root):
        replace_text(root / RESULT_FILE, json.dumps(content, indent=1))


def read_result(directory: str | Path) -> dict[str, Any]:
    """Return what `write_result` wrote."""
    content: dict[str, Any] = read_json(Path(directory) / RESULT_FILE)
    return content
