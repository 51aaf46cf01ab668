"""A study's runs in MLflow: study > trial > job, each found again by its tags or made.

Everything here may be called again with the same thing and leaves one run, because a resumed study
tells its whole story again.
"""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bmapest_ray.tracking.mlflow_text import clip

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY = "bmapest.study"
LEVEL = "bmapest.level"
KEY = "bmapest.key"
STATUS = "bmapest.status"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SHOWN = "bmapest.shown"
SOURCE = {"mlflow.source.name": "bmapest run", "mlflow.source.type": "LOCAL"}

UI_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show runs, charts and maps, not the pages for language models."""

BATCH = 1000
PAGE = 1000

Point = tuple[str, float, int]
"""Name, value and step of a metric."""


class Runs:
    """The runs of one study in one experiment.

    Parameters
    ----------
    client
        An MLflow client.
    experiment
        Name of the experiment; made where there is none.
    study_id
        Tells this study's runs from those of others in the experiment.
    artifacts
        Where a new experiment keeps its artifacts; None leaves it to the server.
    """

    def __init__(
        self, client: "MlflowClient", experiment: str, study_id: str, artifacts: str | None = None
    ) -> None:
        self.client = client
        self.study_id = study_id
        found = client.get_experiment_by_name(experiment)
        self.experiment_id: str = (
            found.experiment_id
            if found is not None
            else client.create_experiment(experiment, artifact_location=artifacts, tags=UI_TAGS)
        )
        self._ids: dict[tuple[str, str], str] = {}
        self._ended: set[str] = set()
        self._complete: set[str] = set()
        self._recall()

    def _recall(self) -> None:
        """Find the runs that an earlier driver of this study left."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{STUDY}` = '{self.study_id}'",
                max_results=PAGE,
                page_token=token,
            )
            for run in page:
                tags = run.data.tags
                self._ids[tags.get(LEVEL, ""), tags.get(KEY, "")] = run.info.run_id
                if run.info.status != "RUNNING":
                    self._ended.add(run.info.run_id)
                    if STATUS in tags:
                        self._complete.add(run.info.run_id)
            token = page.token
            if not token:
                return

    def find(self, level: str, key: str) -> str | None:
        """Return the run of a level and key, if there is one."""
        return self._ids.get((level, key))

    def is_complete(self, run_id: str) -> bool:
        """Whether all that belongs to a run is in it; one that was cut short is not complete."""
        return run_id in self._complete

    def open(
        self,
        level: str,
        key: str,
        name: str,
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> str:
        """Return the run of a level and key, making it where there is none."""
        known = self.find(level, key)
        if known is not None:
            return known
        labels = {STUDY: self.study_id, LEVEL: level, KEY: key, **tags}
        if parent is not None:
            labels[PARENT] = parent
        run = self.client.create_run(self.experiment_id, run_name=name, tags=clip(labels))
        run_id: str = run.info.run_id
        self._ids[level, key] = run_id
        return run_id

    def reopen(self, run_id: str) -> None:
        """Mark a run that ended as running again."""
        if run_id in self._ended:
            self.client.update_run(run_id, status="RUNNING")
            self._ended.discard(run_id)
            self._complete.discard(run_id)

    def complete(
        self,
        run_id: str,
        outcome: str,
        status: str,
        *,
        metrics: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write what is left of a run and end it: two requests, as there are thousands of jobs.

        Parameters
        ----------
        run_id
            The run.
        outcome
            The study's word for how it ended.
        status
            MLflow's word: FINISHED, FAILED or KILLED.
        metrics, params, tags
            As `log` takes them.
        """
        self.log(run_id, metrics=metrics, params=params, tags={**(tags or {}), STATUS: outcome})
        self.client.set_terminated(run_id, status=status)
        self._ended.add(run_id)
        self._complete.add(run_id)

    def cut_short(self) -> None:
        """End the trials and jobs that still run, to be completed by a resumed study."""
        for (level, _), run_id in self._ids.items():
            if level != "study" and run_id not in self._ended:
                self.client.set_terminated(run_id, status="KILLED")
                self._ended.add(run_id)

    def log(
        self,
        run_id: str,
        *,
        metrics: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, params and tags in as few calls as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value, step in metrics]
        first = points[:BATCH]
        self.client.log_batch(
            run_id,
            metrics=first,
            params=[Param(k, v) for k, v in list(clip(params or {}, 6000).items())[:100]],
            tags=[RunTag(k, v) for k, v in clip(tags or {}).items()],
        )
        for start in range(BATCH, len(points), BATCH):
            self.client.log_batch(run_id, metrics=points[start : start + BATCH])
