"""What ``bmapest run`` says: the plan before, the answer after."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.progress import duration
from bmapest_ray.cli.tables import legend, plain_table, rows
from bmapest_ray.study.summary import StudyResult

if TYPE_CHECKING:
    from bmapest_ray.study.cost import Estimate
    from bmapest_ray.study.plan import Plan


@dataclass(frozen=True)
class Told:
    """What a run tells of a study that ended.

    Parameters
    ----------
    result
        The study's result.
    answer
        The report's sentence: which protocol is ahead, by how much, and how sure that is.
    files
        What is where.
    problem
        One sentence on what MLflow misses; empty where it has everything.
    """

    result: StudyResult
    answer: str
    files: Mapping[str, str]
    problem: str


def answer_lines(told: Told, score: str) -> list[str]:
    """Return the answer and where everything is, for a person."""
    result, files = told.result, told.files
    jobs = ", ".join(f"{count} {name.lower()}" for name, count in result.jobs.items())
    return [
        "",
        result.study.question,
        "",
        *plain_table(rows(result, score)),
        "",
        f"objective: {result.objective}",
        legend(result),
        *(f"note: {caveat}" for caveat in result.caveats if not caveat.startswith("n = 1")),
        "",
        told.answer,
        "",
        f"jobs:    {jobs} in {duration(result.seconds)}",
        f"maps:    {files['maps']}",
        f"results: {files['results']}",
        f"report:  {files['report']}",
        *([f"MLflow:  {files['mlflow']}"] if "mlflow" in files else []),
    ]


def told_of(told: Told) -> dict[str, Any]:
    """Return the answer as data."""
    result = told.result
    return {
        "status": str(result.status),
        "question": result.study.question,
        "answer": told.answer,
        "objective": result.objective,
        "n_subjects": result.n_subjects,
        "test": "n = 1: no test" if result.n_subjects < 2 else "paired: see the report",
        "protocols": [asdict(row) for row in result.protocols],
        "caveats": list(result.caveats),
        "jobs": dict(result.jobs),
        "seconds": result.seconds,
        "files": dict(told.files),
        **({"notes": [told.problem]} if told.problem else {}),
    }


def dry_run_told(plan: "Plan", out: Path) -> dict[str, Any]:
    """Return what a study would do, as data."""
    search = plan.config.search
    trials = (search.n_trials or 0) if plan.searches else 0
    return {
        "question": plan.config.question,
        "protocols": {
            label: {"scan_time_s": planned.info.scan_time_s, "digest": planned.info.digest}
            for label, planned in plan.protocols.items()
        },
        "subjects": list(plan.subjects),
        "tune_subjects": list(plan.tune_subjects) if plan.searches else [],
        "slices": list(plan.slices),
        "search_trials_per_protocol": trials,
        "jobs": plan.n_jobs(trials * len(plan.protocols)),
        "objective": plan.objective.text,
        "runner": plan.config.compute.runner,
        "out": str(out),
        "estimate": asdict(_estimate(plan, out, trials)),
    }


def _estimate(plan: "Plan", out: Path, trials: int) -> "Estimate":
    from bmapest_ray.sequence.parse import presets_directory
    from bmapest_ray.study.cost import CostModel, estimate, read_costs, seconds_of_earlier_jobs

    measured = read_costs(presets_directory().parent / "results" / "jobs.json")
    earlier = seconds_of_earlier_jobs(out.parent, plan.config)
    return estimate(plan, CostModel(measured), earlier, trials)


def plan_lines(told: Mapping[str, Any]) -> list[str]:
    """Return what a study would do, for a person."""
    cost = told["estimate"]
    table = [["protocol", "scan time", "a job"]]
    table += [
        [name, f"{row['scan_time_s']:.1f} s", _seconds(cost["seconds_per_job"][name])]
        for name, row in told["protocols"].items()
    ]
    return [
        told["question"],
        "",
        *plain_table(table),
        "",
        f"subjects:  {', '.join(told['subjects'])}",
        f"slices:    {', '.join(told['slices'])}",
        f"search:    {told['search_trials_per_protocol']} trials per protocol",
        f"objective: {told['objective']}",
        f"jobs:      at most {told['jobs']}, by the {told['runner']} runner",
        f"time:      {_time_text(cost)}",
        f"memory:    about {cost['worker_gb']:.1f} GB a worker",
        f"GPU:       about {cost['gpu_gb']:.1f} GB a worker by the sizes measured on CPUs: "
        f"compute.num_gpus={cost['num_gpus']:g} of {cost['gpu_total_gb']:.0f} GB",
        f"folder:    {told['out']}",
        "nothing was run (--dry-run)",
    ]


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.2g} s"


def _time_text(cost: Mapping[str, Any]) -> str:
    if cost["worker_seconds"] is None:
        return "not known, no job of this solver and mixing was measured; run a small study beside"
    told = f"about {duration(cost['worker_seconds'])} of one worker, by {cost['source']}"
    if cost["wall_seconds"] is None or cost["workers"] == 1:
        return told
    return f"{told}; {duration(cost['wall_seconds'])} with {cost['workers']} workers"
