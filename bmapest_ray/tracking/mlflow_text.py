"""What a study says in MLflow's words: names it allows, params, metrics, notes."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from bmapest_ray.study.records import JobRecord, StudyInfo, TrialRecord
from bmapest_ray.study.status import Stage
from bmapest_ray.study.summary import Statistic, StudyResult, score_table

Point = tuple[str, float, int]

_FORBIDDEN = re.compile(r"[^\w\-. /:]+")


def allowed_name(name: str) -> str:
    """Replace what MLflow refuses in the names of params and metrics.

    ``t1inv,t2prep[1]`` becomes ``t1inv_t2prep_1``.
    """
    return _FORBIDDEN.sub("_", name).strip("_ ")


def clip(values: Mapping[str, str], length: int = 5000) -> dict[str, str]:
    """Shorten values to what MLflow takes."""
    return {key: str(value)[:length] for key, value in values.items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and texts of the leaves of nested mappings, leaving out what is unset.

    Texts are those of what a JSON file gives back: MLflow refuses a parameter that is told again
    with another text, as a rebuild does where a server died in the middle of a run.
    """
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif value is not None:
            yield allowed_name(name), str(json.loads(json.dumps(value, default=str)))


def score_points(scores: Mapping[str, Mapping[str, float | None]]) -> list[Point]:
    """Return one metric per score and tissue, grouped by score: ``psnr_db/GM``."""
    return [
        (f"{score}/{tissue}", float(value), 0)
        for tissue, row in scores.items()
        for score, value in row.items()
        if value is not None and math.isfinite(value)
    ]


def curve_points(job: JobRecord) -> list[Point]:
    """Return the thinned convergence curve as metrics with steps."""
    return [
        (f"convergence/{allowed_name(name)}", float(value), int(row.get("iteration", step)))
        for step, row in enumerate(job.history)
        for name, value in row.items()
        if name != "iteration" and math.isfinite(value)
    ]


def job_points(job: JobRecord) -> list[Point]:
    """Return all metrics of a job."""
    plain = {
        "seconds": job.seconds,
        "setup_seconds": job.setup_seconds,
        "total_seconds": job.total_seconds,
        "iterations": float(job.iterations),
        "scan_time_s": job.scan_time_s,
    }
    return [
        *score_points(job.scores),
        *curve_points(job),
        *((name, value, 0) for name, value in plain.items()),
    ]


def job_params(job: JobRecord) -> dict[str, str]:
    """Return what decides a job, under names that the UI's compare view lines up."""
    return {
        "protocol": job.protocol,
        "subject": job.subject,
        "slice": job.slice,
        "draw": str(job.draw),
        **dict(flatten(job.configuration)),
    }


def job_tags(job: JobRecord, settings_digest: str) -> dict[str, str]:
    """Return the tags that a job is found by."""
    tags = {
        "protocol": job.protocol,
        "subject": job.subject,
        "solver": str(job.configuration.get("solver", "")),
        "digest": job.id,
        "configuration": settings_digest,
        "solver_status": job.solver_status,
        "message": job.message,
        "worker": job.worker,
        **{f"digest.{name}": value for name, value in job.digests.items()},
    }
    return {name: value for name, value in tags.items() if value}


def job_name(job: JobRecord) -> str:
    """Return the name of a job's run."""
    draw = f" draw {job.draw}" if job.draw else ""
    return f"sub-{job.subject} {job.slice}{draw}"


def trial_name(trial: TrialRecord) -> str:
    """Return the name of a trial's run."""
    return f"{trial.key.protocol} {trial.key.stage} {trial.key.number:04d}"


def split_of(config: Mapping[str, Any], stage: Stage) -> str:
    """Name the subjects of a stage: the split's name, else whether they tune or are reported."""
    anatomy, search = config.get("anatomy", {}), config.get("search", {})
    named = anatomy.get("subjects")
    if stage is Stage.SEARCH and search.get("tune_subjects") is not None:
        named = search["tune_subjects"]
        return named if isinstance(named, str) else "tune"
    return named if isinstance(named, str) else "report"


def study_note(study: StudyInfo, result: StudyResult | None = None, answer: str = "") -> str:
    """Return the Markdown that the MLflow UI shows with a study's run.

    The UI folds it after its first lines, so the question and the `answer`, a sentence, lead.
    """
    lines = [f"**Question.** {study.question}", ""]
    lines += [f"**Answer.** {answer}", ""] if answer else []
    lines += [
        "This run holds the study; the trials are nested in it, one per protocol and configuration,"
        " and the jobs in those, one per subject, slice and noise draw. Compare the trials tagged"
        " `stage = report` to compare protocols; metrics are named `score/tissue`. A reported trial"
        " shows its maps under Artifacts and, with a slider, over subjects (`maps`) and over a"
        " typical fit (`iterations`). The artifacts of this run hold the answer: `report.html`;"
        " `viewer.html` shows the best maps, `protocols` what was played.",
        "",
        f"Folder: `{study.directory}`",
    ]
    if result is not None:
        lines += ["", *result_table(result)]
    return "\n".join(lines)


def result_table(result: StudyResult) -> list[str]:
    """Return a study's answer as a Markdown table."""
    lines = [
        f"Objective: {result.objective}. n = {result.n_subjects}"
        + (": no test." if result.n_subjects < 2 else "."),
        "",
        "| protocol | objective | scan time |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row.label} | {statistic_text(row.objective)} | {row.scan_time_s:.1f} s |"
        for row in result.protocols
    ]
    lines += ["", *(f"- {caveat}" for caveat in result.caveats)]
    return lines


def statistic_text(value: Statistic | None) -> str:
    """Write mean, sd and n; the sd of one subject does not exist."""
    if value is None:
        return "no value"
    sd = "" if value.sd is None else f" ± {value.sd:.2f}"
    return f"{value.mean:.2f}{sd} (n = {value.n})"


def trial_points(trial: TrialRecord, jobs: Sequence[JobRecord]) -> list[Point]:
    """Return a trial's objective and, under a job's names, its means over subjects."""
    table, _ = score_table(jobs)
    means = {t: {score: s.mean for score, s in row.items()} for t, row in table.items()}
    points = score_points(means)
    if trial.value is not None:
        points.append(("objective", trial.value, 0))
    if jobs:
        points.append(("scan_time_s", jobs[0].scan_time_s, 0))
        points.append(("seconds", fmean(job.seconds for job in jobs), 0))
    return points


def study_points(result: StudyResult) -> list[Point]:
    """Return each protocol's objective and scan time as metrics of the study's run."""
    points: list[Point] = []
    for row in result.protocols:
        label = allowed_name(row.label)
        points.append((f"scan_time_s/{label}", row.scan_time_s, 0))
        if row.objective is not None:
            points.append((f"objective/{label}", row.objective.mean, 0))
    points += [(f"jobs/{allowed_name(name)}", float(n), 0) for name, n in result.jobs.items()]
    return points
