"""The tables of the paper's experiments: published, reproduced, this package, baselines."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.report.markup import bullets, section, table
from bmapest_ray.report.paper_comparisons import Gain, against, more_sequences
from bmapest_ray.report.paper_names import PUBLISHED, TITLES, title_of
from bmapest_ray.report.paper_notes import notes_of
from bmapest_ray.report.statistics import format_p
from bmapest_ray.report.tables import TextTable
from bmapest_ray.study.experiments import EXPERIMENTS
from bmapest_ray.study.files import replace_text
from bmapest_ray.study.loading import studies_folder
from bmapest_ray.study.table import SCORE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

SHOWN = (("psnr_db", 1), ("ssim", 2), ("mae", 4), ("soft_dice", 3), ("dice_paper", 2))


def write_tables(frame: "pd.DataFrame", out: Path) -> dict[str, Path]:
    """Write ``paper.md``, ``paper.csv`` and ``paper.html``; returns them by kind.

    Parameters
    ----------
    frame
        Rows of `bmapest_ray.report.paper_results`.
    """
    gains = tuple(against(frame))
    tables = [*accuracy_tables(frame), cost_table(frame), *gain_tables(frame, gains)]
    head = "# The experiments of BMapEst (arXiv 2404.14739)\n\nMade by `bmapest reproduce paper`."
    said = notes_of(frame, gains)
    notes = "\n".join(f"- {note}" for note in said)
    body = "\n\n".join(f"## {title}\n\n{text.markdown}" for title, text in tables)
    paths = {kind: out / f"paper.{kind}" for kind in ("md", "csv", "html")}
    replace_text(paths["md"], f"{head}\n\n{notes}\n\n{body}\n")
    replace_text(paths["html"], _html(tables, said))
    _write_csv(frame, paths["csv"])
    return paths


def cost_table(frame: "pd.DataFrame") -> tuple[str, TextTable]:
    """Return what every method took, tuning included."""
    header = ("method", "experiments", "subjects", "inversions", "tuning jobs", "minutes, one core")
    rows = []
    for method in _methods(frame):
        jobs = frame[(frame.method == method) & (frame.tissue == TISSUES[0])]
        cases = jobs.drop_duplicates("experiment")
        seconds = jobs.total_seconds.sum() + cases.tuning_seconds.sum()
        rows.append([
            title_of(method), str(len(cases)), str(jobs.subject.nunique()), str(len(jobs)),
            str(cases.tuning_jobs.sum()), f"{seconds / 60:.1f}",
        ])  # fmt: skip
    caption = (
        "Wall time of all jobs one after another, data and set-up included, without the training "
        "of U-Nets (at most ten processor minutes each). The paper states two processor hours for "
        "one slice of one experiment."
    )
    return "What it took", TextTable(header, rows, caption)


def published() -> dict[str, dict[str, dict[str, float]]]:
    """Return the paper's numbers: row -> method -> ``gm_psnr`` and the like."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    names = {"bmapest": PUBLISHED, "unet": "published-unet", "clustering": "published-clustering"}
    with (studies_folder() / "paper" / "published.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            numbers = {k: float(v) for k, v in row.items() if k not in ("protocol", "method")}
            rows.setdefault(row["protocol"], {})[names[row["method"]]] = numbers
    return rows


def accuracy_tables(frame: "pd.DataFrame") -> Iterator[tuple[str, TextTable]]:
    """Yield one table per experiment that has rows."""
    known = published()
    for name, experiment in EXPERIMENTS.items():
        mine = frame[frame.experiment == name]
        rows = [
            _published_row(method, numbers)
            for method, numbers in known.get(experiment.published, {}).items()
        ]
        rows += [_row(method, mine[mine.method == method]) for method in _methods(mine)]
        if len(mine):
            header = (
                "method", *(f"{tissue} {score}" for score, _ in SHOWN for tissue in TISSUES),
                "median s", "tuned", "n",
            )  # fmt: skip
            caption = "PSNR in dB; MAE inside the head; higher is better but for MAE."
            yield experiment.title, TextTable(header, rows, caption)


def _methods(frame: "pd.DataFrame") -> list[str]:
    found = list(dict.fromkeys(frame.method))
    first = ("paper", "paper-19", "best")
    return sorted(found, key=lambda method: first.index(method) if method in first else len(first))


def _row(method: str, frame: "pd.DataFrame") -> list[str]:
    cells = []
    for score, digits in SHOWN:
        for tissue in TISSUES:
            values = frame[frame.tissue == tissue][score].dropna()  # none where it is known
            spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}" if len(values) else "-")
    first = frame[frame.tissue == TISSUES[0]]
    tuned = int(first.evaluations.iloc[0])
    return [
        title_of(method), *cells, f"{first.seconds.median():.2g}", str(tuned or "-"),
        str(len(first)),
    ]  # fmt: skip


def _published_row(method: str, numbers: Mapping[str, float]) -> list[str]:
    names = {"psnr_db": "psnr", "ssim": "ssim", "dice_paper": "dice"}
    cells = []
    for score, digits in SHOWN:
        for tissue in TISSUES:
            key = f"{tissue.lower()}_{names.get(score, score)}"
            known = key in numbers
            cells.append(
                f"{numbers[key]:.{digits}f} ± {numbers[f'{key}_sd']:.{digits}f}" if known else "-"
            )
    return [TITLES[method], *cells, "-", "-", "20"]


def gain_tables(frame: "pd.DataFrame", gains: Sequence[Gain]) -> Iterator[tuple[str, TextTable]]:
    """Yield the paired comparisons: ``gains`` over every baseline, and between protocols."""
    header = ("experiment", "against", "score", *(
        text for tissue in TISSUES for text in (f"{tissue} gain [95 %]", "p (Holm)", "effect")
    ), "n")  # fmt: skip
    caption = (
        "Gain of `best` in PSNR, MAE (as a fall) and soft Dice, paired over subjects: mean and "
        "bootstrap interval, p of Wilcoxon's signed-rank test corrected after Holm within each "
        "experiment and score, matched-pairs rank-biserial correlation. A gain below zero is a "
        "loss of `best`."
    )
    rows = [_gain_cells(gain) for gain in gains]
    if rows:
        yield "Against every baseline", TextTable(header, rows, caption)
    rows = [_gain_cells(gain) for gain in more_sequences(frame)]
    if rows:
        text = "Gain of `best` by one more sequence; Holm over all rows of a score."
        yield "Between protocols", TextTable(header, rows, text)


def _gain_cells(gain: Gain) -> list[str]:
    cells = [EXPERIMENTS[gain.experiment].title, title_of(gain.other), gain.score]
    for test, adjusted in zip(gain.tests, gain.adjusted_p, strict=True):
        low, high = test.interval or (float("nan"),) * 2
        digits = 2 if gain.score == "psnr_db" else 4
        cells += [
            f"{test.mean_difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]",
            "-" if adjusted is None else format_p(adjusted),
            "-" if test.effect_size is None else f"{test.effect_size:+.2f}",
        ]
    return [*cells, str(gain.tests[0].subjects)]


def _html(tables: Sequence[tuple[str, TextTable]], notes: Sequence[str]) -> str:
    """Return one page without scripts."""
    title = "The experiments of BMapEst (arXiv 2404.14739)"
    style = (files("bmapest_ray.report") / "page.css").read_text("utf-8")
    body = "".join(
        section(f"part-{number}", heading, table(text.header, text.rows, text.caption))
        for number, (heading, text) in enumerate(tables)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><main><h1>{title}</h1>"
        f"{bullets(notes, 'notes')}{body}</main></body></html>\n"
    )


def _write_csv(frame: "pd.DataFrame", path: Path) -> None:
    """Write one row per experiment, method, tissue and score."""
    lines: list[dict[str, Any]] = []
    for (experiment, method, tissue), group in frame.groupby(
        ["experiment", "method", "tissue"], sort=True
    ):
        shared = {
            "experiment": experiment, "method": method, "tissue": tissue, "n": len(group),
            "seconds": group.seconds.mean(), "evaluations": int(group.evaluations.iloc[0]),
            "settings": group.settings.iloc[0],
        }  # fmt: skip
        lines += [
            {**shared, "score": score, "mean": group[score].mean(), "sd": group[score].std()}
            for score in SCORE_COLUMNS
        ]
    text = io.StringIO()
    order = ("experiment", "method", "tissue", "score", "mean", "sd", "n", "seconds",
             "evaluations", "settings")  # fmt: skip
    writer = csv.DictWriter(text, order, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**line, **{k: f"{line[k]:.6g}" for k in ("mean", "sd", "seconds")}}
                     for line in lines)  # fmt: skip
    replace_text(path, text.getvalue())
