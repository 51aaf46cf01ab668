"""The charts of a report, section by section; a section without content is an empty text."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures import charts, search_charts
from bmapest_ray.figures.job_panel import read_maps
from bmapest_ray.report import markup, tables
from bmapest_ray.report.compare import Comparison, find, pair_sentence, pareto_front
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.report.map_layers import map_layers
from bmapest_ray.report.map_section import map_section
from bmapest_ray.report.statistics import bootstrap_interval
from bmapest_ray.study.pareto import search_points
from bmapest_ray.study.records import TrialRecord
from bmapest_ray.study.subset import contrasts_in

NOMINAL = (*(i / 20 for i in range(1, 20)), 0.99)
"""Probabilities at which intervals are checked."""


def axis(evidence: Evidence) -> str:
    """Name the objective with its unit."""
    return f"{evidence.score} ({evidence.unit})" if evidence.unit else evidence.score


def shown_table(table: tables.TextTable | None) -> str:
    """Return a table; nothing where it has no rows."""
    if table is None or not table.rows:
        return ""
    return markup.table(table.header, table.rows, table.caption, best=table.best)


def pair(evidence: Evidence, asked: Comparison | None) -> str:
    """Compare two protocols that were asked for, subject by subject."""
    if asked is None:
        return ""
    one, other = (find(evidence.measured, label) for label in (asked.better, asked.worse))
    values = {
        subject: one.by_subject[subject] - other.by_subject[subject]
        for subject in sorted(one.by_subject.keys() & other.by_subject.keys())
    }
    sentence = markup.paragraph(pair_sentence(asked, evidence.unit))
    if len(values) < 2:
        return sentence
    names = f"{asked.better} minus {asked.worse}"
    chart = charts.differences(values, asked.test.mean_difference, axis(evidence), names=names)
    return (
        sentence
        + shown_table(tables.asked_pair(evidence, asked))
        + markup.chart("chart-pair", chart)
    )


def pareto(evidence: Evidence) -> str:
    """Accuracy against scan time."""
    rows = [row for row in evidence.measured if row.by_subject]
    if not rows:
        return ""
    front = pareto_front(rows, higher_is_better=evidence.higher_is_better)
    points = []
    for row in rows:
        values = list(row.by_subject.values())
        interval = bootstrap_interval(values) if len(values) > 1 else None
        on_front = row.label in front
        points.append(charts.Spread(row.label, row.scan_time_s, row.mean, interval, on_front))
    return markup.chart("chart-pareto", charts.pareto(points, axis(evidence)))


def front(evidence: Evidence) -> str:
    """Show the Pareto front of a search over scan time; nothing where none was asked for."""
    if not evidence.fronts:
        return ""
    points = {
        label: [
            search_charts.Tried(
                seconds, trial.value or 0.0, ", ".join(contrasts_in(trial.settings))
            )
            for trial, seconds in tried
        ]
        for label, tried in search_points(evidence.trials).items()
    }
    lines = {
        label: [(seconds, trial.value or 0.0) for trial, seconds in kept]
        for label, kept in evidence.fronts.items()
    }
    chart = search_charts.search_front(points, lines, axis(evidence))
    return markup.chart("chart-front", chart) + shown_table(tables.fronts(evidence))


def boxes(evidence: Evidence) -> str:
    """Draw the objective and each tissue's score over subjects; nothing for one subject."""
    if evidence.result.n_subjects < 2:
        return ""
    objective = {row.label: row.by_subject for row in evidence.ranked}
    drawn = [markup.chart("chart-subjects", charts.boxes(objective, axis(evidence)))]
    for tissue in TISSUES:
        values = evidence.by_subject(tissue, "psnr_db")
        kept = {row.label: values[row.label] for row in evidence.ranked if values[row.label]}
        if kept:
            chart = charts.boxes(kept, f"PSNR of {tissue} (dB)")
            drawn.append(markup.chart(f"chart-subjects-{tissue}", chart))
    return "".join(drawn)


def maps(evidence: Evidence, asked: Comparison | None) -> str:
    """Show the typical subject under the best protocols and those that were asked for."""
    wanted = () if asked is None else (asked.better, asked.worse)
    layers = map_layers(evidence, wanted)
    return "" if layers is None else map_section(layers)


def calibration(evidence: Evidence) -> str:
    """Whether stated deviations hold what they promise, over the jobs that are shown."""
    inside: dict[str, list[list[float]]] = {}
    subjects = set()
    for row in evidence.ranked:
        for job in evidence.jobs.get(row.label, ()):
            shown = evidence.shown.get(job.id)
            if shown is None or shown.std is None:
                continue
            estimate = read_maps(job, evidence.result.study.directory)
            truth = read_maps(job, evidence.result.study.directory, "truth_")
            if estimate is not None and truth is not None:
                shares = coverage_curve(estimate, shown.std, truth)
                inside.setdefault(row.label, []).append(shares)
                subjects.add(job.subject)
    if not inside:
        return ""
    mean = {label: np.mean(curves, axis=0).tolist() for label, curves in inside.items()}
    chart = charts.calibration(NOMINAL, mean, len(subjects))
    return markup.chart("chart-calibration", chart)


def coverage_curve(
    estimate: np.ndarray, std: np.ndarray, truth: np.ndarray, nominal: Sequence[float] = NOMINAL
) -> list[float]:
    """Return the share of true fractions inside the central interval of each probability.

    Parameters
    ----------
    estimate, std, truth
        Shape `(tissue, y, x)`; voxels without any tissue and those without deviation do not count.
    nominal
        Probabilities.
    """
    counted = (truth.sum(0) > 0) & (std > 0)
    distance = np.abs(estimate - truth)[counted] / std[counted]
    widths = [NormalDist().inv_cdf((1 + p) / 2) for p in nominal]
    return [float(np.mean(distance <= width)) for width in widths]


def convergence(evidence: Evidence) -> str:
    """Objective of a typical fit over its iterations."""
    lines: dict[str, Sequence[tuple[float, float]]] = {}
    for row in evidence.ranked:
        job = evidence.typical_job(row.label) or next(iter(evidence.jobs.get(row.label, ())), None)
        points = [] if job is None else _positive_objectives(job.history)
        if points:
            lines[row.label] = points
    if not lines:
        return ""
    chart = charts.curves(lines, "objective of the fit", title="Convergence")
    return markup.chart("chart-convergence", chart)


def _positive_objectives(history: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    rows = [row for row in history if row.get("objective", 0) > 0]
    return [(float(row.get("iteration", i)), float(row["objective"])) for i, row in enumerate(rows)]


def search(evidence: Evidence) -> str:
    """History, importances, slices and parallel coordinates of the search."""
    trials = evidence.search_trials()
    if not trials:
        return ""
    values = {
        label: [(trial.key.number, trial.value or 0.0) for trial in rows]
        for label, rows in trials.items()
    }
    every = [trial for rows in trials.values() for trial in rows]
    names = sorted({name for trial in every for name in trial.settings})
    complete = [trial for trial in every if all(name in trial.settings for name in names)]
    history = search_charts.search_history(
        values, axis(evidence), higher_is_better=evidence.higher_is_better
    )
    parts = [shown_table(tables.settings(evidence)), markup.chart("chart-history", history)]
    if evidence.importances:
        shares = {
            label: {short(name): v for name, v in evidence.importances[label].items()}
            for label in trials
            if label in evidence.importances
        }
        parts.append(markup.chart("chart-importances", search_charts.importances(shares)))
    if names and complete:
        logarithmic = _logarithmic(evidence, names)
        parts.append(_slices(evidence, names, complete, logarithmic))
        parts.append(_parallel(names, complete, logarithmic))
    return "".join(parts)


def short(name: str) -> str:
    """Return a setting's path without what all of them share."""
    return name.removeprefix("inversion.").removeprefix("settings.")


def _logarithmic(evidence: Evidence, names: Sequence[str]) -> list[str]:
    space = evidence.result.study.config.get("search", {}).get("space", {})
    return [short(name) for name in names if dict(space.get(name, {})).get("log")]


def _slices(
    evidence: Evidence,
    names: Sequence[str],
    trials: Sequence[TrialRecord],
    logarithmic: Sequence[str],
) -> str:
    columns: dict[str, dict[str, list[tuple[float | str, float]]]] = {}
    for name in names:
        for trial in trials:
            pairs = columns.setdefault(short(name), {}).setdefault(trial.key.protocol, [])
            pairs.append((trial.settings[name], trial.value or 0.0))
    chart = search_charts.slices(columns, logarithmic, axis(evidence))
    return markup.chart("chart-slices", chart)


def _parallel(
    names: Sequence[str], trials: Sequence[TrialRecord], logarithmic: Sequence[str]
) -> str:
    columns: dict[str, Sequence[float | str]] = {
        "protocol": [trial.key.protocol for trial in trials],
        **{short(name): [trial.settings[name] for trial in trials] for name in names},
        "objective": [trial.value or 0.0 for trial in trials],
    }
    return markup.chart("chart-parallel", search_charts.parallel(columns, "objective", logarithmic))
