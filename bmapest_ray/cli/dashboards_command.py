"""``bmapest dashboards``: dashboards for the Grafana and the Prometheus of a Ray cluster."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from bmapest_ray.base.errors import MissingInput
from bmapest_ray.cli.output import print_json

dashboards_app = typer.Typer(help="Dashboards for a Ray cluster's Grafana.", no_args_is_help=True)

VARIABLE = "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"
"""Where Ray's Grafana reads dashboards, if the user says so."""
USUAL = Path("/tmp/ray/session_latest/metrics/grafana/dashboards")  # noqa: S108 - Ray's own choice


@dashboards_app.callback()
def _group() -> None:
    """Dashboards for a Ray cluster's Grafana."""


@dashboards_app.command("install")
def install(
    to: Annotated[
        Path | None, typer.Option(help="Folder; without, where Ray's Grafana looks.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Put the dashboards where the Grafana of this machine's Ray looks."""
    folder = to or grafana_folder()
    folder.mkdir(parents=True, exist_ok=True)
    source = dashboards_folder()
    paths = [
        Path(shutil.copy(path, folder / path.name))
        for path in sorted((source / "grafana").glob("*.json"))
    ]
    if json:
        print_json({"files": [str(path) for path in paths], "prometheus": str(_settings(source))})
        return
    for path in paths:
        typer.echo(f"dashboard: {path}")
    typer.echo(f"Prometheus: prometheus --config.file={_settings(source)} "
               "--web.listen-address=127.0.0.1:9090")  # fmt: skip


def dashboards_folder() -> Path:
    """Return the folder of the dashboards that come with the package (a wheel or a checkout)."""
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "_dashboards"
    return in_wheel if in_wheel.is_dir() else package.parent / "dashboards"


def grafana_folder() -> Path:
    """Return where the Grafana of a Ray that runs here reads its dashboards.

    Raises
    ------
    MissingInput
        No Ray with its dashboard has run here.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    if not USUAL.is_dir():
        raise MissingInput(
            f"dashboards go where a Ray that runs here has its Grafana files, {USUAL} is not "
            "there; run 'ray start --head' first or name a folder with --to"
        )
    return USUAL


def _settings(source: Path) -> Path:
    return source / "prometheus.yml"
