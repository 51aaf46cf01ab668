"""The report: one HTML file that needs nothing but a browser, and a Markdown summary."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures import charts
from bmapest_ray.report import markup, tables
from bmapest_ray.report.compare import (
    Comparison,
    answer,
    compare,
    find,
    pair_sentence,
    pareto_front,
)
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.report.montage import montages
from bmapest_ray.report.statistics import bootstrap_interval
from bmapest_ray.study.files import replace_text

HTML_NAME = "report.html"
MARKDOWN_NAME = "report.md"


def write_report(
    evidence: Evidence, directory: Path, pair: tuple[str, str] | None = None
) -> list[Path]:
    """Write ``report.html`` and ``report.md`` into a study's folder.

    Parameters
    ----------
    evidence
        What the study found.
    directory
        Where the files go.
    pair
        Two protocols to compare by name, without correction, beside the usual tests.

    Raises
    ------
    InvalidInput
        A protocol of `pair` is not in the study, or the two share no subject.
    """
    asked = None if pair is None else _pair(evidence, pair)
    files = {HTML_NAME: html(evidence, asked), MARKDOWN_NAME: markdown(evidence, asked)}
    for name, content in files.items():
        replace_text(directory / name, content)
    return [directory / name for name in files]


def _pair(evidence: Evidence, pair: tuple[str, str]) -> Comparison:
    one, other = (find(evidence.measured, label) for label in pair)
    return compare(one, other, higher_is_better=evidence.higher_is_better)


def sentence(evidence: Evidence) -> str:
    """Return the answer in one sentence."""
    return answer(
        evidence.measured,
        higher_is_better=evidence.higher_is_better,
        score=evidence.score,
        unit=evidence.unit,
    )


def html(evidence: Evidence, asked: Comparison | None = None) -> str:
    """Return the report as one self-contained page."""
    study = evidence.result.study
    top = (
        f'<h1>{escape(study.name)}</h1><p class="question">{escape(study.question)}</p>'
        f'<p class="answer">{escape(sentence(evidence))}</p>'
    )
    if asked is not None:
        top += f'<p class="answer">{escape(pair_sentence(asked, evidence.unit))}</p>'
    return markup.page(f"{study.name}: report", top, _sections(evidence))


def _sections(evidence: Evidence) -> list[tuple[str, str, str]]:
    return [
        ("protocols", "Protocols", _table(tables.protocols(evidence))),
        ("caveats", "What to keep in mind", markup.bullets(caveats(evidence), "caveats")),
        ("tests", "Paired tests", _table(tables.tests(evidence))),
        ("time", "Accuracy against scan time", _pareto(evidence)),
        ("subjects", "Over subjects", _boxes(evidence)),
        ("maps", "Maps", "".join(markup.picture(*item) for item in montages(evidence))),
        ("convergence", "Convergence", _convergence(evidence)),
        ("search", "Search", _search(evidence)),
        ("scores", "All scores", _table(tables.all_scores(evidence))),
        ("origin", "Where this comes from", _origin(evidence)),
    ]


def _table(table: tables.TextTable | None) -> str:
    if table is None or not table.rows:
        return ""
    return markup.table(table.header, table.rows, table.caption, best=table.best)


def caveats(evidence: Evidence) -> list[str]:
    """Return what a reader must know, the study's own caveats first."""
    found = list(evidence.result.caveats)
    if len(evidence.ranked) > 1 and evidence.result.n_subjects > 1:
        found.append(
            "The best protocol was picked on the subjects that it is compared on, which flatters "
            "its lead a little."
        )
    lost = sum(row.jobs_lost for row in evidence.result.protocols)
    if lost:
        found.append(f"{lost} jobs diverged or failed and are in no average.")
    return found


def _axis(evidence: Evidence) -> str:
    return f"{evidence.score} ({evidence.unit})" if evidence.unit else evidence.score


def _pareto(evidence: Evidence) -> str:
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
    return markup.chart("chart-pareto", charts.pareto(points, _axis(evidence)))


def _boxes(evidence: Evidence) -> str:
    if evidence.result.n_subjects < 2:
        return ""
    objective = {row.label: row.by_subject for row in evidence.ranked}
    drawn = [markup.chart("chart-subjects", charts.boxes(objective, _axis(evidence)))]
    for tissue in TISSUES:
        values = evidence.by_subject(tissue, "psnr_db")
        kept = {label: row for label, row in values.items() if row}
        if kept:
            chart = charts.boxes(kept, f"PSNR of {tissue} (dB)")
            drawn.append(markup.chart(f"chart-subjects-{tissue}", chart))
    return "".join(drawn)


def _convergence(evidence: Evidence) -> str:
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


def _positive_objectives(history: Sequence[object]) -> list[tuple[float, float]]:
    rows = [row for row in history if isinstance(row, dict) and row.get("objective", 0) > 0]
    return [(float(row.get("iteration", i)), float(row["objective"])) for i, row in enumerate(rows)]


def _search(evidence: Evidence) -> str:
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
    columns: dict[str, Sequence[float | str]] = {
        "protocol": [trial.key.protocol for trial in complete],
        **{
            name.removeprefix("inversion.").removeprefix("settings."): [
                trial.settings[name] for trial in complete
            ]
            for name in names
        },
        "objective": [trial.value or 0.0 for trial in complete],
    }
    history = charts.search_history(values, _axis(evidence))
    return (
        _table(tables.settings(evidence))
        + markup.chart("chart-history", history)
        + (markup.chart("chart-parallel", charts.parallel(columns, "objective")) if names else "")
    )


def _origin(evidence: Evidence) -> str:
    study = evidence.result.study
    digests = [(row.label, row.digest) for row in study.protocols] + sorted(study.digests.items())
    folder = f"<p>Study folder: <code>{escape(str(study.directory))}</code></p>"
    rows = [(name, value) for name, value in digests]
    return folder + markup.table(("input", "sha256"), rows, "Digests of the inputs.")


def markdown(evidence: Evidence, asked: Comparison | None = None) -> str:
    """Return the summary as Markdown."""
    study = evidence.result.study
    parts = [
        f"# {study.name}",
        f"**Question.** {study.question}",
        f"**Answer.** {sentence(evidence)}",
    ]
    if asked is not None:
        parts.append(f"**Asked for.** {pair_sentence(asked, evidence.unit)}")
    shown = (tables.protocols(evidence), tables.tests(evidence), tables.settings(evidence))
    parts += [table.markdown for table in shown if table is not None]
    parts.append("\n".join(f"- {caveat}" for caveat in caveats(evidence)))
    return "\n\n".join(part for part in parts if part) + "\n"
