"""``bmapest rebuild``: MLflow's runs and the report, made again from a study's folder."""

from pathlib import Path

import typer

from bmapest_ray.cli.output import print_json, stdout_to_stderr


def rebuild_command(directory: Path, uri: str | None, as_json: bool) -> None:
    """Tell MLflow a study's whole story; what it knows already stays as it is."""
    with stdout_to_stderr():
        written, problem = _rebuild(directory, uri)
    if as_json:
        told = {"entries": written, "folder": str(directory), "uri": uri}
        print_json(told | ({"notes": [problem]} if problem else {}))
        return
    typer.echo(problem or f"MLflow has all {written} entries of {directory}")


def _rebuild(directory: Path, uri: str | None) -> tuple[int, str]:
    from bmapest_ray.report.html import write_report
    from bmapest_ray.report.load import load_evidence
    from bmapest_ray.study.status import TrialStatus
    from bmapest_ray.study.store import load_jobs
    from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

    evidence = load_evidence(directory)
    tracker = MlflowTracker(uri)
    jobs = {job.id: job for job in load_jobs(directory)}
    tracker.study_started(evidence.result.study)
    for trial in evidence.trials:
        tracker.trial_started(trial)
        for job_id in trial.job_ids:
            if job_id in jobs:
                tracker.job_done(trial, jobs[job_id])
        if trial.status is not TrialStatus.RUNNING:
            tracker.trial_done(trial)
    tracker.study_done(evidence.result)
    for path in write_report(evidence, directory):
        tracker.attach(path)
    tracker.drain(on_wait=lambda state: typer.echo(f"{state.waiting} left", err=True))
    tracker.close(0.0)
    return tracker.state.written, tracker.problem
