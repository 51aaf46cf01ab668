"""``bmapest ui``."""

from pathlib import Path

import typer

from bmapest_ray.tracking.mlflow_ui import find_store, links, serve


def ui_command(directory: Path, port: int) -> int:
    """Serve the MLflow UI of a study until Ctrl-C."""
    store = find_store(directory)
    typer.echo(f"MLflow UI of {store}; Ctrl-C stops it. In half a minute, open")
    for what, address in links(store, port).items():
        typer.echo(f"  {what + ':':11}{address}")
    return serve(store, port)
