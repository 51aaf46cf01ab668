"""``bmapest study plan``: subjects needed to show a difference."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import InvalidInput, require_choice


@dataclass(frozen=True)
class PlanOptions:
    """The options of ``bmapest study plan`` by their names."""

    directory: Path | None
    compare: tuple[str, str] | None
    difference: float | None
    sd: float | None
    power: float
    alpha: float


def plan_needed(options: PlanOptions) -> dict[str, Any]:
    """Return how many subjects are needed, as data with one sentence for a person.

    Raises
    ------
    InvalidInput
        If neither a study nor numbers say what spread to expect.
    """
    from bmapest_ray.study.power import sample_size

    difference, sd, seen = _expected(options)
    needed = sample_size(difference, sd, power=options.power, alpha=options.alpha)
    origin = f" (sd from {seen} subjects)" if seen else ""
    sentence = (
        f"{needed.subjects} subjects show a mean difference of {difference:.4g} with sd {sd:.3g}"
        f"{origin} in {100 * options.power:.0f} % of studies at p < {options.alpha:g} (paired "
        f"Wilcoxon; the paired t test needs {needed.subjects_t})"
    )
    return {**asdict(needed), "subjects_seen": seen, "sentence": sentence}


def _expected(options: PlanOptions) -> tuple[float, float, int | None]:
    if options.directory is None:
        if options.difference is None or options.sd is None:
            raise InvalidInput(
                "a plan needs a study folder with --compare A B, or --difference and --sd, got "
                "neither; give one"
            )
        return options.difference, options.sd, None
    mean, sd, seen = _observed(options.directory, options.compare)
    return (
        mean if options.difference is None else options.difference,
        sd if options.sd is None else options.sd,
        seen,
    )


def _observed(directory: Path, compare: tuple[str, str] | None) -> tuple[float, float, int]:
    from bmapest_ray.study.objective import make_objective
    from bmapest_ray.study.overview import config_of
    from bmapest_ray.study.power import paired_differences
    from bmapest_ray.study.status import Stage
    from bmapest_ray.study.store import load_jobs, load_trials
    from bmapest_ray.study.summary import per_subject

    trials = [t for t in load_trials(directory) if t.key.stage is Stage.REPORT]
    reports = {trial.key.protocol: trial for trial in trials}
    labels = tuple(reports) if compare is None else compare
    if len(labels) != 2:
        raise InvalidInput(
            f"a plan compares two protocols, the study reports {', '.join(labels) or 'none'}; "
            "name two with --compare"
        )
    for label in labels:
        require_choice("--compare", label, tuple(reports))
    jobs = {job.id: job for job in load_jobs(directory)}
    value = make_objective(config_of(directory).search.objective).of_job
    one, other = (
        per_subject((jobs[i] for i in reports[label].job_ids if i in jobs), value)
        for label in labels
    )
    return paired_differences(one, other)
