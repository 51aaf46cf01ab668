"""``bmapest study``: what studies there are, how they stand, and what to do about one."""

from pathlib import Path
from typing import Annotated

import typer

from bmapest_ray.cli.options import JsonOption
from bmapest_ray.cli.output import print_json, stdout_to_stderr

study_app = typer.Typer(help="Look at studies, stop one, make its records again.")

FolderArgument = Annotated[Path, typer.Argument(help="A study's folder.")]


@study_app.command("list")
def list_studies(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """List the studies in a folder."""
    from bmapest_ray.cli.study_text import list_lines, overview_told

    with stdout_to_stderr():
        from bmapest_ray.study.overview import find_studies, overview

        found = [overview(path) for path in find_studies(folder)]
    if json:
        print_json({"studies": [overview_told(study) for study in found]})
        return
    for line in list_lines(found):
        typer.echo(line)


@study_app.command()
def status(directory: FolderArgument, json: JsonOption = False) -> None:
    """Say how a study stands: its driver, its jobs and trials by status."""
    from bmapest_ray.cli.study_text import overview_told, status_lines

    with stdout_to_stderr():
        from bmapest_ray.study.overview import overview

        found = overview(directory)
    if json:
        print_json(overview_told(found))
        return
    for line in status_lines(found):
        typer.echo(line)


@study_app.command()
def best(directory: FolderArgument, json: JsonOption = False) -> None:
    """Print the best configuration of each protocol so far."""
    from bmapest_ray.cli.study_text import best_lines, best_told

    with stdout_to_stderr():
        from bmapest_ray.study.overview import overview

        found = overview(directory)
    if json:
        print_json(best_told(found))
        return
    for line in best_lines(found):
        typer.echo(line)


@study_app.command()
def export(
    directory: FolderArgument,
    out: Annotated[Path, typer.Option(help="FILE.csv, FILE.parquet or FILE.json.")],
    json: JsonOption = False,
) -> None:
    """Write the results table, one row per job and tissue, for another program."""
    with stdout_to_stderr():
        from bmapest_ray.study.overview import export_table

        rows = export_table(directory, out)
    if json:
        print_json({"rows": rows, "file": str(out)})
        return
    typer.echo(f"{rows} rows: {out}")


@study_app.command()
def cancel(directory: FolderArgument, json: JsonOption = False) -> None:
    """Stop a running study in order, as Ctrl-C would; `bmapest run --resume` goes on with it."""
    with stdout_to_stderr():
        from bmapest_ray.study.overview import request_cancel

        asked = request_cancel(directory)
    if json:
        print_json({"cancelled": asked, "folder": str(directory)})
        return
    typer.echo("its drivers stop within seconds" if asked else "nobody works on it")


@study_app.command()
def plan(
    directory: Annotated[
        Path | None, typer.Argument(help="A study's folder: its spread over subjects is used.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two protocols of the study.")
    ] = None,
    difference: Annotated[
        float | None, typer.Option(help="Mean difference to show; the observed one without.")
    ] = None,
    sd: Annotated[
        float | None, typer.Option(help="Sd of paired differences over subjects, without a study.")
    ] = None,
    power: Annotated[float, typer.Option(help="Probability of showing it.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Two-sided level of the test.")] = 0.05,
    json: JsonOption = False,
) -> None:
    """Say how many subjects a paired comparison needs to show a difference."""
    from bmapest_ray.cli.study_plan import PlanOptions, plan_needed

    options = PlanOptions(directory, compare, difference, sd, power, alpha)
    with stdout_to_stderr():
        told = plan_needed(options)
    if json:
        print_json(told)
        return
    typer.echo(told["sentence"])


@study_app.command()
def rebuild(
    directory: FolderArgument,
    mlflow: Annotated[
        str | None, typer.Option(help="URI of a server; the study's own file without.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make MLflow's runs, Optuna's journal and the report again from a study's folder."""
    from bmapest_ray.cli.study_rebuild import rebuild_command

    rebuild_command(directory, mlflow, json)
