"""A study that never ran: records as a store would give them, with known differences."""

from pathlib import Path

import nibabel
import numpy as np

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures.job_panel import read_maps
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.study.answer import write_result
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.inputs import write_inputs
from bmapest_ray.study.records import JobRecord, ProtocolInfo, StudyInfo, TrialKey, TrialRecord
from bmapest_ray.study.search_importance import importances
from bmapest_ray.study.showcase import Shown
from bmapest_ray.study.status import JobStatus, Stage, TrialStatus
from bmapest_ray.study.store import StudyStore
from bmapest_ray.study.summary import (
    ProtocolSummary,
    StudyResult,
    StudyStatus,
    per_subject,
    score_table,
    statistic,
)
from bmapest_ray.study.table import write_part

GAIN_DB = {"t1inv": 0.0, "t2prep": -3.0, "t1inv,t2prep": 4.0, "t2star": -6.0}
SEARCH = SearchConfig.model_validate(
    {
        "space": {
            "inversion.settings.damping": {"low": 0.0, "high": 1.0},
            "inversion.settings.signs": ["auto", "none"],
        }
    }
)
SECONDS = {"t1inv": 48.3, "t2prep": 44.9, "t1inv,t2prep": 93.2, "t2star": 50.0}


def make_job(
    directory: Path, label: str, subject: int, draw: int, *, maps: bool, matrix: int = 32
) -> JobRecord:
    random = np.random.default_rng([subject, draw, list(GAIN_DB).index(label)])
    base = 28 + 2 * np.sin(subject) + GAIN_DB[label] + random.normal(0, 0.3)
    name = f"{subject:02d}-{draw}-{list(GAIN_DB).index(label)}"
    return JobRecord(
        id=name,
        status=JobStatus.DONE,
        protocol=label,
        subject=f"{subject:02d}",
        slice="below-top:75",
        draw=draw,
        scores={
            tissue: {"psnr_db": base + 2 * i, "ssim": 0.9 + 0.01 * i, "mae": 0.01}
            for i, tissue in enumerate(TISSUES)
        },
        scan_time_s=SECONDS[label],
        iterations=12,
        seconds=1.5,
        configuration={"solver": "gauss-newton"},
        history=tuple(
            {"iteration": i, "objective": 10.0 ** (3 - i / 2), "seconds": 0.1 * i}
            for i in range(12)
        ),
        files=write_maps(directory, name, random, matrix) if maps else {},
    )


def write_maps(
    directory: Path, name: str, random: np.random.Generator, matrix: int = 32
) -> dict[str, str]:
    y, x = np.mgrid[-1 : 1 : matrix * 1j, -1 : 1 : matrix * 1j]
    files = {}
    for index, tissue in enumerate(TISSUES):
        truth = np.exp(-4 * ((x - 0.3 * index + 0.3) ** 2 + y**2))
        for prefix, values in (("truth_", truth), ("", truth + random.normal(0, 0.03, x.shape))):
            path = f"{name}-{prefix}{tissue}.nii.gz"
            image = nibabel.Nifti1Image(values.T[:, :, None].astype(np.float32), np.eye(4))
            nibabel.save(image, directory / path)
            files[f"{prefix}{tissue}"] = path
    return files


def objective(job: JobRecord) -> float | None:
    values = [scores["psnr_db"] for scores in job.scores.values()]
    return None if None in values else float(np.mean(values))


def make_shown(directory: Path, job: JobRecord) -> Shown:
    """What is shown of a job whose deviations are as large as its errors: 0.03."""
    frames = read_maps(job, directory)
    assert frames is not None
    std = np.full_like(frames, 0.03)
    return Shown(job.id, {"protocol": job.protocol}, (0, 1), np.stack([frames] * 2), frames[0], std)


def make_evidence(
    directory: Path,
    *,
    subjects: int = 10,
    draws: int = 1,
    trials: int = 8,
    maps: bool = True,
    matrix: int = 32,
) -> Evidence:
    jobs = {
        label: [
            make_job(
                directory,
                label,
                subject,
                draw,
                maps=maps and subject < 3 and draw == 0,
                matrix=matrix,
            )
            for subject in range(subjects)
            for draw in range(draws)
        ]
        for label in GAIN_DB
    }
    study = StudyInfo(
        id="made-up",
        name="made-up",
        question="Which of four protocols measures <grey> matter best?",
        directory=directory,
        config={"name": "made-up"},
        protocols=tuple(ProtocolInfo(label, "d" * 64, SECONDS[label], "") for label in GAIN_DB),
        digests={"anatomy/00": "a" * 64},
    )
    result = StudyResult(
        study,
        StudyStatus.FINISHED,
        tuple(sorted(map(summary, jobs.values()), key=lambda row: -row.objective.mean)),  # type: ignore[union-attr]
        "mean psnr_db over GM, WM, CSF (higher is better)",
        subjects,
        caveats=("The data come from the model that is fitted.",),
        jobs={"DONE": sum(map(len, jobs.values()))},
    )
    searched = [search_trial(label, n) for label in GAIN_DB for n in range(trials)]
    with_maps = [job for rows in jobs.values() for job in rows if job.files]
    return Evidence(
        result,
        jobs,
        searched,
        objective,
        "mean PSNR",
        "dB",
        True,
        importances=importances(searched, SEARCH),
        shown={job.id: make_shown(directory, job) for job in with_maps},
    )


def write_study(directory: Path, evidence: Evidence) -> None:
    """Write what a driver leaves of a study, its jobs as the results table alone."""
    labels = ", ".join(f'"{label}"' for label in GAIN_DB)
    (directory / "study.yaml").write_text(
        f"name: made-up\nquestion: Which of four protocols measures GM best?\n"
        f"protocols: [{labels}]\nsearch: {{space: {{inversion.settings.damping: "
        "{low: 0.0, high: 1.0}, inversion.settings.signs: [auto, none]}}\n"
    )
    (directory / "study.json").write_text('{"id": "made-up"}')
    write_inputs(evidence.result.study)
    (directory / "results").mkdir()
    jobs = [job for rows in evidence.jobs.values() for job in rows]
    write_part(directory / "results" / "part-00000.parquet", jobs)
    store = StudyStore(directory)
    for trial in evidence.trials:
        store.write_trial(trial)
    reports = {
        label: TrialRecord(TrialKey(label, Stage.REPORT, 0), {}, tuple(job.id for job in rows))
        for label, rows in evidence.jobs.items()
    }
    write_result(directory, evidence.result, reports)


def summary(jobs: list[JobRecord]) -> ProtocolSummary:
    table, spread = score_table(jobs)
    label = jobs[0].protocol
    return ProtocolSummary(
        label=label,
        digest="d" * 64,
        scan_time_s=SECONDS[label],
        settings={"inversion.settings.damping": 0.0123456},
        objective=statistic(list(per_subject(jobs, objective).values())),
        scores=table,
        spread=spread,
        jobs_done=len(jobs),
        jobs_lost=0,
        trials=8,
    )


def search_trial(label: str, number: int) -> TrialRecord:
    random = np.random.default_rng([number, list(GAIN_DB).index(label)])
    settings = {
        "inversion.settings.damping": float(random.uniform(0, 1)),
        "inversion.settings.signs": ["auto", "none"][number % 2],
    }
    key = TrialKey(label, Stage.SEARCH, number)
    value = 28 + GAIN_DB[label] - settings["inversion.settings.damping"] + random.normal(0, 0.2)
    return TrialRecord(key, settings, (), TrialStatus.COMPLETE, float(value))
