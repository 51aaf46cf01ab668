"""The tables of the paper's experiments: right numbers, right tests, the same from the parquet."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.report.paper_comparisons import against, more_sequences
from bmapest_ray.report.paper_results import COLUMNS, merge, read_results, write_results
from bmapest_ray.report.paper_tables import accuracy_tables, cost_table, published, write_tables
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.experiments import EXPERIMENTS
from bmapest_ray.study.job import run_job
from bmapest_ray.study.loading import load_study, studies_folder
from bmapest_ray.study.plan import make_plan
from bmapest_ray.study.table import SCORE_COLUMNS

SUBJECTS = ("20", "38", "41", "42", "44", "45")
COMMITTED = studies_folder() / "results" / "paper.parquet"


def row(experiment: str, method: str, subject: str, tissue: str, value: float) -> dict[str, object]:
    scores = dict.fromkeys(SCORE_COLUMNS, value)
    rest = {name: 0 for name in COLUMNS if name not in scores}
    named = {"experiment": experiment, "method": method, "subject": subject, "tissue": tissue}
    texts = {"settings": "{}", "data": "", "job_id": "", "solver_status": "CONVERGED"}
    return {**rest, **scores, **texts, **named, "seconds": 2.0, "evaluations": 12}


def frame() -> pd.DataFrame:
    """Let `best` gain 2 on nnls and lose 1 to k-means, and 3 by a second sequence."""
    values = {
        ("sequences-1", "best"): 20.0,
        ("sequences-1", "nnls"): 18.0,
        ("sequences-1", "k-means"): 21.0,
        ("sequences-2", "best"): 23.0,
    }
    return pd.DataFrame(
        [
            row(experiment, method, subject, tissue, value + number + 10 * TISSUES.index(tissue))
            for (experiment, method), value in values.items()
            for number, subject in enumerate(SUBJECTS)
            for tissue in TISSUES
        ]
    )


def test_published_numbers_are_the_papers() -> None:
    numbers = published()
    assert numbers["t1inv"]["published"]["csf_psnr"] == 27.57
    assert numbers["t1inv+t2prep"]["published"]["gm_psnr_sd"] == 1.98
    assert set(numbers) == {e.published for e in EXPERIMENTS.values() if e.published}


def test_means_and_deviations_stand_in_their_columns() -> None:
    titles, tables = zip(*accuracy_tables(frame()), strict=True)
    assert titles == ("T1, four contrasts", "2 sequences")
    best = next(r for r in tables[0].rows if r[0].startswith("this package"))
    sd = math.sqrt(sum((n - 2.5) ** 2 for n in range(6)) / 5)
    assert best[1:4] == [f"{22.5 + 10 * t:.1f} ± {sd:.1f}" for t in range(3)]
    assert best[-3:] == ["2", "12", "6"]
    old = next(r for r in tables[0].rows if r[0] == "BMapEst, as published")
    assert old[1:4] == ["16.2 ± 1.0", "18.1 ± 1.0", "27.6 ± 2.1"]
    assert old[-1] == "20"


def test_a_tissue_that_is_known_has_no_psnr() -> None:
    results = frame()
    results.loc[results.tissue == "WM", "psnr_db"] = math.nan
    _, table = next(accuracy_tables(results))
    best = next(r for r in table.rows if r[0].startswith("this package"))
    assert best[2] == "-"
    assert "nan" not in " ".join(best)


def test_gains_are_paired_signed_and_corrected() -> None:
    gains = {(g.other, g.score): g for g in against(frame())}
    psnr = gains["nnls", "psnr_db"]
    assert [t.mean_difference for t in psnr.tests] == pytest.approx([2.0] * 3)
    assert [t.effect_size for t in psnr.tests] == [1.0] * 3
    smallest = 2 / 2**6
    assert psnr.adjusted_p == pytest.approx([6 * smallest] * 3), "two baselines, three tissues"
    assert gains["k-means", "psnr_db"].tests[0].mean_difference == pytest.approx(-1.0)
    assert gains["nnls", "mae"].tests[0].mean_difference == pytest.approx(-2.0), "less is better"
    (step, *_) = more_sequences(frame())
    assert (step.experiment, step.tests[0].mean_difference) == ("sequences-2", pytest.approx(3.0))


def test_tables_say_why_published_dice_saturates(tmp_path: Path) -> None:
    files = write_tables(frame(), tmp_path)
    text = files["md"].read_text()
    assert "half a pixel off" in text
    assert "| BMapEst, as published | 23.5 ± 2.0 | 25.6 ± 2.4 | 30.9 ± 3.9 |" in text
    assert "half a pixel off" in files["html"].read_text()
    lines = pd.read_csv(files["csv"], dtype={"experiment": str})
    picked = lines.query("method == 'nnls' and tissue == 'WM' and score == 'psnr_db'")
    assert picked["mean"].tolist() == [30.5]


def test_the_paper_is_compared_with_a_run_of_its_own_code(tmp_path: Path) -> None:
    values = dict(zip(TISSUES, (17.5, 18.8, 29.0), strict=True))
    rows = [
        row("sequences-1", method, "42", t, values[t] + more)
        for method, more in (("paper", 0.0), ("paper-19", 0.5))
        for t in TISSUES
    ]
    both = pd.concat([frame(), pd.DataFrame(rows).assign(cohort=13)], ignore_index=True)
    text = write_tables(both, tmp_path)["md"].read_text()
    assert (
        "from the mean of the 13 others that are here, T1, four contrasts +0.5, +0.0, -1.1 dB"
        in text
    )
    assert "these and 6 mirror images, T1, four contrasts +1.0, +0.5, -0.6 dB" in text
    assert not any(gain.other == "paper-19" for gain in against(both))
    assert "the paper's own code" not in write_tables(frame(), tmp_path)["md"].read_text()


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    text = write_tables(frame(), tmp_path)["md"].read_text()
    assert "want of processor time: Voxel-wise NNLS on T1, one contrast; 2 sequences; 3" in text
    assert "U-Net, strong recipe on T1, one contrast; 2 sequences; 6 sequences" in text


def test_ties_and_losses_of_best_are_said_by_tissue(tmp_path: Path) -> None:
    six = frame()
    more = six.assign(subject="1" + six.subject)  # six subjects alone cannot be significant
    results = pd.concat([six, more], ignore_index=True)
    names = sorted(set(results.subject))
    noise = results.subject.map({name: 4.0 * (-1) ** n * (1 + n) for n, name in enumerate(names)})
    nnls = (results.method == "nnls") & (results.tissue == "WM")
    results.loc[nnls, "psnr_db"] += 2 + noise[nnls]  # now as good as best, on the whole
    text = write_tables(results, tmp_path)["md"].read_text()
    (line,) = [
        line for line in text.splitlines() if line.startswith("- T1, four contrasts: `best`")
    ]
    assert "ties with Voxel-wise NNLS in WM (psnr_db)" in line
    assert "loses to k-means in CSF (psnr_db, soft_dice)" in line
    assert "loses to Voxel-wise NNLS in GM (mae)" in line  # the lower the better
    assert "The cause has not been looked for" in line


def test_what_a_method_took_counts_its_tuning_once_per_experiment() -> None:
    results = frame()
    results["total_seconds"], results["tuning_seconds"], results["tuning_jobs"] = 6.0, 84.0, 48
    _, table = cost_table(results)
    (best,) = [row for row in table.rows if row[0].startswith("this package")]
    assert best[1:] == ["2", "6", "12", "96", "4.0"]  # (12 * 6 + 2 * 84) / 60


def test_rows_of_an_earlier_run_stay_where_nothing_is_new(tmp_path: Path) -> None:
    earlier = frame()
    anew = earlier.query("experiment == 'sequences-2'").assign(psnr_db=1.0)
    write_results([], tmp_path / "a.parquet", earlier)
    assert len(read_results(tmp_path / "a.parquet")) == len(earlier)
    merged = merge(anew.head(3), earlier)  # one subject only: the others give way, too
    assert len(merged) == len(earlier) - len(anew) + 3
    assert (merged.query("experiment == 'sequences-2'").psnr_db == 1.0).all()
    assert list(merged.columns) == list(COLUMNS)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="must name a parquet file"):
        read_results(tmp_path / "none.parquet")
    frame().drop(columns="mae").to_parquet(tmp_path / "half.parquet")
    with pytest.raises(InvalidInput, match="it lacks mae"):
        read_results(tmp_path / "half.parquet")


def test_committed_tables_are_those_of_the_committed_results(tmp_path: Path) -> None:
    results = read_results(COMMITTED)
    for kind, path in write_tables(results, tmp_path).items():
        assert path.read_text() == COMMITTED.with_suffix(f".{kind}").read_text(), kind


def test_committed_results_hold_no_tune_subject() -> None:
    results = read_results(COMMITTED)
    assert not set(results.subject) & {"04", "05", "06", "18"}
    assert (results.groupby(["experiment", "method"]).subject.nunique() <= 10).all()
    assert not results.duplicated(["experiment", "method", "subject", "tissue"]).any()


@pytest.mark.slow
def test_two_subjects_computed_anew_score_as_committed(brainweb_dir: Path, tmp_path: Path) -> None:
    """Recompute subjects 20 and 38 of `best` on one contrast with the settings of the table."""
    results = read_results(COMMITTED)
    kept = results.query("experiment == 't1inv-single' and method == 'best'")
    source = f"anatomy.source=bids:{brainweb_dir / 'brainweb14'}"
    plan = make_plan(load_study("paper/t1inv-single-best", [source]))
    (label,) = plan.protocols
    cache = JobCache(folder=tmp_path)
    for job in plan.jobs(label, json.loads(kept.settings.iloc[0])):
        if job.anatomy.subject in ("20", "38"):
            found = run_job(job, cache).scores
            for tissue, scores in found.items():
                mine = kept[(kept.subject == job.anatomy.subject) & (kept.tissue == tissue)]
                assert scores["psnr_db"] == pytest.approx(mine.psnr_db.item(), abs=0.05)
                assert scores["soft_dice"] == pytest.approx(mine.soft_dice.item(), abs=1e-3)
