"""Options of ``bmapest estimate``."""

from pathlib import Path
from typing import Annotated

import typer


def estimate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="As a BIDS App: BIDS_DIR OUT_DIR participant; or give --image."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="FILE=PROTOCOL of a magnitude image; repeatable. See the README."),
    ] = None,
    phase: Annotated[
        list[str] | None,
        typer.Option(help="FILE=PROTOCOL of the phase of that protocol's image; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    cohort: Annotated[
        str | None, typer.Option(help="Prior from known brains: bids:DIR; none without.")
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Subject of the cohort that is the scanned one.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Brain mask, NIfTI.")] = None,
    b1: Annotated[Path | None, typer.Option(help="Relative B1 map, NIfTI.")] = None,
    tissue_table: Annotated[str, typer.Option(help="paper-3t or FILE.yaml.")] = "paper-3t",
    subject: Annotated[str, typer.Option(help="Label of the results: letters, digits.")] = "scan",
    fix: Annotated[
        list[str] | None,
        typer.Option(help="Nuisance to keep: scale|bias|offset|t1|t2|pd|b1; repeatable."),
    ] = None,
    spread: Annotated[
        list[str] | None, typer.Option(help="nuisance=sd before the scan; repeatable.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="coupling|sweeps|floor|lines|sample|block=number; repeatable."),
    ] = None,
    participant_label: Annotated[
        list[str] | None, typer.Option(help="Participant of a BIDS dataset; repeatable.")
    ] = None,
    protocol: Annotated[
        Path | None, typer.Option(help="YAML of a BIDS run: which sequence made which suffix.")
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(help="Rigidly: images (on the first), cohort (the scan on it) or both."),
    ] = None,
    runner: Annotated[str, typer.Option(help="local (in this process) or ray.")] = "local",
    keep_work: Annotated[
        bool, typer.Option("--keep-work", help="Keep what a rerun could go on from.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Estimate tissue maps from measured images; started again, it goes on where it stopped."""
    from bmapest_ray.cli.estimate_command import EstimateOptions, estimate_command

    estimate_command(
        EstimateOptions(
            tuple(arguments or ()), tuple(image or ()), tuple(phase or ()), out, cohort,
            without, mask, b1, tissue_table, subject, tuple(fix or ()), tuple(spread or ()),
            tuple(setting or ()),
            tuple(participant_label or ()), protocol, register, runner, keep_work, json,
        )
    )  # fmt: skip
