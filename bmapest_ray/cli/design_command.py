"""``bmapest design``: what a protocol promises, and which is best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bmapest_ray.cli.options import JsonOption
from bmapest_ray.cli.output import print_json, stdout_to_stderr

if TYPE_CHECKING:
    from bmapest_ray.design.score import ProtocolScore
    from bmapest_ray.design.setting import DesignSetting

design_app = typer.Typer(help="Predict, choose and optimise protocols.", no_args_is_help=True)

AnatomyOption = Annotated[str, typer.Option(help="mni152, or bids:DIR of probability maps.")]
SubjectOption = Annotated[str | None, typer.Option(help="Subject; the first one without.")]
MatrixOption = Annotated[int, typer.Option(help="Pixels along each side of the slice; even.")]
FieldOption = Annotated[str, typer.Option(help="none|analytic|FILE.nii.gz")]
SnrOption = Annotated[float, typer.Option(help="SNR of the reference contrast.")]
ReferenceOption = Annotated[str, typer.Option(help="Contrast that fixes the noise level.")]
SignalOption = Annotated[str, typer.Option(help="Kind of data: complex|magnitude.")]
VoxelsOption = Annotated[int, typer.Option(help="Voxels that stand for the head.")]
NuisanceOption = Annotated[
    list[str] | None,
    typer.Option(help="Unknown per voxel with its prior sd: b1=0.1, t1=0.05, phase=inf, ..."),
]


@design_app.command("score")
def score(
    protocols: Annotated[list[str], typer.Argument(help="Presets, expressions or YAML files.")],
    anatomy: AnatomyOption = "mni152",
    subject: SubjectOption = None,
    matrix: MatrixOption = 64,
    b0: FieldOption = "analytic",
    b1: FieldOption = "analytic",
    snr: SnrOption = 100.0,
    reference: ReferenceOption = "t1inv[3]",
    signal: SignalOption = "complex",
    nuisance: NuisanceOption = None,
    voxels: VoxelsOption = 12,
    json: JsonOption = False,
) -> None:
    """Predict the standard deviation of every tissue, and per square root of scan time."""
    with stdout_to_stderr():
        from bmapest_ray.base.threads import limit_threads
        from bmapest_ray.design.score import score_protocol
        from bmapest_ray.sequence.parse import parse_protocol

        limit_threads(1)
        parsed = [parse_protocol(text) for text in protocols]
        setting = design_setting(
            anatomy, subject, matrix, b0, b1, snr, reference, signal, nuisance or [], voxels
        )
        scores = [score_protocol(protocol, setting) for protocol in parsed]
    if json:
        print_json({"protocols": [_described(one) for one in scores], "signal": signal, "snr": snr})
        return
    _print(scores)


@design_app.command("optimise")
def optimise(
    study: Annotated[Path, typer.Argument(help="A design study (kind: design).")],
    out: Annotated[Path | None, typer.Option(help="Folder of the designs; resumed.")] = None,
    runner: Annotated[str | None, typer.Option(help="local (in this process) or ray.")] = None,
    json: JsonOption = False,
) -> None:
    """Optimise timings and flip angles by gradients, what is played by search."""
    from bmapest_ray.cli.design_optimise import optimise_command

    optimise_command(study, out, runner, json)


@design_app.command("select")
def select(
    catalogue: Annotated[str, typer.Argument(help="Protocol whose contrasts may be played.")],
    scan_time_s: Annotated[float, typer.Option("--scan-time-s", help="Budget, pauses included.")],
    anatomy: AnatomyOption = "mni152",
    subject: SubjectOption = None,
    matrix: MatrixOption = 64,
    b0: FieldOption = "analytic",
    b1: FieldOption = "analytic",
    snr: SnrOption = 100.0,
    reference: ReferenceOption = "t1inv[3]",
    signal: SignalOption = "complex",
    continuous: Annotated[
        bool, typer.Option("--continuous", help="Also score the choice as one steady chain.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Choose the contrasts that measure best within a scan time."""
    with stdout_to_stderr():
        from bmapest_ray.base.threads import limit_threads
        from bmapest_ray.cli.design_select import choose

        limit_threads(1)
        setting = design_setting(
            anatomy, subject, matrix, b0, b1, snr, reference, signal, [], voxels=2
        )
        found = choose(catalogue, scan_time_s, setting, continuous=continuous)
    if json:
        print_json(found)
        return
    for name in ("chosen", "method", "tried", "seconds", "std", "bound_std", "continuous"):
        if found.get(name) is not None:
            typer.echo(f"{name}: {found[name]}")


@design_app.command("table")
def table(
    anatomy: Annotated[str, typer.Option(help="bids:DIR of the BrainWeb maps.")],
    splits: Annotated[Path, typer.Option(help="Named subjects.")] = Path("studies/splits.yaml"),
    out: Annotated[Path, typer.Option(help="Folder of the table; resumed.")] = Path(
        "studies/results"
    ),
    design: Annotated[
        list[Path] | None, typer.Option(help="Designed protocols to confirm; repeatable.")
    ] = None,
) -> None:
    """Hold predictions, choices and designs against inversions with noise; write design.md."""
    from bmapest_ray.base.threads import limit_threads
    from bmapest_ray.cli.design_table import write_design_table

    limit_threads(1)
    with stdout_to_stderr():
        write_design_table(anatomy, splits, out, design or [])
    typer.echo(f"table: {out / 'design.md'}")


@design_app.command("report")
def report(
    after: Annotated[str, typer.Argument(help="The designed protocol: a YAML file or a name.")],
    anatomy: Annotated[str, typer.Option(help="bids:DIR of the BrainWeb maps.")],
    before: Annotated[str, typer.Option(help="The protocol it is held against.")] = "paper",
    splits: Annotated[Path, typer.Option(help="Named subjects.")] = Path("studies/splits.yaml"),
    subjects: Annotated[int, typer.Option(help="How many of the report subjects.")] = 3,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("runs/design.html"),
) -> None:
    """Write one page of a protocol before and after: parameters, errors, maps, diagrams."""
    from bmapest_ray.base.threads import limit_threads

    limit_threads(1)
    with stdout_to_stderr():
        from bmapest_ray.cli.design_report import write_design_report
        from bmapest_ray.cli.inversion_table import report_subjects

        chosen = tuple(report_subjects(splits)[: max(1, subjects)])
        write_design_report((before, after), anatomy, chosen, out)
    typer.echo(f"report: {out}")


def design_setting(
    anatomy: str,
    subject: str | None,
    matrix: int,
    b0: str,
    b1: str,
    snr: float,
    reference: str,
    signal: str,
    nuisance: list[str],
    voxels: int,
) -> DesignSetting:
    """Return the setting that the options describe.

    Raises
    ------
    InvalidInput
        If an option breaks a rule.
    """
    from dataclasses import replace

    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec
    from bmapest_ray.base.errors import require_choice
    from bmapest_ray.design.context import make_setting
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.simulate.measurement import Signal
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

    kind = Signal(require_choice("--signal", signal, [s.value for s in Signal]))
    known = open_anatomy(anatomy)
    where = SliceSpec.parse("below-top:75")
    maps = load_slice(known, subject or known.subjects[0], where, matrix=matrix)
    setting = make_setting(
        maps,
        make_fields(b0, b1, maps),
        PAPER_3T,
        snr=snr,
        reference=parse_protocol(reference),
        voxels=voxels,
        cache=FactorCache(default_directory()),
    )
    return replace(setting, signal=kind, nuisances=parse_nuisances(nuisance))


def parse_nuisances(texts: list[str]) -> dict[str, float]:
    """Return ``name=sd`` texts as a mapping.

    Raises
    ------
    InvalidInput
        If a text reads otherwise.
    """
    from bmapest_ray.base.errors import InvalidInput

    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            msg = f"a nuisance must read like b1=0.1 or phase=inf, got '{text}'; correct it"
            raise InvalidInput(msg) from error
    return found


def _described(one: ProtocolScore) -> dict[str, Any]:
    from bmapest_ray.base.tissues import TISSUES

    def by_tissue(values: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(TISSUES, values, strict=True))

    return {
        "protocol": one.name,
        "images": one.images,
        "scan_time_s": one.scan_time_s,
        "rf_energy_t2_s": one.rf_energy_t2_s,
        "std": by_tissue(one.std),
        "worst_std": by_tissue(one.worst_std),
        "std_root_s": by_tissue(one.std_root_s),
        "mean_variance": one.mean_variance,
    }


def _print(scores: list[ProtocolScore]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("sd GM", "sd WM", "sd CSF", "worst", "GM √s", "WM √s", "CSF √s")
    table = Table("protocol", "images", "scan s", *columns, title="predicted sd of the fractions")
    for one in scores:
        values = (*one.std, max(one.worst_std), *one.std_root_s)
        numbers = [f"{value:.4f}" for value in values]
        table.add_row(one.name, str(one.images), f"{one.scan_time_s:.1f}", *numbers)
    Console(width=110).print(table)
    typer.echo("sd: root mean variance over the head; √s: after one second of scanning")
