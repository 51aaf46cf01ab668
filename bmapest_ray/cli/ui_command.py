"""``bmapest ui``."""

from pathlib import Path

import typer

from bmapest_ray.tracking.mlflow_ui import LOOPBACK, find_store, serve


def ui_command(directory: Path, port: int) -> int:
    """Serve the MLflow UI of a study until Ctrl-C."""
    store = find_store(directory)
    typer.echo(f"MLflow UI of {store}: http://{LOOPBACK}:{port}   (Ctrl-C stops it)")
    return serve(store, port)
