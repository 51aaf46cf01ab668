"""What a study gives MLflow beside numbers: its inputs, data sets, and how a fit went."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.records import JobRecord, StudyInfo
from bmapest_ray.study.showcase import Shown, std_files
from bmapest_ray.tracking.environment import environment, requirements
from bmapest_ray.tracking.mlflow_text import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

SHORT = 16
"""Digits of a digest that MLflow's column of data sets has room for."""


def log_inputs(client: "MlflowClient", run: str, study: StudyInfo) -> None:
    """Keep what a study was made of and where it ran, and name its data sets."""
    client.log_dict(run, dict(study.config), "study.yaml")
    client.log_dict(run, dict(study.runner), "runner.yaml")
    client.log_dict(run, dict(environment()), "environment.yaml")
    client.log_text(run, requirements(), "requirements.txt")
    versions = study.directory / "study.json"
    if versions.is_file():
        client.log_artifact(run, str(versions))
    for protocol in study.protocols:
        client.log_text(run, protocol.yaml, f"protocols/{folder_name(protocol.label)}.yaml")
    client.log_inputs(run, datasets=datasets(study.config, study.digests))


def folder_name(label: str) -> str:
    """Return a protocol's name as that of a folder."""
    return allowed_name(label).replace("/", "_").replace(" ", "_")


def datasets(
    config: Mapping[str, object], digests: Mapping[str, str], label: str | None = None
) -> "list[DatasetInput]":
    """Return anatomies and protocols as data sets; only that called `label` where it is given."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    anatomy = config.get("anatomy")
    source = str(anatomy.get("source", "")) if isinstance(anatomy, Mapping) else ""
    found = []
    for name, digest in digests.items():
        kind, _, which = name.partition("/")
        if kind not in ("anatomy", "protocol") or label not in (None, which):
            continue
        where = {"kind": kind, "name": which, "source": source if kind == "anatomy" else which}
        dataset = Dataset(
            name=f"{kind} {which}",
            digest=digest[:SHORT],
            source_type=kind,
            source=json.dumps(where),
            profile=json.dumps({"sha256": digest}),
        )
        found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", kind)]))
    return found


def log_maps(client: "MlflowClient", run: str, job: JobRecord, directory: Path) -> None:
    """Keep the NIfTI files of a job's maps."""
    for tissue in TISSUES:
        if tissue in job.files:
            client.log_artifact(run, str(directory / job.files[tissue]), "maps")


def log_shown(
    client: "MlflowClient", run: str, shown: Shown, job: JobRecord, directory: Path
) -> None:
    """Keep how the fit of a job went: maps over iterations, deviations, a viewer's page."""
    from bmapest_ray.figures.job_panel import SMALL, read_maps
    from bmapest_ray.figures.palette import DEVIATION_MAP
    from bmapest_ray.figures.panel import Column, draw_panel, truth_estimate_difference

    truth = read_maps(job, directory, "truth_")
    if truth is None:
        return
    title = f"sub-{job.subject}  {job.slice}  {job.protocol}"
    for iteration, frame in zip(shown.iterations, shown.frames, strict=True):
        columns = truth_estimate_difference(truth, frame)
        panel = draw_panel(columns, TISSUES, f"{title}  iteration {iteration}", tile=SMALL)
        client.log_image(run, panel, key="iterations", step=iteration)
    if shown.std is not None:
        window = (0.0, max(float(shown.std.max()), 1e-6))
        columns = [
            *truth_estimate_difference(truth, shown.frames[-1]),
            Column("standard deviation", shown.std, DEVIATION_MAP, window),
        ]
        client.log_image(
            run, draw_panel(columns, TISSUES, title, tile=SMALL), artifact_file="deviations.png"
        )
    for path in std_files(directory, job):
        client.log_artifact(run, str(path), "maps")
