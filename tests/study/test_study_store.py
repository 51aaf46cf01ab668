import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.study import files, table
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.store import StudyStore, load_jobs, load_results

STUDY = parse_study({"name": "a", "question": "?", "protocols": ["t1inv"]})


def record(job_id: str, writer: str = "", psnr: float | None = 30.0) -> JobRecord:
    return JobRecord(
        id=job_id,
        status=JobStatus.DONE,
        protocol="t1inv",
        subject="42",
        slice="below-top:75",
        draw=0,
        trial="t1inv/report/0000",
        scores={t: {"psnr_db": psnr, "ssim": 0.9} for t in ("GM", "WM", "CSF")},
        configuration={"solver": "gauss-newton"},
        files={"GM": "maps/x/GM.nii.gz"},
        worker=writer,
    )


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    store = StudyStore(tmp_path / "out")
    store.open(STUDY, resume=False)
    yield store
    store.close()


def test_of_many_writers_of_one_job_exactly_one_wins(store: StudyStore) -> None:
    job_ids = [f"{number:064x}" for number in range(40)]

    def commit_all(writer: int) -> list[str]:
        mine = StudyStore(store.root)
        return [job_id for job_id in job_ids if mine.commit(record(job_id, str(writer)))]

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(commit_all, range(4)))
    assert sorted(job_id for ids in won for job_id in ids) == job_ids
    committed = {job.id: job.worker for job in load_jobs(store.root)}
    assert committed == {job_id: str(w) for w, ids in enumerate(won) for job_id in ids}
    assert not list(store.root.rglob(".tmp-*"))


def test_a_commit_that_is_cut_short_leaves_nothing(
    store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "link", die)
    with pytest.raises(KeyboardInterrupt):
        store.commit(record("ab" * 32))
    monkeypatch.undo()
    assert store.job("ab" * 32) is None
    assert store.commit(record("ab" * 32))


def test_what_is_still_being_written_is_not_a_result(store: StudyStore) -> None:
    half = store.file("jobs", "ab", f".tmp-1-{'ab' * 32}.json")
    half.parent.mkdir(parents=True)
    half.write_text(json.dumps(record("ab" * 32).to_dict()))
    assert store.job_ids() == set()
    assert load_jobs(store.root) == []
    assert len(load_results(store.root)) == 0


def test_leftovers_of_a_killed_writer_are_swept(store: StudyStore) -> None:
    left = store.file("jobs", "ab", ".tmp-1234-x.json")
    left.parent.mkdir(parents=True)
    left.write_text("{")
    folder = store.file("maps", ".tmp-5678-y")
    folder.mkdir(parents=True)
    (folder / "half.nii.gz").touch()
    store.close()
    again = StudyStore(store.root)
    again.open(STUDY, resume=True)
    again.close()
    assert not left.exists()
    assert not folder.exists()


def test_a_full_disk_is_one_sentence(store: StudyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InvalidInput, match="No space left on device; free space") as error:
        store.commit(record("ab" * 32))
    assert "\n" not in str(error.value)


def test_unwritable_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="must be writable"):
        StudyStore(tmp_path / "file" / "out").open(STUDY, resume=False)


def test_a_folder_takes_one_driver(store: StudyStore) -> None:
    with pytest.raises(InvalidInput, match="one driver at a time"):
        StudyStore(store.root).open(STUDY, resume=True)
    store.close()
    other = StudyStore(store.root)
    other.open(STUDY, resume=True)
    other.close()


def test_the_id_of_a_study_stays(store: StudyStore) -> None:
    store.close()
    first = StudyStore(store.root)
    known = first.open(STUDY, resume=True)
    first.close()
    assert json.loads((store.root / "study.json").read_text())["id"] == known


def test_a_folder_that_holds_something_else_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InvalidInput, match="needs an empty folder"):
        StudyStore(tmp_path).open(STUDY, resume=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_table_has_the_documented_columns_and_one_row_per_tissue(store: StudyStore) -> None:
    for number in range(3):
        store.commit(record(f"{number:064x}", psnr=None if number == 2 else 30.0 + number))
    store.compact()
    store.commit(record(f"{3:064x}"))  # not in a part yet
    frame = load_results(store.root)
    assert list(frame.columns) == list(table.COLUMNS)
    for name in table.COLUMNS:
        assert name in (table.__doc__ or "") or name in table.SCORE_COLUMNS
    assert len(frame) == 12
    assert set(frame.groupby("job_id").tissue.apply("-".join)) == {"GM-WM-CSF"}
    assert frame.psnr_db.isna().sum() == 3
    assert set(frame.stage) == {"report"}
    store.compact()
    store.compact()
    assert len(list((store.root / "results").iterdir())) == 2
    assert len(load_results(store.root)) == 12


def test_earlier_tables_are_read_and_later_ones_refused(store: StudyStore, tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    table.write_part(path, [record("ab" * 32)])
    earlier = pq.read_table(path).drop_columns(["attempts", "message"])
    pq.write_table(earlier, path)
    read = table.read_parts([path])
    assert read.schema == table.schema()
    assert read.column("attempts").null_count == 3
    later = earlier.set_column(0, "schema_version", [[99] * 3])
    pq.write_table(later, path)
    with pytest.raises(InvalidInput, match="update bmapest_ray"):
        table.read_parts([path])
    assert store.root.exists()


def test_results_need_a_study(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"must hold study\.json"):
        load_results(tmp_path)


def test_a_table_of_many_jobs_is_written_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def to_table(records: list[JobRecord]) -> object:
        held.append(len(records))
        return whole(records)

    whole = table.to_table
    monkeypatch.setattr(table, "to_table", to_table)
    monkeypatch.setattr(table, "_JOBS_AT_ONCE", 3)
    records = [record(f"{number:064d}") for number in range(7)]
    table.write_part(tmp_path / "part-00000.parquet", iter(records))
    assert held == [3, 3, 1]
    read = table.read_parts([tmp_path / "part-00000.parquet"])
    assert read.column("job_id").to_pylist() == [r.id for r in records for _ in range(3)]
