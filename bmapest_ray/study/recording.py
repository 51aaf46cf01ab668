"""From what a runner brings back to what is committed."""

from dataclasses import asdict, replace
from typing import Any

from bmapest_ray.study.ports import Failure, Outcome
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus


def record_of(job: JobSpec, outcome: Outcome, trial: str) -> JobRecord:
    """Return the record of a finished job, without its files."""
    record = JobRecord(
        id=job.id,
        status=JobStatus.FAILED,
        protocol=job.protocol.name,
        subject=job.anatomy.subject,
        slice=job.anatomy.slice,
        draw=job.noise.draw,
        trial=trial,
        digests={
            "anatomy": job.anatomy.content,
            "protocol": job.protocol.digest,
            "configuration": job.configuration_digest,
            "tissue_table": job.model.tissue,
        },
        configuration=configuration_of(job),
        total_seconds=outcome.seconds,
        worker=outcome.worker,
        attempts=outcome.attempts,
    )
    if outcome.failure is not None:
        return _failed(record, outcome.failure)
    return _with_result(record, outcome.value)


def configuration_of(job: JobSpec) -> dict[str, Any]:
    """Say how the maps were solved for."""
    solver = asdict(job.solve.solver)
    return {
        "solver": solver.pop("name"),
        "settings": solver,
        "start": job.solve.start,
        "prior": job.solve.prior,
        "prior_settings": dict(job.solve.prior_settings),
        "parametrisation": job.solve.parametrisation,
        "parametrisation_settings": dict(job.solve.parametrisation_settings),
        "constraints": job.solve.constraints or "auto",
        "cohort": len(job.solve.cohort),
        "mixing": job.model.mixing,
        "signal": job.signal,
        "engine": job.model.engine,
    }


def _failed(record: JobRecord, failure: Failure) -> JobRecord:
    lost = "" if failure.status is JobStatus.FAILED else f"{failure.status}: "
    message = f"{lost}{failure.error}: {failure.message}" if not lost else lost + failure.message
    return replace(record, message=message, traceback=failure.traceback)


def _with_result(record: JobRecord, result: JobResult) -> JobRecord:
    return replace(
        record,
        status=result.status,
        solver_status=result.solver_status,
        message=result.message,
        scores=result.scores,
        history=result.history,
        iterations=result.iterations,
        seconds=result.seconds,
        setup_seconds=result.setup_seconds,
        total_seconds=result.total_seconds,
        scan_time_s=result.scan_time_s,
        data=result.data,
    )
