"""The commands and their options. Bodies import what they need, so that help stays instant."""

from pathlib import Path
from typing import Annotated

import typer

from bmapest_ray.cli.bench_command import bench_app
from bmapest_ray.cli.dashboards_command import dashboards_app
from bmapest_ray.cli.design_command import design_app
from bmapest_ray.cli.estimate_options import estimate
from bmapest_ray.cli.options import (
    AnatomyOption,
    CoilsOption,
    DataEngineOption,
    DataFieldOption,
    DataMatrixOption,
    DataMixingOption,
    DataTissueOption,
    FieldOption,
    FovOption,
    JsonOption,
    MatrixOption,
    MixingOption,
    OutOption,
    ProtocolOption,
    SeedOption,
    SliceOption,
    SnrOption,
    SubjectOption,
    TableOption,
)
from bmapest_ray.cli.paper_apps import fetch_app, reproduce_app
from bmapest_ray.cli.protocol_command import protocol_app
from bmapest_ray.cli.study_command import study_app
from bmapest_ray.cli.volume_options import volume

app = typer.Typer(
    name="bmapest",
    help="Brain tissue maps from a few MRI contrasts: solve, compare and choose protocols.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bench_app, name="bench")
app.add_typer(reproduce_app, name="reproduce")
app.add_typer(fetch_app, name="fetch")
app.add_typer(dashboards_app, name="dashboards")
app.add_typer(study_app, name="study")
app.add_typer(protocol_app, name="protocol")
app.add_typer(design_app, name="design")


def _version(wanted: bool) -> None:
    if wanted:
        from bmapest_ray import __version__

        typer.echo(f"bmapest {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Brain tissue maps from a few MRI contrasts: solve, compare and choose protocols."""


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study file, or a shipped study: quickstart.")],
    override: Annotated[
        list[str] | None,
        typer.Option("--override", "-o", help="key.sub=value over the study file; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; finished jobs stay.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: run failed jobs again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count jobs and trials; run nothing.")
    ] = False,
    runner: Annotated[str | None, typer.Option(help="local (in this process) or ray.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join, e.g. auto; none starts one here.")
    ] = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Run a study, to learn which protocol measures the tissues best."""
    from bmapest_ray.cli.run_command import RunOptions, run_study_command

    options = RunOptions(
        study, tuple(override or ()), resume, retry_failed, dry_run, runner, address, out, json
    )
    raise typer.Exit(run_study_command(options))


@app.command()
def invert(
    context: typer.Context,
    anatomy: AnatomyOption = "mni152",
    subject: SubjectOption = None,
    matrix: MatrixOption = 64,
    fov_mm: FovOption = 216.0,
    where: SliceOption = "below-top:75",
    protocol: ProtocolOption = "t1inv,t2prep",
    mixing: MixingOption = "compartments",
    signal: Annotated[str, typer.Option(help="What is fitted: magnitude|complex.")] = "magnitude",
    snr: SnrOption = None,
    solver: Annotated[str, typer.Option(help="gauss-newton|adam|...")] = "gauss-newton",
    start: Annotated[
        str,
        typer.Option(help="auto|cohort|uniform|ellipse|constant:VALUE|truth, or a folder of maps."),
    ] = "auto",
    prior: Annotated[
        str, typer.Option(help="none|cohort|tv|pca|neighbours|cohort+tv|pca+tv; needs --snr.")
    ] = "none",
    prior_setting: Annotated[
        list[str] | None,
        typer.Option(help="name=number of the prior, e.g. strength=2; repeatable."),
    ] = None,
    parametrisation: Annotated[
        str, typer.Option(help="Unknowns of the fit: direct|mixture-pixel|mixture-tissue|...")
    ] = "direct",
    preset: Annotated[
        str | None, typer.Option(help="Settings under the other options: paper (BMapEst), best.")
    ] = None,
    posterior: Annotated[
        bool, typer.Option("--posterior", help="Also write standard deviations; needs --snr.")
    ] = False,
    b0: FieldOption = "analytic",
    b1: FieldOption = "analytic",
    coils: CoilsOption = "1",
    seed: SeedOption = 0,
    data_engine: DataEngineOption = "auto",
    data_mixing: DataMixingOption = None,
    data_matrix: DataMatrixOption = None,
    data_tissue: DataTissueOption = None,
    data_b0: DataFieldOption = None,
    data_b1: DataFieldOption = None,
    tissue_table: TableOption = "paper-3t",
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Simulate one measurement of a known brain, estimate its maps from it, and score them."""
    from bmapest_ray.cli.invert_command import InvertOptions, invert_command
    from bmapest_ray.cli.scene import DataOptions, SceneOptions, options_given

    data = DataOptions(data_engine, data_mixing, data_matrix, data_tissue, data_b0, data_b1)
    scene = SceneOptions(
        anatomy, subject, matrix, fov_mm, where, protocol, mixing, snr, b0, b1, seed,
        tissue_table, data, preset, options_given(context), coils,
    )  # fmt: skip
    settings = tuple(prior_setting or ())
    invert_command(
        InvertOptions(
            scene, signal, solver, start, prior, settings, posterior, out, json, parametrisation
        )
    )


@app.command()
def simulate(
    context: typer.Context,
    anatomy: AnatomyOption = "mni152",
    subject: SubjectOption = None,
    matrix: MatrixOption = 64,
    fov_mm: FovOption = 216.0,
    where: SliceOption = "below-top:75",
    protocol: ProtocolOption = "t1inv,t2prep",
    mixing: MixingOption = "compartments",
    snr: SnrOption = None,
    b0: FieldOption = "analytic",
    b1: FieldOption = "analytic",
    coils: CoilsOption = "1",
    seed: SeedOption = 0,
    data_engine: DataEngineOption = "auto",
    data_mixing: DataMixingOption = None,
    data_matrix: DataMatrixOption = None,
    data_tissue: DataTissueOption = None,
    data_b0: DataFieldOption = None,
    data_b1: DataFieldOption = None,
    tissue_table: TableOption = "paper-3t",
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Write the k-space (npz) and the magnitude and phase images (NIfTI) of each contrast."""
    from bmapest_ray.cli.scene import DataOptions, SceneOptions, options_given
    from bmapest_ray.cli.simulate_command import simulate_command

    data = DataOptions(data_engine, data_mixing, data_matrix, data_tissue, data_b0, data_b1)
    scene = SceneOptions(
        anatomy, subject, matrix, fov_mm, where, protocol, mixing, snr, b0, b1, seed,
        tissue_table, data, asked=options_given(context), coils=coils,
    )  # fmt: skip
    simulate_command(scene, out, json)


app.command()(estimate)
app.command()(volume)


@app.command()
def ui(
    directory: Annotated[
        Path, typer.Argument(help="A study's folder, or a folder of studies (the newest).")
    ] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI of a study, for this machine alone."""
    from bmapest_ray.cli.ui_command import ui_command

    raise typer.Exit(ui_command(directory, port))


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="A study's folder.")],
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two protocols to compare by name.")
    ] = None,
    show: Annotated[
        int, typer.Option(help="Subjects to solve once more for uncertainty and calibration.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Write the report of a study: one HTML file that works offline, and a Markdown summary."""
    from bmapest_ray.cli.report_command import report_command

    report_command(directory, compare, show, json)


@app.command()
def submit(
    study: Annotated[str, typer.Argument(help="A study file, or a shipped study: quickstart.")],
    address: Annotated[
        str, typer.Option(help="The cluster's dashboard, at the end of a tunnel.")
    ] = "http://127.0.0.1:8265",
    override: Annotated[
        list[str] | None,
        typer.Option("--override", "-o", help="key.sub=value over the study file; repeatable."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="The study's folder on the cluster; ~/runs/NAME without.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; finished jobs stay.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    json: JsonOption = False,
) -> None:
    """Hand a study to a Ray cluster, with the cluster's token."""
    from pathlib import PurePosixPath

    from bmapest_ray.cli.submit_command import SubmitOptions, submit_command

    folder = None if out is None else PurePosixPath(out)
    options = SubmitOptions(study, address, tuple(override or ()), folder, resume, wait, json)
    raise typer.Exit(submit_command(options))


@app.command()
def doctor(
    accuracy: Annotated[
        str | None,
        typer.Option(help="A protocol: distance of its settings to ten times finer ones."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say which versions and devices are here, and what is missing."""
    from bmapest_ray.cli.doctor_command import accuracy_command, doctor_command

    if accuracy is not None:
        accuracy_command(accuracy, json)
        return
    raise typer.Exit(doctor_command(json))
