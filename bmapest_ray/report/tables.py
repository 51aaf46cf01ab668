"""The tables of a report, as plain text cells that HTML and Markdown share."""

from collections.abc import Sequence
from dataclasses import dataclass

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.report.compare import Comparison, Measured, best_against_others
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.report.statistics import bootstrap_interval, format_p
from bmapest_ray.study.subset import contrasts_in, inner_settings
from bmapest_ray.study.summary import ProtocolSummary, Statistic


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first column names the row.

    Parameters
    ----------
    header, rows
        Cells.
    caption
        What the table shows and what its numbers are.
    best
        Index of the row to set off.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    best: int | None = None

    @property
    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        body = "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in lines)
        return f"{self.caption}\n\n{body}"


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def protocols(evidence: Evidence, tissue_score: str = "psnr_db") -> TextTable:
    """Give one row per protocol: objective with sd and interval, a score per tissue, scan time."""
    by_label = {row.label: row for row in evidence.measured}
    rows = [_protocol(row, by_label[row.label], tissue_score) for row in evidence.result.protocols]
    n = evidence.result.n_subjects
    what = (
        f"mean ± sd over n = {n} subjects" if n > 1 else "n = 1: no test, and no sd over subjects"
    )
    unit = f" ({evidence.unit})" if evidence.unit else ""
    return TextTable(
        header=(
            "protocol",
            f"objective{unit}",
            "95 % interval",
            *(f"{tissue} {score_heading(tissue_score)}" for tissue in TISSUES),
            "scan time",
            "n",
            "jobs",
        ),
        rows=rows,
        caption=f"Protocols, best first; the objective is the {evidence.score}; {what}.",
        best=0 if rows else None,
    )


def _protocol(row: ProtocolSummary, measured: Measured, score: str) -> tuple[str, ...]:
    values = list(measured.by_subject.values())
    interval = "-"
    if len(values) > 1:
        low, high = bootstrap_interval(values)
        interval = f"{low:.2f} to {high:.2f}"
    lost = f" ({row.jobs_lost} without result)" if row.jobs_lost else ""
    return (
        row.label,
        statistic_text(row.objective),
        interval,
        *(statistic_text(row.scores.get(tissue, {}).get(score)) for tissue in TISSUES),
        f"{row.scan_time_s:.1f} s",
        str(len(values)),
        f"{row.jobs_done}{lost}",
    )


def score_heading(score: str) -> str:
    """Write a score's name for a heading."""
    return "PSNR (dB)" if score == "psnr_db" else score.replace("_", " ")


def statistic_text(value: Statistic | None, digits: int = 2) -> str:
    """Write mean and sd."""
    if value is None:
        return "-"
    sd = "" if value.sd is None else f" ± {value.sd:.{digits}f}"
    return f"{value.mean:.{digits}f}{sd}"


def tests(evidence: Evidence) -> TextTable | None:
    """Compare the best protocol with each other one; None where there is only one."""
    found = best_against_others(evidence.measured, higher_is_better=evidence.higher_is_better)
    if not found:
        return None
    unit = f" ({evidence.unit})" if evidence.unit else ""
    return TextTable(
        header=(
            "comparison",
            f"difference{unit}",
            "95 % interval",
            "effect size",
            "n",
            "p",
            "p, Holm",
            "scan time",
        ),
        rows=[comparison_cells(row) for row in found],
        caption=(
            "The best protocol against each other one, paired over subjects: Wilcoxon signed-rank "
            "test, matched-pairs rank-biserial effect size, percentile bootstrap interval."
        ),
    )


def asked_pair(evidence: Evidence, row: Comparison) -> TextTable:
    """Give the test of two protocols that were named beforehand: one test, no correction."""
    unit = f" ({evidence.unit})" if evidence.unit else ""
    names = ("comparison", f"difference{unit}", "95 % interval", "effect size", "n", "p")
    header = (*names, "scan time")
    cells = comparison_cells(row)
    return TextTable(
        header,
        [(*cells[:6], cells[7])],
        "One test that was asked for by name, without correction: valid if this pair was chosen "
        "before the results were seen.",
    )


def comparison_cells(row: Comparison) -> tuple[str, ...]:
    """Write one comparison."""
    test = row.test
    interval = "-" if test.interval is None else "{:.2f} to {:.2f}".format(*test.interval)
    return (
        f"{row.better} against {row.worse}",
        f"{test.mean_difference:+.2f}",
        interval,
        "-" if test.effect_size is None else f"{test.effect_size:+.2f}",
        str(test.subjects),
        "no test" if test.p_value is None else format_p(test.p_value),
        "no test" if row.adjusted_p is None else format_p(row.adjusted_p),
        f"{row.seconds_longer:+.1f} s",
    )


def all_scores(evidence: Evidence) -> TextTable:
    """Give every score of every tissue: mean and sd over subjects."""
    names = list(
        dict.fromkeys(
            score
            for row in evidence.result.protocols
            for scores in row.scores.values()
            for score in scores
        )
    )
    rows = [
        (
            f"{row.label}, {tissue}",
            *(
                statistic_text(row.scores.get(tissue, {}).get(name), 2 if name == "psnr_db" else 3)
                for name in names
            ),
        )
        for row in evidence.result.protocols
        for tissue in TISSUES
    ]
    header = ("protocol, tissue", *map(score_heading, names))
    return TextTable(header, rows, "All scores, mean ± sd over subjects.")


def settings(evidence: Evidence) -> TextTable | None:
    """Return the configuration chosen for each protocol; None without a search."""
    names = sorted({name for row in evidence.result.protocols for name in row.settings})
    if not names:
        return None
    rows = [
        (row.label, str(row.trials), *(_setting(row.settings.get(name)) for name in names))
        for row in evidence.result.protocols
    ]
    return TextTable(("protocol", "trials", *names), rows, "The configuration chosen by search.")


def fronts(evidence: Evidence) -> TextTable | None:
    """Give the trials of the search that nothing beats in both; None where none was asked for."""
    rows = [
        (
            label,
            f"{seconds:.1f} s",
            f"{trial.value:.4g}",
            str(trial.key.number),
            ", ".join(contrasts_in(trial.settings)),
            ", ".join(
                f"{path.rsplit('.', 1)[-1]} {_setting(value)}"
                for path, value in inner_settings(trial.settings).items()
            )
            or "-",
        )
        for label, front in evidence.fronts.items()
        for trial, seconds in front
    ]
    if not rows:
        return None
    return TextTable(
        ("protocol", "scan time", "objective", "trial", "contrasts", "settings"),
        rows,
        "Pareto front of the search, the fastest first: no other trial is both as fast and as "
        "good. Objectives are those of the search, on the subjects that it chose on; only the best "
        "configuration was measured again for the table of protocols.",
    )


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
