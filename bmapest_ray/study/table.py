"""The results table: one row per job x tissue, in parquet, with a documented schema.

Columns of schema version 1 (all may be null except the first eight):

==================== ========= ====================================================================
column               type      meaning
==================== ========= ====================================================================
schema_version       int32     version of this table
job_id               string    sha256 of all that decides the job's result
status               string    DONE, DIVERGED or FAILED; scores are null unless DONE
protocol             string    label of the protocol
subject              string    subject of the anatomy
slice                string    slice as the study names it
draw                 int32     number of the noise draw
tissue               string    GM, WM or CSF
trial                string    protocol/stage/number of the trial that asked for the job first
stage                string    search (chooses a configuration) or report (the table's jobs)
solver_status        string    how the inversion ended
psnr_db ... volume_error double the scores
seconds              double    the inversion itself, s
setup_seconds        double    building operators, s; 0 when they were cached
total_seconds        double    the whole job, s
iterations           int32     outer iterations
scan_time_s          double    scan time of the protocol, s
configuration        string    how the maps were solved for, JSON
data                 string    how the data were generated, JSON
digests              string    digests of anatomy, protocol, configuration, JSON
map_file, truth_file string    NIfTI files relative to the study's folder
message              string    why the job has no scores, or a remark
worker               string    host:pid
attempts             int32     times the job was started
==================== ========= ====================================================================
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.files import replace_by
from bmapest_ray.study.records import SCHEMA_VERSION, JobRecord

if TYPE_CHECKING:
    import pyarrow as pa

SCORE_COLUMNS = ("psnr_db", "ssim", "dice", "dice_paper", "soft_dice", "mae", "volume_error")

_TEXT = (
    "job_id", "status", "protocol", "subject", "slice", "tissue", "trial", "stage",
    "solver_status", "configuration", "data", "digests", "map_file", "truth_file", "message",
    "worker",
)  # fmt: skip
_WHOLE = ("schema_version", "draw", "iterations", "attempts")
_NUMBER = (*SCORE_COLUMNS, "seconds", "setup_seconds", "total_seconds", "scan_time_s")
COLUMNS = (
    "schema_version", "job_id", "status", "protocol", "subject", "slice", "draw", "tissue",
    "trial", "stage", "solver_status", *SCORE_COLUMNS, "seconds", "setup_seconds",
    "total_seconds", "iterations", "scan_time_s", "configuration", "data", "digests", "map_file",
    "truth_file", "message", "worker", "attempts",
)  # fmt: skip

_JOBS_AT_ONCE = 2000


def rows_of(record: JobRecord) -> Iterator[dict[str, Any]]:
    """Yield one row per tissue."""
    parts = record.trial.split("/")
    shared = {
        "schema_version": record.schema,
        "job_id": record.id,
        "stage": parts[-2] if len(parts) >= 3 else "",
        "configuration": json.dumps(dict(record.configuration), sort_keys=True),
        "data": json.dumps(dict(record.data), sort_keys=True),
        "digests": json.dumps(dict(record.digests), sort_keys=True),
    }
    same = {name: getattr(record, name) for name in COLUMNS if hasattr(record, name)}
    for tissue in TISSUES:
        scores = record.scores.get(tissue, {})
        yield {
            **same,
            **shared,
            "tissue": tissue,
            **{name: scores.get(name) for name in SCORE_COLUMNS},
            "map_file": record.files.get(tissue),
            "truth_file": record.files.get(f"truth_{tissue}"),
        }


def schema() -> "pa.Schema":
    """Return the schema of the results table."""
    import pyarrow as pa

    types = {
        **dict.fromkeys(_TEXT, pa.string()),
        **dict.fromkeys(_WHOLE, pa.int32()),
        **dict.fromkeys(_NUMBER, pa.float64()),
    }
    return pa.schema([(name, types[name]) for name in COLUMNS])


def to_table(records: Iterable[JobRecord]) -> "pa.Table":
    """Return the rows of jobs as a table."""
    import pyarrow as pa

    rows = [row for record in records for row in rows_of(record)]
    return pa.Table.from_pylist(rows, schema=schema())


def write_part(path: Path, records: Iterable[JobRecord]) -> None:
    """Write jobs as one parquet file, which appears whole or not at all.

    Few jobs at a time are held as rows: a hundred thousand would take more than a gigabyte.
    """
    import pyarrow.parquet as pq

    left = iter(records)

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema()) as writer:
            while some := list(islice(left, _JOBS_AT_ONCE)):
                writer.write_table(to_table(some))

    replace_by(path, fill)


def read_parts(paths: Iterable[Path]) -> "pa.Table":
    """Read parquet files of this or an earlier schema version; columns they lack are null.

    Raises
    ------
    InvalidInput
        If a file was written by a later version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [_current(pq.read_table(path), path) for path in paths]
    return pa.concat_tables(tables) if tables else schema().empty_table()


def _current(table: "pa.Table", path: Path) -> "pa.Table":
    import pyarrow as pa

    newest = max(table.column("schema_version").to_pylist(), default=0)
    if newest > SCHEMA_VERSION:
        raise InvalidInput(
            f"results must have schema version {SCHEMA_VERSION} at most, {path} has {newest}; "
            "update bmapest_ray"
        )
    wanted = schema()
    columns = [
        table.column(f.name).cast(f.type) if f.name in table.column_names
        else pa.nulls(len(table), f.type)
        for f in wanted
    ]  # fmt: skip
    return pa.table(columns, schema=wanted)
