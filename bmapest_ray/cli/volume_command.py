"""``bmapest volume``: every axial slice of a subject, simulated and inverted in one go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.output import print_json, stdout_to_stderr
from bmapest_ray.cli.scene import SceneOptions, output_folder


def volume_command(scene: SceneOptions, out: Path | None, json: bool) -> None:
    """Invert a volume, write its maps and print its scores."""
    started = time.perf_counter()
    with stdout_to_stderr():
        told = _volume(scene, out, started)
    if json:
        print_json(told)
        return
    scores = ", ".join(f"{t} {told['psnr_db'][t]:.1f}" for t in TISSUES)
    typer.echo(f"{told['slices']} slices, PSNR [dB] {scores}; data {told['data']}")
    typer.echo(
        f"set-up {told['setup_seconds']:.1f} s, all {told['seconds']:.1f} s; "
        f"not converged: {told['unfinished']}"
    )
    typer.echo(f"maps: {told['out']}")


def _volume(scene: SceneOptions, out: Path | None, started: float) -> dict[str, Any]:
    from bmapest_ray.base.threads import limit_threads

    limit_threads(1)
    from bmapest_ray.anatomy.bids_io import write_maps
    from bmapest_ray.anatomy.catalog import open_anatomy
    from bmapest_ray.anatomy.slices import extract_volume
    from bmapest_ray.simulate.cache import default_directory
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.plan import one_job
    from bmapest_ray.study.volume import invert_volume

    folder = output_folder(out, "volume")
    spec = one_job(scene.study())
    part = spec.anatomy
    cache = JobCache(folder=default_directory())
    volume = open_anatomy(part.source).volume(part.subject)
    slices = extract_volume(volume, part.matrix, part.fov_mm)
    typer.echo(f"{len(slices)} slices with tissue", err=True)
    built = cache.operator(
        spec.protocol, spec.model, slices[len(slices) // 2][1], part.matrix, part.fov_m
    )
    with _progress() as told:
        found = invert_volume(
            slices, built, snr=scene.snr, seed=scene.seed, solver=spec.solve.solver, told=told
        )
    data = "noise-free" if scene.snr is None else f"SNR {scene.snr:g}"
    summary = f"simulated with the model that is fitted, {data}"
    meta = {"Protocol": spec.protocol.name, "Data": summary}
    write_maps(found.maps, found.affine, folder, part.subject, meta=meta)
    write_maps(found.truth, found.affine, folder, part.subject, desc="truth", meta=meta)
    return {
        "out": str(folder),
        "slices": len(slices),
        "data": summary,
        "psnr_db": dict(zip(TISSUES, found.psnr_db, strict=True)),
        "unfinished": found.unfinished,
        "setup_seconds": cache.setup_seconds,
        "seconds": time.perf_counter() - started,
    }


def _progress() -> Any:  # noqa: ANN401 - a context manager of a callback
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def shown() -> Any:  # noqa: ANN401
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("slices", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    return shown()
