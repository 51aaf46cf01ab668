"""``bmapest protocol``: look at protocols, draw them, and exchange them as Pulseq files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.base.units import mm_to_m
from bmapest_ray.cli.options import JsonOption
from bmapest_ray.cli.output import print_json, stdout_to_stderr

if TYPE_CHECKING:
    from bmapest_ray.sequence.protocol import Contrast, Protocol

protocol_app = typer.Typer(
    help="Look at protocols, draw them, and exchange them as Pulseq files.", no_args_is_help=True
)

NameArgument = Annotated[
    str, typer.Argument(help="e.g. t1inv,t2prep[1], a preset's name, FILE.yaml or FILE.seq.")
]
FileArgument = Annotated[Path, typer.Argument(help="A Pulseq file, version 1.2 to 1.5.")]
MatrixOption = Annotated[int | None, typer.Option(help="Pixels along each side; even.")]
FovOption = Annotated[float | None, typer.Option(help="Field of view, pixel edge to pixel edge.")]


@protocol_app.command("list")
def list_protocols(
    matrix: Annotated[int, typer.Option(help="Pixels along each side; even.")] = 64,
    fov_mm: Annotated[float, typer.Option(help="Field of view.")] = 216.0,
    json: JsonOption = False,
) -> None:
    """List the shipped protocols with their images and scan times."""
    from bmapest_ray.cli.tables import plain_table
    from bmapest_ray.sequence.parse import preset_titles

    grid = (matrix, mm_to_m(fov_mm))
    found = [_listed(name, title, grid) for name, title in preset_titles().items()]
    if json:
        print_json({"matrix": grid[0], "fov_m": grid[1], "protocols": found})
        return
    rows = [
        [p["name"], str(p["images"] or "-"), _seconds(p["scan_time_s"]), p["refused"] or p["title"]]
        for p in found
    ]
    header = ["protocol", "images", "scan time", "what it is"]
    for line in plain_table([header, *rows], right=False):
        typer.echo(line)


def _listed(name: str, title: str, grid: tuple[int, float]) -> dict[str, Any]:
    """Return a row of the list; a protocol that the grid does not allow says why."""
    from bmapest_ray.sequence.overview import overview
    from bmapest_ray.sequence.parse import parse_protocol

    row: dict[str, Any] = {"name": name, "title": title, "images": None, "scan_time_s": None}
    try:
        measured = overview(parse_protocol(name), *grid)
    except InvalidInput as error:
        return {**row, "refused": str(error)}
    images = sum(len(one.images) for one in measured.contrasts)
    return {**row, "images": images, "scan_time_s": measured.scan_time_s, "refused": None}


def _seconds(time_s: float | None) -> str:
    return "-" if time_s is None else f"{time_s:.1f} s"


@protocol_app.command("show")
def show(
    name: NameArgument,
    matrix: MatrixOption = None,
    fov_mm: FovOption = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the protocol as YAML.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what a protocol plays: times, parameters, scan time, RF energy."""
    from bmapest_ray.cli.protocol_text import described, lines_of
    from bmapest_ray.sequence.overview import overview
    from bmapest_ray.sequence.parse import parse_protocol, preset_titles
    from bmapest_ray.sequence.protocol_file import to_yaml

    protocol = parse_protocol(name)
    if yaml:
        typer.echo(to_yaml(protocol), nl=False)
        return
    grid = _grid(protocol, matrix, fov_mm)
    measured = overview(protocol, *grid)
    told = described(protocol, preset_titles().get(name, ""), measured, grid)
    if json:
        print_json(told)
        return
    for line in lines_of(protocol, told, measured):
        typer.echo(line)


@protocol_app.command("plot")
def plot(
    name: NameArgument,
    contrast: Annotated[
        list[str] | None, typer.Option(help="Contrast to draw; repeatable, all without.")
    ] = None,
    matrix: MatrixOption = None,
    fov_mm: FovOption = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("runs/protocols"),
    json: JsonOption = False,
) -> None:
    """Draw sequence diagram and k-space: a PNG per contrast and one interactive HTML page."""
    from bmapest_ray.cli.protocol_view import plot_protocol
    from bmapest_ray.cli.scene import output_folder
    from bmapest_ray.sequence.parse import parse_protocol

    protocol = parse_protocol(name)
    chosen = _chosen(protocol, contrast or [])
    grid = _grid(protocol, matrix, fov_mm)
    paths = plot_protocol(protocol, chosen, grid, output_folder(out, ""))
    _tell([str(path) for path in paths], {"files": [str(path) for path in paths]}, json)


@protocol_app.command("export")
def export(
    name: NameArgument,
    seq: Annotated[Path, typer.Option(help="Folder of the .seq files, one per chain.")],
    matrix: MatrixOption = None,
    fov_mm: FovOption = None,
    json: JsonOption = False,
) -> None:
    """Write a protocol as Pulseq files that any Pulseq reader can play."""
    from bmapest_ray.cli.scene import output_folder
    from bmapest_ray.sequence.export import export_protocol
    from bmapest_ray.sequence.parse import parse_protocol

    protocol = parse_protocol(name)
    grid = _grid(protocol, matrix, fov_mm)
    paths = export_protocol(protocol, *grid, output_folder(seq, ""))
    _tell([str(path) for path in paths], {"files": [str(path) for path in paths]}, json)


@protocol_app.command("import")
def import_file(
    file: FileArgument,
    out: Annotated[
        Path | None, typer.Option(help="Protocol file to write; FILE.yaml in this folder without.")
    ] = None,
    matrix: MatrixOption = None,
    fov_mm: FovOption = None,
    json: JsonOption = False,
) -> None:
    """Turn a Pulseq file of any origin into a protocol that can be simulated and inverted."""
    from bmapest_ray.cli.protocol_check import check_protocol
    from bmapest_ray.sequence.parse import import_protocol
    from bmapest_ray.sequence.protocol_file import to_yaml
    from bmapest_ray.study.files import replace_text, writing

    protocol = import_protocol(file)
    grid = _grid(protocol, matrix, fov_mm)
    with stdout_to_stderr():
        found = check_protocol(protocol, *grid)
    target = out or Path(f"{file.stem}.yaml")
    with writing(target):
        replace_text(target, to_yaml(protocol))
    use = f"bmapest invert --protocol {target} --matrix {grid[0]} --fov-mm {1e3 * grid[1]:g}"
    told = {**found, "file": str(target), "use": use}
    _tell([*found["lines"], f"protocol: {target}", f"use it:   {use}"], told, json)


@protocol_app.command("check")
def check(
    name: NameArgument,
    scanner: Annotated[
        str | None, typer.Option(help="Scanner whose limits count; its own without.")
    ] = None,
    matrix: MatrixOption = None,
    fov_mm: FovOption = None,
    json: JsonOption = False,
) -> None:
    """Check timing, hardware limits and k-space of a protocol or of a Pulseq file."""
    from dataclasses import replace

    from bmapest_ray.cli.protocol_check import check_protocol
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.sequence.scanner import scanner_named

    protocol = parse_protocol(name)
    grid = _grid(protocol, matrix, fov_mm)
    if scanner is not None:
        protocol = replace(protocol, scanner=scanner_named(scanner))
    with stdout_to_stderr():
        found = check_protocol(protocol, *grid)
    _tell(found["lines"], found, json)


@protocol_app.command("sheet")
def sheet(
    matrix: Annotated[int, typer.Option(help="Pixels along each side; even.")] = 64,
    out: Annotated[Path, typer.Option(help="Folder of the picture and its table.")] = Path(
        "studies/results"
    ),
    json: JsonOption = False,
) -> None:
    """Draw every shipped contrast of one slice as a contact sheet, with a table of tissue means."""
    from bmapest_ray.base.threads import limit_threads
    from bmapest_ray.cli.contrast_sheet import write_contrast_sheet
    from bmapest_ray.cli.scene import output_folder

    limit_threads(1)
    with stdout_to_stderr():
        paths = [str(path) for path in write_contrast_sheet(output_folder(out, ""), matrix)]
    _tell(paths, {"files": paths}, json)


def _tell(lines: list[str], told: dict[str, Any], json: bool) -> None:
    if json:
        print_json({key: value for key, value in told.items() if key != "lines"})
        return
    for line in lines:
        typer.echo(line)


def _chosen(protocol: Protocol, names: list[str]) -> tuple[Contrast, ...]:
    known = {contrast.name: contrast for contrast in protocol.contrasts}
    picked = [require_choice("contrast", name, tuple(known)) for name in names]
    return tuple(known[name] for name in picked or known)


def _grid(protocol: Protocol, matrix: int | None, fov_mm: float | None) -> tuple[int, float]:
    """Return what was asked for, else the grid of an imported file, else 64 and 216 mm."""
    from bmapest_ray.sequence.file_grid import grid_of
    from bmapest_ray.sequence.imported import check_limits
    from bmapest_ray.sequence.seq_file import read_seq

    own: tuple[int, float] = (64, mm_to_m(216.0))
    parameters = dict(protocol.contrasts[0].parameters)
    if protocol.contrasts[0].sequence == "pulseq" and None in (matrix, fov_mm):
        seq = read_seq(Path(str(parameters["file"])), str(parameters["sha256"]))
        check_limits(seq, protocol.scanner)  # samples of what cannot be played mean nothing
        own = grid_of(seq)
    if fov_mm is not None and not fov_mm > 0:
        raise InvalidInput(f"--fov-mm must be positive, got {fov_mm:g}; give millimetres")
    return (
        own[0] if matrix is None else matrix,
        own[1] if fov_mm is None else mm_to_m(fov_mm),
    )
