"""``bmapest design optimise``: runs a design study and writes the protocols it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from bmapest_ray.cli.output import print_json, stdout_to_stderr

if TYPE_CHECKING:
    from bmapest_ray.sequence.protocol import Protocol
    from bmapest_ray.study.design_config import DesignStudy


def optimise_command(path: Path, out: Path | None, runner: str | None, as_json: bool) -> None:
    """Run a design study, resumed where its folder holds finished jobs, and say what came out."""
    with stdout_to_stderr():
        told = run_design(path, out, runner)
    if as_json:
        print_json({"designs": told})
        return
    for one in told:
        deviations = "/".join(f"{value:.4f}" for value in one["std"])
        typer.echo(f"{one['budget_s']:g} s: {one['label']}, sd GM/WM/CSF {deviations}")
        typer.echo(f"  protocol: {one['files']['protocol']}")
        typer.echo(f"  sequence: {', '.join(one['files']['seq'])}")


def run_design(path: Path, out: Path | None, runner: str | None) -> list[dict[str, Any]]:
    """Run a design study and return its best designs with the files that hold them."""
    from bmapest_ray.base.threads import limit_threads
    from bmapest_ray.compute.factory import make_runner
    from bmapest_ray.design.job import WORK
    from bmapest_ray.study.design_config import load_design
    from bmapest_ray.study.design_run import run_design_study
    from bmapest_ray.tracking.factory import make_tracker

    limit_threads(1)
    study = load_design(path)
    if runner is not None:
        compute = study.compute.model_copy(update={"runner": runner})
        study = study.model_copy(update={"compute": compute})
    folder = Path("runs") / study.name if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    tracker = make_tracker(study.tracking)
    made = make_runner(study.compute, WORK, study=study.name)
    try:
        best = run_design_study(
            study, folder, made, tracker, lambda text: typer.echo(text, err=True)
        )
    finally:
        made.shutdown()
        if tracker is not None:
            tracker.close(60.0)
    return [{**one, "files": write_design(one, study, folder)} for one in best]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def write_design(one: dict[str, Any], study: DesignStudy, folder: Path) -> dict[str, Any]:
    """Write a design as YAML and .seq, which passes the timing check, and its report.

    Raises
    ------
    InvalidInput
        If pypulseq finds a time that breaks a raster.
    """
    from bmapest_ray.sequence.export import export_protocol
    from bmapest_ray.sequence.parse import parse_protocol

    name = f"{study.name}-{one['budget_s']:g}s"
    path = folder / f"{name}.yaml"
    content = yaml.safe_load(one["protocol"])
    content["title"] = f"{study.name}: designed for {one['budget_s']:g} s"
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    protocol = parse_protocol(str(path))
    fov_m = study.head.fov_mm * 1e-3
    paths = export_protocol(protocol, study.head.matrix, fov_m, folder / name)
    report = folder / f"{name}.md"
    report.write_text(_report(one, study, protocol), encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(one, indent=1) + "\n", encoding="utf-8")
    return {"protocol": str(path), "seq": [str(p) for p in paths], "report": str(report)}


def _report(one: dict[str, Any], study: DesignStudy, protocol: Protocol) -> str:
    """Say what changed from the first candidate to the design, in numbers."""
    before = study.protocol(study.candidates[0], None)
    rows = [f"| {name} | {value:.6g} |" for name, value in one["values"].items()]
    deviations = " / ".join(f"{value:.4f}" for value in one["std"])
    grid = (study.head.matrix, study.head.fov_mm * 1e-3)
    return "\n".join(
        [
            f"# {study.name}, {one['budget_s']:g} s",
            "",
            study.question,
            "",
            f"Candidate `{one['label']}`; scan time {one['scan_time_s']:.2f} s; predicted standard "
            f"deviation GM / WM / CSF {deviations}; RF energy {one['rf_energy_t2_s']:.3g} T2 s "
            f"({protocol.b1_rms_t(*grid) * 1e6:.3g} uT rms; the candidate before "
            f"{before.b1_rms_t(*grid) * 1e6:.3g} uT).",
            "",
            "| parameter | value |",
            "|---|---|",
            *rows,
            "",
        ]
    )
