"""The report: one HTML file that needs nothing but a browser, and a Markdown summary."""

from html import escape
from pathlib import Path

from bmapest_ray.report import markup, sections, tables
from bmapest_ray.report.compare import Comparison, answer, compare, find, pair_sentence
from bmapest_ray.report.evidence import Evidence
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
    return markup.page(f"{study.name}: report", top, _sections(evidence, asked))


def _sections(evidence: Evidence, asked: Comparison | None) -> list[tuple[str, str, str]]:
    against = "" if asked is None else f"{asked.better} against {asked.worse}"
    shown = sections.shown_table
    return [
        ("pair", against, sections.pair(evidence, asked)),
        ("protocols", "Protocols", shown(tables.protocols(evidence))),
        ("caveats", "What to keep in mind", markup.bullets(caveats(evidence), "caveats")),
        ("tests", "Paired tests", shown(tables.tests(evidence))),
        ("time", "Accuracy against scan time", sections.pareto(evidence)),
        ("front", "Pareto front of the search", sections.front(evidence)),
        ("subjects", "Over subjects", sections.boxes(evidence)),
        ("maps", "Maps", sections.maps(evidence, asked)),
        ("calibration", "Calibration", sections.calibration(evidence)),
        ("convergence", "Convergence", sections.convergence(evidence)),
        ("search", "Search", sections.search(evidence)),
        ("scores", "All scores", shown(tables.all_scores(evidence))),
        ("origin", "Where this comes from", _origin(evidence)),
    ]


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


def _origin(evidence: Evidence) -> str:
    study = evidence.result.study
    folder = f"<p>Study folder: <code>{escape(str(study.directory))}</code></p>"
    known = dict(study.digests) or {f"protocol/{row.label}": row.digest for row in study.protocols}
    table = markup.table(("input", "sha256"), sorted(known.items()), "Digests of the inputs.")
    return f"{folder}<details><summary>Digests of the inputs</summary>{table}</details>"


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
    makers = (tables.protocols, tables.tests, tables.fronts, tables.settings)
    shown = [make(evidence) for make in makers]
    parts += [table.markdown for table in shown if table is not None]
    parts.append("\n".join(f"- {caveat}" for caveat in caveats(evidence)))
    return "\n\n".join(part for part in parts if part) + "\n"
