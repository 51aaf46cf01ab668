"""The results of the paper's experiments: one row per experiment, method, subject and tissue."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.files import replace_by
from bmapest_ray.study.programme import CaseResult
from bmapest_ray.study.table import SCORE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "experiment", "method", "subject", "tissue", *SCORE_COLUMNS, "seconds", "total_seconds",
    "tuning_jobs", "tuning_seconds", "iterations", "solver_status", "scan_time_s", "evaluations",
    "settings", "cohort", "data", "job_id",
)  # fmt: skip


def rows_of(results: Iterable[CaseResult]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all scored report jobs."""
    for result in results:
        for record in result.records:
            for tissue in TISSUES if record.status.is_scored else ():
                yield {
                    "experiment": result.case.experiment,
                    "method": result.case.method,
                    "subject": record.subject,
                    "tissue": tissue,
                    **{name: record.scores[tissue].get(name) for name in SCORE_COLUMNS},
                    "seconds": record.seconds,
                    "total_seconds": record.total_seconds,
                    "tuning_jobs": len(result.tuning),
                    "tuning_seconds": sum(job.total_seconds for job in result.tuning),
                    "iterations": record.iterations,
                    "solver_status": record.solver_status,
                    "scan_time_s": record.scan_time_s,
                    "evaluations": result.evaluations,
                    "settings": json.dumps(dict(result.settings), sort_keys=True),
                    "cohort": len(result.case.plan.cohort) - 1,
                    "data": str(record.data.get("summary", "")),
                    "job_id": record.id,
                }


def write_results(
    results: Iterable[CaseResult], path: Path, earlier: "pd.DataFrame | None" = None
) -> None:
    """Write parquet.

    Parameters
    ----------
    earlier
        Rows of other runs; those of a method's experiment that was run anew give way to it.

    Raises
    ------
    InvalidInput
        If there is nothing to write.
    """
    import pandas as pd

    frame = pd.DataFrame(list(rows_of(results)), columns=list(COLUMNS))
    if earlier is not None:
        frame = merge(frame, earlier)
    if frame.empty:
        raise InvalidInput("a table needs at least one finished report job, got none; run some")
    replace_by(path, lambda temporary: frame.to_parquet(temporary, index=False))


def merge(frame: "pd.DataFrame", earlier: "pd.DataFrame") -> "pd.DataFrame":
    """Return rows with those of an earlier run whose experiment and method they lack."""
    import pandas as pd

    case = ["experiment", "method"]
    anew = earlier.set_index(case).index.isin(frame.set_index(case).index)
    parts = [part for part in (frame, earlier[~anew]) if len(part)]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def read_results(path: Path) -> "pd.DataFrame":
    """Read what `write_results` wrote.

    Raises
    ------
    MissingInput, InvalidInput
        If there is no such file, or it is another table.
    """
    import pandas as pd

    if not path.is_file():
        raise MissingInput(
            f"--table and --earlier must name a parquet file of results, got {path}; check it"
        )
    frame = pd.read_parquet(path)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise InvalidInput(f"{path} must hold the columns of results, it lacks {missing[0]}")
    return frame
