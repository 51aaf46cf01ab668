"""How a study stands, in words and as data."""

from collections.abc import Mapping, Sequence
from typing import Any

from bmapest_ray.cli.tables import plain_table
from bmapest_ray.study.overview import Overview
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.subset import contrasts_in


def overview_told(study: Overview) -> dict[str, Any]:
    """Return how a study stands, as data."""
    return {
        "folder": str(study.directory),
        "name": study.name,
        "question": study.question,
        "status": study.status,
        "jobs": dict(study.jobs),
        "trials": dict(study.trials),
        "objective": study.objective,
        "best": {label: trial.value for label, trial in study.best.items()},
    }


def best_told(study: Overview) -> dict[str, Any]:
    """Return the best configuration of each protocol and, where asked for, its front, as data."""
    fronts = study.fronts
    return {
        "objective": study.objective,
        "best": {label: _trial_told(trial) for label, trial in study.best.items()},
        **({"front": {k: list(map(_trial_told, v)) for k, v in fronts.items()}} if fronts else {}),
    }


def _trial_told(trial: TrialRecord) -> dict[str, Any]:
    return {
        "trial": str(trial.key),
        "value": trial.value,
        "scan_time_s": trial.scan_time_s,
        "settings": dict(trial.settings),
    }


def list_lines(studies: Sequence[Overview]) -> list[str]:
    """Return one line per study."""
    if not studies:
        return ["no studies here"]
    rows = [["folder", "status", "jobs", "trials", "question"]]
    rows += [
        [
            str(study.directory),
            study.status,
            str(sum(study.jobs.values())),
            str(sum(study.trials.values())),
            study.question,
        ]
        for study in studies
    ]
    return plain_table(rows, right=False)


def status_lines(study: Overview) -> list[str]:
    """Return how a study stands, for a person."""
    return [
        study.question,
        f"status:    {study.status}",
        f"jobs:      {_counted(study.jobs)}",
        f"trials:    {_counted(study.trials)}",
        f"objective: {study.objective}",
        *(f"best:      {trial.value:.4g}  {label}" for label, trial in study.best.items()),
    ]


def best_lines(study: Overview) -> list[str]:
    """Return the best configuration of each protocol and, where asked for, its front."""
    lines = [f"objective: {study.objective}"]
    for label, trial in study.best.items():
        lines += ["", f"{label}: {trial.value:.6g} by {trial.key}"]
        lines += [f"  {path}: {value}" for path, value in trial.settings.items()]
        lines += _front_lines(study.fronts.get(label, ()))
    return lines if study.best else [*lines, "no trial is complete yet"]


def _front_lines(front: Sequence[TrialRecord]) -> list[str]:
    if not front:
        return []
    rows = [["scan time", "objective", "trial", "contrasts"]]
    rows += [
        [
            f"{trial.scan_time_s:.1f} s",
            f"{trial.value:.6g}",
            str(trial.key.number),
            ", ".join(contrasts_in(trial.settings)),
        ]
        for trial in front
    ]
    return ["  Pareto front of scan time and objective:", *_indented(plain_table(rows))]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in counts.items()) or "none"
