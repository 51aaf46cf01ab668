"""``bmapest study rebuild``: what others keep of a study, made again from its folder."""

from pathlib import Path

import typer

from bmapest_ray.cli.output import print_json, stdout_to_stderr


def rebuild_command(directory: Path, uri: str | None, as_json: bool) -> None:
    """Make Optuna's journal again, and tell MLflow a study's whole story.

    What MLflow knows already stays as it is.
    """
    with stdout_to_stderr():
        trials = _rebuild_search(directory)
        written, problem = _rebuild(directory, uri)
    if as_json:
        told = {"entries": written, "trials": trials, "folder": str(directory), "uri": uri}
        print_json(told | ({"notes": [problem]} if problem else {}))
        return
    typer.echo(f"Optuna's journal has {trials} trials")
    typer.echo(problem or f"MLflow has all {written} entries of {directory}")


def _rebuild_search(directory: Path) -> int:
    from bmapest_ray.study.loading import load_study
    from bmapest_ray.study.search_rebuild import rebuild_journal
    from bmapest_ray.study.store import StudyStore

    config = load_study(directory / "study.yaml")
    store = StudyStore(directory)
    store.open(config, resume=True)
    try:
        return rebuild_journal(config, store)
    finally:
        store.close()


def _rebuild(directory: Path, uri: str | None) -> tuple[int, str]:
    from bmapest_ray.cli.study_extras import show_study
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
    show_study(evidence, tracker)
    tracker.drain(on_wait=lambda state: typer.echo(f"{state.waiting} left", err=True))
    tracker.close(0.0)
    return tracker.state.written, tracker.problem
