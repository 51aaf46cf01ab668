"""The answer as a table for a terminal."""

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.summary import ProtocolSummary, Statistic, StudyResult


def mean_and_sd(value: Statistic | None, spread: float | None = None) -> str:
    """Write a mean with its sd over subjects, or with the spread within the only subject."""
    if value is None:
        return "-"
    if value.sd is not None:
        return f"{value.mean:.2f} ± {value.sd:.2f}"
    return f"{value.mean:.2f}" + ("" if spread is None else f" (± {spread:.2f})")


def rows(result: StudyResult, score: str) -> list[list[str]]:
    """Return the header and one row per protocol: objective, each tissue's score, scan time."""
    scores = (f"{tissue} {score}" for tissue in TISSUES)
    header = ["protocol", "objective", *scores, "scan time", "jobs"]
    return [header, *(_row(protocol, score) for protocol in result.protocols)]


def _row(protocol: ProtocolSummary, score: str) -> list[str]:
    return [
        protocol.label,
        mean_and_sd(protocol.objective),
        *(_cell(protocol, tissue, score) for tissue in TISSUES),
        f"{protocol.scan_time_s:.1f} s",
        _jobs(protocol),
    ]


def _cell(protocol: ProtocolSummary, tissue: str, score: str) -> str:
    value = protocol.scores.get(tissue, {}).get(score)
    return mean_and_sd(value, protocol.spread.get(tissue, {}).get(score))


def _jobs(protocol: ProtocolSummary) -> str:
    lost = f", {protocol.jobs_lost} without result" if protocol.jobs_lost else ""
    return f"{protocol.jobs_done}{lost}"


def plain_table(table: list[list[str]], *, right: bool = True) -> list[str]:
    """Align columns with spaces, all but the first to the right; the first line is the header."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if right and i > 0 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def legend(result: StudyResult) -> str:
    """Say what the numbers behind ± are, and whether there is a test."""
    if result.n_subjects < 2:
        return (
            f"n = {result.n_subjects}: no test. Mean over the subject's slices and noise draws; "
            "(± sd) is over those, not over people."
        )
    return f"n = {result.n_subjects} subjects: mean ± sd over subjects."
