"""Tells MLflow about a study: study run > trial runs > job runs, written by one thread."""

from collections.abc import Callable, Mapping
from pathlib import Path

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import TrackingError
from bmapest_ray.study.records import JobRecord, StudyInfo, TrialRecord
from bmapest_ray.study.showcase import Shown
from bmapest_ray.study.status import JobStatus, Stage, TrialStatus
from bmapest_ray.study.summary import StudyResult, StudyStatus
from bmapest_ray.tracking.artifact_store import check_store
from bmapest_ray.tracking.mlflow_artifacts import datasets, log_inputs, log_maps, log_shown
from bmapest_ray.tracking.mlflow_runs import NOTE, SHOWN, SOURCE, Runs
from bmapest_ray.tracking.mlflow_setup import (
    ARTIFACTS_NAME,
    check_server,
    default_uri,
    import_notebook,
    is_server,
    open_client,
)
from bmapest_ray.tracking.mlflow_text import (
    allowed_name,
    flatten,
    job_name,
    job_params,
    job_points,
    job_tags,
    split_of,
    study_note,
    study_points,
    trial_name,
    trial_points,
)
from bmapest_ray.tracking.writer import Writer, WriterState

TRIAL_STATUS: Mapping[TrialStatus, str] = {
    TrialStatus.COMPLETE: "FINISHED",
    TrialStatus.PRUNED: "KILLED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.RUNNING: "RUNNING",
}
STUDY_STATUS: Mapping[StudyStatus, str] = {
    StudyStatus.FINISHED: "FINISHED",
    StudyStatus.INTERRUPTED: "KILLED",
    StudyStatus.FAILED: "FAILED",
}


class MlflowTracker:
    """A tracker that writes to an MLflow server or database.

    Everything is on the study's disk before it gets here; what MLflow misses is counted and said.

    Parameters
    ----------
    uri
        A server (``http://...``) or a database; None is the SQLite file in the study's folder.
    images
        Whether jobs show their maps as pictures.
    writer
        Makes the calls; None starts one.

    Raises
    ------
    TrackingError
        A server that is named does not answer now; once a study runs, it never stops one.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        images: bool = True,
        writer: Writer | None = None,
        artifacts: str | None = None,
    ) -> None:
        if uri is not None:
            check_server(uri)
        if artifacts is not None:
            check_store(artifacts)
        import_notebook()
        self.uri, self._artifacts = uri, artifacts
        self._images = images
        self._writer = writer or Writer()
        self._runs: Runs | None = None
        self._study: StudyInfo | None = None
        self._jobs: dict[str, list[JobRecord]] = {}

    @property
    def state(self) -> WriterState:
        """How far writing is."""
        return self._writer.state

    @property
    def problem(self) -> str:
        """One sentence on what MLflow misses; empty where it has everything."""
        state = self._writer.state
        if state.complete:
            return ""
        missing = state.failed + state.left_out + state.waiting
        return (
            f"MLflow misses {missing} of {missing + state.written} entries"
            f" ({state.last_error or 'not written in time'}); the results on disk are complete, and"
            " 'bmapest study rebuild' tells MLflow what it misses"
        )

    def study_started(self, study: StudyInfo) -> None:
        """Open the study's run, or find it again."""
        self._study = study
        self._writer.put(lambda: self._open_study(study))

    def trial_started(self, trial: TrialRecord) -> None:
        """Open a trial's run within the study's."""
        self._writer.put(lambda: self._open_trial(trial))

    def job_done(self, trial: TrialRecord, job: JobRecord) -> None:
        """Write a job's run within its trial's."""
        self._writer.put(lambda: self._write_job(trial, job))

    def trial_done(self, trial: TrialRecord) -> None:
        """Close a trial's run."""
        self._writer.put(lambda: self._close_trial(trial))

    def study_done(self, result: StudyResult) -> None:
        """Close the study's run."""
        self._writer.put(lambda: self._close_study(result))

    def attach(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or all files of a folder, e.g. a report, with the study's run."""
        self._writer.put(lambda: self._attach(path, folder))

    def conclude(self, result: StudyResult, answer: str) -> None:
        """Put the answer, a sentence, on top of the study's note."""
        self._writer.put(lambda: self._conclude(result, answer))

    def show(self, shown: Shown, job: JobRecord) -> None:
        """Keep how the fit of a reported job went with its trial's run."""
        self._writer.put(lambda: self._show(shown, job))

    def drain(
        self, timeout_s: float | None = None, on_wait: Callable[[WriterState], None] | None = None
    ) -> bool:
        """Wait until everything is written; returns whether it is."""
        return self._writer.drain(timeout_s, on_wait)

    def close(self, timeout_s: float | None = None) -> None:
        """Write what is waiting and stop the thread."""
        self._writer.close(timeout_s)

    # What follows runs in the writer's thread.

    def _open_runs(self) -> Runs:
        if self._runs is None:
            if self._study is None:
                raise TrackingError("tracking must begin with study_started, got none; call it")
            uri = self.uri or default_uri(self._study.directory)
            folder = (self._study.directory / ARTIFACTS_NAME).resolve()
            artifacts = self._artifacts or (None if is_server(uri) else str(folder))
            self._runs = Runs(open_client(uri), self._study.name, self._study.id, artifacts)
        return self._runs

    def _study_run(self) -> str:
        runs, study = self._open_runs(), self._study
        if study is None:
            raise TrackingError("tracking must begin with study_started, got none; call it")
        known = runs.find("study", study.id)
        if known is not None:
            return known
        run = runs.open("study", study.id, study.name, {NOTE: study_note(study), **SOURCE})
        tags = {f"digest.{allowed_name(name)}": value for name, value in study.digests.items()}
        params = dict(flatten({k: v for k, v in study.config.items() if k != "question"}))
        runs.log(run, params=params, tags={"question": study.question, **tags})
        log_inputs(runs.client, run, study)
        return run

    def _open_study(self, study: StudyInfo) -> None:
        self._study = study
        self._open_runs().reopen(self._study_run())

    def _trial_run(self, trial: TrialRecord) -> str:
        runs, key = self._open_runs(), str(trial.key)
        known = runs.find("trial", key)
        if known is not None:
            return known
        tags = {
            "protocol": trial.key.protocol,
            "stage": str(trial.key.stage),
            "split": self._split(trial),
            "configuration": digest(dict(trial.settings)),
        }
        run = runs.open("trial", key, trial_name(trial), tags, parent=self._study_run())
        params = {"protocol": trial.key.protocol, "stage": str(trial.key.stage)}
        runs.log(run, params=params | dict(flatten(trial.settings)))
        if self._study is not None:
            played = datasets(self._study.config, self._study.digests, trial.key.protocol)
            runs.client.log_inputs(run, datasets=played)
        return run

    def _split(self, trial: TrialRecord) -> str:
        return "" if self._study is None else split_of(self._study.config, trial.key.stage)

    def _open_trial(self, trial: TrialRecord) -> None:
        self._jobs[str(trial.key)] = []
        run = self._trial_run(trial)
        if not self._open_runs().is_complete(run):
            self._open_runs().reopen(run)

    def _write_job(self, trial: TrialRecord, job: JobRecord) -> None:
        self._jobs.setdefault(str(trial.key), []).append(job)
        runs, parent = self._open_runs(), self._trial_run(trial)
        run = runs.open("job", f"{trial.key}/{job.id}", job_name(job), {}, parent=parent)
        if runs.is_complete(run):
            return
        tags = job_tags(job, digest(dict(trial.settings)))
        tags |= {"stage": str(trial.key.stage), "split": self._split(trial)}
        self._log_panel(run, trial, job)
        status = "FINISHED" if job.status is JobStatus.DONE else "FAILED"
        told = {"params": job_params(job), "tags": tags}
        runs.complete(run, job.status, status, metrics=job_points(job), **told)

    def _log_panel(self, run: str, trial: TrialRecord, job: JobRecord) -> None:
        """Show a job's maps; a reported trial gets those of all its jobs, one per step."""
        from bmapest_ray.figures.job_panel import job_panel

        if self._study is None or not self._images:
            return
        panel = job_panel(job, self._study.directory)
        if panel is None:
            return
        client = self._open_runs().client
        client.log_image(run, panel, artifact_file="maps.png")
        if trial.key.stage is Stage.REPORT:
            log_maps(client, run, job, self._study.directory)
            step = trial.job_ids.index(job.id) if job.id in trial.job_ids else 0
            client.log_image(self._trial_run(trial), panel, key="maps", step=step)

    def _close_trial(self, trial: TrialRecord) -> None:
        runs, run = self._open_runs(), self._trial_run(trial)
        jobs = self._jobs.pop(str(trial.key), [])
        if runs.is_complete(run):
            return
        points = trial_points(trial, jobs)
        tags = {"message": trial.message} if trial.message else {}
        runs.complete(run, trial.status, TRIAL_STATUS[trial.status], metrics=points, tags=tags)

    def _attach(self, path: Path, folder: str | None) -> None:
        client, run = self._open_runs().client, self._study_run()
        if path.is_dir():
            client.log_artifacts(run, str(path), folder)
        else:
            client.log_artifact(run, str(path), folder)

    def _show(self, shown: Shown, job: JobRecord) -> None:
        runs = self._open_runs()
        run = runs.find("trial", str(shown.about["trial"]))
        if run is None or self._study is None or not self._images:
            return
        mark = f"{job.id[:12]}{' with deviations' if shown.std is not None else ''}"
        if runs.client.get_run(run).data.tags.get(SHOWN) != mark:
            log_shown(runs.client, run, shown, job, self._study.directory)
            runs.client.set_tag(run, SHOWN, mark)

    def _conclude(self, result: StudyResult, answer: str) -> None:
        note = study_note(result.study, result, answer)
        self._open_runs().client.set_tag(self._study_run(), NOTE, note)

    def _close_study(self, result: StudyResult) -> None:
        runs, run = self._open_runs(), self._study_run()
        runs.cut_short()
        status, note = STUDY_STATUS[result.status], study_note(result.study, result)
        runs.complete(run, result.status, status, metrics=study_points(result), tags={NOTE: note})
