"""``bmapest reproduce`` and ``bmapest fetch``: their options."""

from pathlib import Path
from typing import Annotated

import typer

from bmapest_ray.cli.options import JsonOption

reproduce_app = typer.Typer(help="Run published experiments beside this package and baselines.")
fetch_app = typer.Typer(help="Download public data, politely, once.")


@reproduce_app.callback()
def _reproduce() -> None:
    """Run published experiments beside this package and baselines."""


@reproduce_app.command("paper")
def paper(
    anatomy: Annotated[str, typer.Option(help="bids:DIR or brainweb:DIR.")] = "brainweb:brainweb",
    subjects: Annotated[
        str, typer.Option(help="e.g. 20,38; by default all that may be reported.")
    ] = "",
    experiments: Annotated[
        str, typer.Option(help="e.g. t1inv-single,sequences-2; by default all thirteen.")
    ] = "",
    methods: Annotated[
        str,
        typer.Option(
            help="Some of paper (as published: slow), paper-19 (one subject, from 19 brains as "
            "in the paper's own run), best, baselines, unet."
        ),
    ] = "paper,paper-19,best,baselines,unet",
    quick: Annotated[
        bool, typer.Option("--quick", help="Two subjects, three experiments.")
    ] = False,
    runner: Annotated[str, typer.Option(help="ray, or local (in this process).")] = "ray",
    address: Annotated[str | None, typer.Option(help="Ray cluster to join, e.g. auto.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Only write the tables of this parquet file.")
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(help="Parquet file of another run: what is not run here stays as it is."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder; what is finished there is kept.")] = Path(
        "runs/paper"
    ),
    json: JsonOption = False,
) -> None:
    """Run the experiments of BMapEst and write their tables; running it again goes on."""
    from bmapest_ray.cli.reproduce_command import ReproduceOptions, reproduce_command

    reproduce_command(
        ReproduceOptions(
            anatomy,
            subjects,
            experiments,
            methods,
            quick,
            runner,
            address,
            table,
            earlier,
            out,
            json,
        )
    )


@fetch_app.callback()
def _fetch() -> None:
    """Download public data, politely, once."""


@fetch_app.command("brainweb")
def brainweb(
    subjects: Annotated[str, typer.Option(help="e.g. 04,42; by default all twenty.")] = "",
    out: Annotated[Path, typer.Option(help="Folder that brainweb:DIR then opens.")] = Path(
        "brainweb"
    ),
    models: Annotated[
        str, typer.Option(help="crisp (4 MB a subject) or fuzzy (four files a subject).")
    ] = "crisp",
    url: Annotated[str, typer.Option(help="Another server with BrainWeb's form.")] = "",
    json: JsonOption = False,
) -> None:
    """Download BrainWeb's brains; a stopped download goes on, what is there is checked and kept."""
    from bmapest_ray.cli.fetch_command import fetch_command

    fetch_command(subjects, out, models, url, json)
