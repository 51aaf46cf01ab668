"""``bmapest invert``: simulate one measurement, estimate the maps from it, score them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.output import print_json, stdout_to_stderr
from bmapest_ray.cli.scene import SceneOptions, output_folder
from bmapest_ray.cli.tables import plain_table

if TYPE_CHECKING:
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.result import JobResult
    from bmapest_ray.study.spec import JobSpec

SHOWN = ("psnr_db", "ssim", "dice", "soft_dice", "mae", "volume_error")


@dataclass(frozen=True)
class InvertOptions:
    """The options of ``bmapest invert`` by their names."""

    scene: SceneOptions
    signal: str
    solver: str
    start: str
    prior: str
    prior_settings: tuple[str, ...]
    posterior: bool
    out: Path | None
    json: bool
    parametrisation: str = "direct"


def invert_command(options: InvertOptions) -> None:
    """Run one inversion, write its maps and print its scores."""
    started = time.perf_counter()
    with stdout_to_stderr():
        told = _invert(options, started)
    if options.json:
        print_json(told)
    else:
        for line in _lines(told):
            typer.echo(line)


def _invert(options: InvertOptions, started: float) -> dict[str, Any]:
    from bmapest_ray.base.threads import available_cores, limit_threads

    limit_threads(1)
    from bmapest_ray.simulate.cache import default_directory
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.job import run_job
    from bmapest_ray.study.plan import one_job

    inversion = {
        "solver": options.solver,
        "start": options.start,
        "parametrisation": options.parametrisation,
        "prior": options.prior,
        "prior_settings": numbers(options.prior_settings),
    }
    spec = one_job(options.scene.study(signal=options.signal, inversion=inversion))
    folder = output_folder(options.out, f"invert-{spec.id[:8]}")
    cache = JobCache(folder=default_directory(), workers=available_cores())
    result = run_job(spec, cache)
    files = write_files(result, folder, spec.anatomy.subject, spec.protocol.name)
    judged, spread_files = _judged(options, spec, result, cache, folder)
    files |= spread_files
    told: dict[str, Any] = {
        "status": result.solver_status,
        "message": result.message,
        "seconds": result.seconds,
        "setup_seconds": result.setup_seconds,
        "total_seconds": time.perf_counter() - started,
        "iterations": result.iterations,
        **judged,
        "protocol": spec.protocol.name,
        "scan_time_s": result.scan_time_s,
        "data": dict(result.data),
        "scores": {tissue: dict(row) for tissue, row in result.scores.items()},
        "files": {name: str(path) for name, path in files.items()},
        "subject": spec.anatomy.subject,
        "slice": spec.anatomy.slice,
        "solver": asdict(spec.solve.solver),
        "start": spec.solve.start,
        "prior": spec.solve.prior,
        "prior_settings": dict(spec.solve.prior_settings),
        "digest": spec.id,
    }
    notes = [*undefined(told["scores"]), *told.pop("judgement_notes", ())]
    return told | ({"notes": notes} if notes else {})


def _judged(
    options: InvertOptions, spec: "JobSpec", result: "JobResult", cache: "JobCache", folder: Path
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Say whether the model explains the data; write standard deviations where asked for."""
    from bmapest_ray.anatomy.bids_io import write_maps
    from bmapest_ray.study.judgement import judge

    if not result.scores:
        return {"fit": None}, {}
    judged = judge(spec, result, cache, posterior=options.posterior)
    told: dict[str, Any] = {
        "fit": str(judged.verdict.fit),
        "fit_message": judged.verdict.message,
        "fit_statistics": judged.verdict.ratios,
    }
    if judged.note:
        told["judgement_notes"] = [judged.note]
    if judged.spread is None:
        return told, {}
    about = {
        "Quantity": "posterior standard deviation of the fraction, without constraints (Laplace)",
        "Units": "1",
        "Prior": spec.solve.prior,
        "Method": judged.spread.method,
        "RelativeError": judged.spread.relative_error,
    }
    paths = write_maps(
        judged.spread.std, result.affine, folder, spec.anatomy.subject, desc="std", meta=about
    )
    told["posterior"] = {"method": judged.spread.method, "error": judged.spread.relative_error}
    return told, dict(zip((f"std_{tissue}" for tissue in TISSUES), paths, strict=True))


def numbers(settings: Sequence[str]) -> dict[str, float | int]:
    """Read ``name=number`` pairs.

    Raises
    ------
    InvalidInput
        If one is no such pair.
    """
    read: dict[str, float | int] = {}
    for text in settings:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise InvalidInput(
                f"--prior-setting must look like strength=2, got '{text}'; correct it"
            ) from None
        read[name.strip()] = int(number) if number.is_integer() else number
    return read


def undefined(scores: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Say which scores have no finite value, and why."""
    return [
        f"scores.{tissue}.{name} is null: it is infinite or undefined for these maps"
        for tissue, row in scores.items()
        for name, value in row.items()
        if value is None
    ]


def write_files(result: "JobResult", folder: Path, subject: str, protocol: str) -> dict[str, Path]:
    """Write maps, truth and a picture of both; returns what is where."""
    from bmapest_ray.anatomy.bids_io import write_maps
    from bmapest_ray.figures.panel import draw_panel, truth_estimate_difference

    meta = {"Protocol": protocol, "JobDigest": result.id, "Status": result.solver_status}
    maps = write_maps(result.maps, result.affine, folder, subject, meta=meta)
    truth = write_maps(result.truth, result.affine, folder, subject, desc="truth")
    notes = [
        f"{tissue} {row['psnr_db']:.1f} dB"
        for tissue, row in result.scores.items()
        if row.get("psnr_db") is not None
    ]
    panel = folder / "panel.png"
    columns = truth_estimate_difference(result.truth, result.maps)
    draw_panel(columns, TISSUES, f"sub-{subject}  {protocol}", notes).save(panel)
    named = dict(zip(TISSUES, maps, strict=True))
    named |= dict(zip((f"truth_{tissue}" for tissue in TISSUES), truth, strict=True))
    return named | {"panel": panel}


def _lines(told: Mapping[str, Any]) -> list[str]:
    table = [["tissue", *SHOWN]]
    table += [
        [tissue, *(_number(row.get(name)) for name in SHOWN)]
        for tissue, row in told["scores"].items()
    ]
    return [
        f"{told['status']}: {told['message']}",
        f"{told['protocol']}: {told['scan_time_s']:.1f} s of scan time; "
        f"{told['data'].get('summary', '')}",
        f"fit: {told['fit'] or 'none'}" + (f" ({told['fit_message']})" if told["fit"] else ""),
        f"{told['iterations']} iterations, {told['seconds']:.2f} s "
        f"(setting up {told['setup_seconds']:.2f} s, in all {told['total_seconds']:.2f} s)",
        "",
        *(plain_table(table) if told["scores"] else ["no scores"]),
        "",
        f"maps:    {Path(told['files']['GM']).parent}",
        f"picture: {told['files']['panel']}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
