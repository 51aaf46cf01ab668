from pathlib import Path

from bmapest_ray.cli.tables import legend, plain_table, rows
from bmapest_ray.study.records import StudyInfo
from bmapest_ray.study.summary import ProtocolSummary, Statistic, StudyResult, StudyStatus


def result(n: int, sd: float | None, spread: float | None) -> StudyResult:
    value = Statistic(31.256, sd, n)
    protocol = ProtocolSummary(
        label="t1inv,t2prep",
        digest="d",
        scan_time_s=92.34,
        settings={},
        objective=value,
        scores={"GM": {"psnr_db": value}},
        spread={"GM": {"psnr_db": spread}},
        jobs_done=3,
        jobs_lost=1,
    )
    study = StudyInfo("id", "s", "Which?", Path(), {}, ())
    return StudyResult(study, StudyStatus.FINISHED, (protocol,), "mean psnr_db", n)


def test_several_subjects_have_a_mean_and_an_sd() -> None:
    header, row = rows(result(10, 1.5, 0.3), "psnr_db")
    assert header[:3] == ["protocol", "objective", "GM psnr_db"]
    assert row[1:3] == ["31.26 ± 1.50", "31.26 ± 1.50"]
    assert row[3] == "-"
    assert row[-2:] == ["92.3 s", "3, 1 without result"]
    assert legend(result(10, 1.5, None)) == "n = 10 subjects: mean ± sd over subjects."


def test_one_anatomy_has_no_test_and_its_spread_is_marked() -> None:
    _, row = rows(result(1, None, 0.42), "psnr_db")
    assert row[1:3] == ["31.26", "31.26 (± 0.42)"]
    assert "n = 1: no test" in legend(result(1, None, 0.42))


def test_columns_line_up() -> None:
    lines = plain_table([["a", "bb"], ["ccc", "d"]])
    assert lines == ["a    bb", "-------", "ccc   d"]
    assert plain_table([["a", "bb"], ["ccc", "d"]], right=False)[2] == "ccc  d"
